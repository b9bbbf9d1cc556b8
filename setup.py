"""Builds qlm/_core, the one C module. Everything else stands in pyproject.toml."""

import os
from concurrent.futures import ThreadPoolExecutor
from glob import glob

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CFLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]


class BuildOnAllCores(build_ext):
    """setuptools compiles the files of a module one after the other; the kernels alone take a core half a minute."""

    def build_extensions(self):
        one_after_the_other = self.compiler.compile

        def compile_all(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: one_after_the_other([source], **options), sources)
                return [each for part in objects for each in part]

        self.compiler.compile = compile_all
        super().build_extensions()


setup(
    cmdclass={"build_ext": BuildOnAllCores},
    ext_modules=[
        Extension(
            "qlm._core",
            sources=sorted(glob("csrc/*.c") + glob("csrc/kernels/*.c") + glob("csrc/python/*.c")),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("_GNU_SOURCE", "1")],
            extra_compile_args=CFLAGS,
            extra_link_args=["-pthread", "-lm"],
        )
    ],
)

"""Builds qlm/_core, the one C module. Everything else stands in pyproject.toml."""

from glob import glob

import numpy
from setuptools import Extension, setup

CFLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]

setup(
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
    ]
)

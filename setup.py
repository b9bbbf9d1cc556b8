"""Builds qlm/_core, the one C module. Everything else stands in pyproject.toml."""

import hashlib
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# -g1, line tables alone: Python's own -g follows variables through unrolled tiles, more than half of gcc's time.
CFLAGS = ["-std=c11", "-O3", "-g1", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))


class BuildOnAllCores(build_ext):
    """setuptools compiles the files of a module one after the other, and all of them each time; the kernels alone take
    a core a minute. Objects are kept in build/objects for what has the same compiler, flags, Python and NumPy."""

    def build_extensions(self):
        compile_some = self.compiler.compile

        def compile_all(sources, output_dir=None, **options):
            key = repr([self.compiler.compiler_so, options.get("macros"), options.get("extra_postargs")])
            key += f"{sys.version} {platform.machine()} {numpy.__version__}"
            folder = Path("build", "objects", hashlib.sha256(key.encode()).hexdigest()[:16])

            def compile_one(source):
                kept = folder / Path(source).with_suffix(".o")
                if self.force or is_older(kept, [source, *HEADERS]):
                    (made,) = compile_some([source], output_dir=str(folder / f"made-by-{os.getpid()}"), **options)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(made, kept)
                return str(kept)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(compile_one, sources))

        self.compiler.compile = compile_all
        super().build_extensions()


def is_older(target, sources):
    return not target.exists() or target.stat().st_mtime < max(os.stat(source).st_mtime for source in sources)


setup(
    cmdclass={"build_ext": BuildOnAllCores},
    ext_modules=[
        Extension(
            "qlm._core",
            # What takes longest first, so that it is not left alone in the end.
            sources=sorted(
                glob("csrc/*.c") + glob("csrc/kernels/*.c") + glob("csrc/python/*.c"),
                key=lambda path: ("/gemm_" not in path, path),
            ),
            depends=HEADERS,
            include_dirs=["csrc", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("_GNU_SOURCE", "1")],
            extra_compile_args=CFLAGS,
            extra_link_args=["-pthread", "-lm"],
        )
    ],
)

"""qlm: quantize, run and judge language models on a CPU."""

from ._version import __version__
from .errors import FormatError, UnsupportedError

__all__ = ["FormatError", "UnsupportedError", "__version__"]

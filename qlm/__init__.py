"""qlm: quantize, run and judge language models on a CPU.

Arrays need NumPy alone.  `import qlm` loads the C core; a module of Python is loaded when one of its names is first
used, so that programs start as fast as with NumPy alone.
"""

from __future__ import annotations

from ._start import end_command, not_built

try:  # before all others, so that most of a start's time is in here
    import numpy  # noqa: F401 - the C core's own import of it would turn a Ctrl-C into an ImportError

    from ._core import cpu_info, get_num_threads, set_num_threads
except (ImportError, KeyboardInterrupt) as error:
    told = not_built(error)
    end_command(told or error)
    if told:
        raise told from error
    raise

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from . import observers, testing
    from .comparison import compare
    from .formats.tensors import save_tensors, tensors
    from .matrices import matmul
    from .models import Model
    from .ops import (
        dequantize,
        estimate_range,
        fake_quantize,
        fake_quantize_backward,
        quantize,
        quantize_dynamic,
    )
    from .products import PackedWeight, linear, pack
    from .qparams import choose_qparams
    from .qtensor import ErrorStats, QTensor
    from .recipe import Recipe
    from .report import Comparison, Report
    from .scheme import Scheme
    from .workflow import load, quantize_model

__all__ = [
    "Comparison",
    "ErrorStats",
    "FormatError",
    "Model",
    "PackedWeight",
    "QTensor",
    "Recipe",
    "Report",
    "Scheme",
    "UnsupportedError",
    "__version__",
    "choose_qparams",
    "compare",
    "cpu_info",
    "dequantize",
    "estimate_range",
    "fake_quantize",
    "fake_quantize_backward",
    "get_num_threads",
    "linear",
    "load",
    "matmul",
    "observers",
    "pack",
    "quantize",
    "quantize_dynamic",
    "quantize_model",
    "save_tensors",
    "set_num_threads",
    "tensors",
    "testing",
]

_HOMES = {
    "comparison": ("compare",),
    "formats.tensors": ("save_tensors", "tensors"),
    "matrices": ("matmul",),
    "models": ("Model",),
    "ops": (
        "dequantize",
        "estimate_range",
        "fake_quantize",
        "fake_quantize_backward",
        "quantize",
        "quantize_dynamic",
    ),
    "products": ("PackedWeight", "linear", "pack"),
    "qparams": ("choose_qparams",),
    "qtensor": ("ErrorStats", "QTensor"),
    "recipe": ("Recipe",),
    "report": ("Comparison", "Report"),
    "scheme": ("Scheme",),
    "workflow": ("load", "quantize_model"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = frozenset({"observers", "testing"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""qlm: quantize, run and judge language models on a CPU.

Arrays need NumPy alone; models are loaded when one of their names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import observers
from ._core import cpu_info, get_num_threads, set_num_threads
from ._version import __version__
from .errors import FormatError, UnsupportedError
from .ops import (
    choose_qparams,
    dequantize,
    estimate_range,
    fake_quantize,
    fake_quantize_backward,
    quantize,
    quantize_dynamic,
)
from .products import PackedWeight, linear, matmul, pack
from .qtensor import ErrorStats, QTensor

if TYPE_CHECKING:
    from . import testing
    from .comparison import compare
    from .formats.tensors import save_tensors, tensors
    from .models import Model
    from .recipe import Recipe
    from .report import Comparison, Report
    from .scheme import Scheme
    from .workflow import load, quantize_model

# Where names live that `import qlm` does not load; None: a module of qlm.
_LAZY: dict[str, str | None] = {
    "Comparison": "report",
    "Model": "models",
    "Recipe": "recipe",
    "Report": "report",
    "Scheme": "scheme",
    "compare": "comparison",
    "load": "workflow",
    "quantize_model": "workflow",
    "save_tensors": "formats.tensors",
    "tensors": "formats.tensors",
    "testing": None,
}

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


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _LAZY[name]
    module = import_module(f".{home or name}", __name__)
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The C core.  Arrays are NumPy arrays, C-contiguous, aligned and native; callers convert before.

TypeError names an argument of a wrong type, ValueError one of a wrong value or shape.  `out` must have exactly the
result's type and shape.  dtype words are "int8", "uint8", "int16", "uint16", "int4" and "uint4"; codes are arrays of
int8, uint8, int16 or uint16 (4-bit codes take a byte).  A layout is (outer, channels, inner, group): with group 0
parameter c belongs to x.reshape(outer, channels, inner)[:, c]; else outer is 1 and each of `channels` rows is cut into
groups of `group` elements, the last may be short, parameter row * groups + g.
Long calls run in slices without the GIL and hear Ctrl-C.
"""

from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, final, overload

import numpy as np
import numpy.typing as npt

from .dtypes import QType

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
U8: TypeAlias = npt.NDArray[np.uint8]
Codes: TypeAlias = npt.NDArray[Any]
Layout: TypeAlias = tuple[int, int, int, int]

class CpuInfo(TypedDict):
    isa: str
    isas: list[str]
    compiled: list[str]
    features: list[str]

class NonFinite(ValueError):
    """A NaN or an infinity where values must be finite."""

    index: int
    """Its flat index, also args[0]."""

# ---- process ----

def cpu_info() -> CpuInfo: ...
def set_num_threads(n: int, /) -> None:
    """Threads that a call uses at most, its own included: 1 to 1024."""

def get_num_threads() -> int: ...
def interrupt_calls() -> None:
    """Ends the long calls that run now on any thread, each with a KeyboardInterrupt."""

# ---- parameters ----

def choose_qparams(min: F32, max: F32, dtype: str, symmetric: bool) -> tuple[F32, I32]:
    """(scale, zero), each [n], for n finite ranges."""

def interval_params(min: F32, max: F32, dtype: str) -> tuple[F32, F32, U8]:
    """(scale, offset, constant), each [n]; ValueError where a midpoint overflows, with the index."""

def first_bad(x: F32, scale: bool = False) -> int:
    """Flat index of the first value that is not finite (scale: nor > 0 with a finite inverse); -1: there is none."""

def round_up_half(scale: F32, /) -> F32:
    """Each scale rounded up to a float16, [n]; inf past 65504."""

def smoothquant_scales(act: F32, w: F32, alpha: float) -> F32:
    """act**alpha / w**(1 - alpha), both floored at 1e-5, [n]; alpha within 0..1."""

# ---- arrays ----

def range(x: F32, layout: Layout) -> tuple[F32, F32, int]:
    """(min, max, bad): of the finite values, each [params], 0 and 0 where there is none; bad: the flat index of the
    first value that is not finite, or -1."""

def quantize(x: F32, layout: Layout, dtype: str, lo: int, hi: int, scale: F32, zero: I32 | None, out: Codes) -> int:
    """clamp(rint(x / scale) + zero, lo, hi) to `out`, of x's size.  Stops at the first value that is not finite and
    returns its flat index, else -1."""

def quantize_found(
    x: F32, layout: Layout, dtype: str, symmetric: bool, out: Codes, half: bool = False
) -> tuple[F32, I32, int]:
    """(scale, zero, bad): codes to `out` by the parameters of each run's own range, found in the same pass.  The layout
    has one run for each parameter, all of one length; bad as quantize returns it.  half: scales rounded up to float16,
    inf past 65504, before zero points and codes are chosen with them."""

def quantize_direct(
    kind: type[_Tensor],
    x: object,
    qtype: QType,
    axis: object,
    group_size: object,
    symmetric: object,
    scale: object,
    zero_point: object,
    out: object,
) -> _Tensor | None:
    """What qlm.quantize gives, of the type `kind`, where every array is plain; None where one is not, does not fit or
    is not finite."""

def dequantize_direct(
    values: object, axis: object, group_size: object, scale: object, zero_point: object, offset: object, out: object
) -> F32 | None:
    """What the codes stand for, where every array is plain; else None."""

def quantize_interval(x: F32, layout: Layout, dtype: str, min: F32, scale: F32, constant: U8, out: Codes) -> int:
    """qmin + clamp(floor((x - min) / scale), 0, levels - 1) to `out`, 0 where constant; returns as quantize does."""

def dequantize(codes: Codes, layout: Layout, scale: F32, zero: I32 | None, offset: F32 | None, out: F32) -> None:
    """(q - zero) * scale + offset to `out`."""

def replace_nonfinite(x: F32, layout: Layout, min: F32, max: F32, out: F32) -> None:
    """x with 0 for NaN and the given ends for infinities to `out`, which may be x."""

def fake_quantize_backward(
    grad: F32, x: F32, layout: Layout, dtype: str, scale: F32, zero: I32 | None
) -> tuple[F32, F64]:
    """Straight-through gradients (grad_x, grad_scale [params])."""

# ---- linear ----

class TensorParts:
    """The fields of a QTensor, which alone is derived from this."""

    _values: Codes
    _scale: Any
    _zero_point: Any
    _offset: Any
    _qtype: QType
    _axis: int | None
    _group_size: int | None

_Tensor = TypeVar("_Tensor", bound=TensorParts)

@final
class PackedWeight:
    """A linear's weight, laid out for the kernels in use; made by pack(), never changed."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str:
        """ "float32", or the word of the codes' type."""

    @property
    def nbytes(self) -> int: ...
    @property
    def group_size(self) -> int:
        """As given to pack(); 0: no groups."""

    @property
    def isa(self) -> str: ...
    @property
    def has_offset(self) -> bool: ...

@final
class Input:
    """How linear() takes x [m, k]; immutable, with copies of its parameters; made once for a layer.

    "float": x stays float32.  "dynamic" (dtype, symmetric, interval, group): each row, or group of it, is quantized by
    its own range.  "static" (dtype, symmetric, scale [1], zero [1], divisor [k]): x / divisor, else x / scale, plus
    zero.  "codes" (dtype, group, scale, zero or offset): x holds codes, with one parameter, or one for each row and
    group.
    """

    def __new__(
        cls,
        kind: Literal["float", "dynamic", "static", "codes"],
        dtype: str | None = None,
        symmetric: bool = False,
        interval: bool = False,
        group: int = 0,
        scale: F32 | None = None,
        zero: I32 | None = None,
        offset: F32 | None = None,
        divisor: F32 | None = None,
    ) -> Input: ...
    @property
    def kind(self) -> Literal["float", "dynamic", "static", "codes"]: ...
    @property
    def dtype(self) -> str | None: ...
    @property
    def group(self) -> int: ...

def pack(
    weight: F32 | Codes,
    dtype: str | None = None,
    group: int = 0,
    scale: F32 | None = None,
    zero: I32 | None = None,
    offset: F32 | None = None,
) -> PackedWeight:
    """weight [n, k]: float32 without a dtype, else codes.  scale: one value, or n * groups (by output, then group);
    zero or offset of the same size.  Without a scale it is 1."""

def linear(
    x: F32 | Codes,
    input: Input,
    weights: tuple[PackedWeight, ...],
    biases: tuple[F32 | None, ...] | None = None,
    activation: int | str | None = None,
    residuals: tuple[F32 | None, ...] | None = None,
    outs: tuple[F32 | None, ...] | None = None,
) -> tuple[F32, ...]:
    """act(x W^T + bias) + residual [m, n] for each of 1 to 16 weights; x is quantized once.  NonFinite where x is
    quantized and not finite; NotImplementedError for float offsets of both x and the weight."""

def linear_direct(
    x: object,
    input: Input,
    weight: PackedWeight,
    bias: object = None,
    activation: int | str | None = None,
    residual: object = None,
    out: object = None,
) -> F32 | None:
    """linear() of one weight for x [..., k], bias [n], residual and out [..., n], "float" or "dynamic" input.  None,
    and nothing said, where an array is not plain float32 (C-contiguous, aligned, native), does not fit, is not finite
    or shares memory with out."""

@overload
def matmul_codes(a: Codes, dtype: str, weight: PackedWeight, wide: Literal[False], out: I32 | None = None) -> I32: ...
@overload
def matmul_codes(a: Codes, dtype: str, weight: PackedWeight, wide: Literal[True], out: I64 | None = None) -> I64: ...
@overload
def matmul_codes(a: Codes, dtype: str, weight: PackedWeight, wide: bool, out: I32 | I64 | None = None) -> I32 | I64:
    """The exact product of codes a [m, k] with a weight of codes without groups, [m, n]; wide: int64."""

# ---- the rest of a transformer ----

def attention(
    q: F32, k: F32, v: F32, starts: I64, heads: int, scale: float, causal: bool, out: F32 | None = None
) -> F32:
    """softmax(q k^T * scale) v by head, [t, n], within each sequence: rows starts[s] to starts[s + 1], from 0 to t.
    q, k and v [t, n] may be views whose rows lie apart by one stride."""

def attention_8(q: F32, k: F32, v: F32, starts: I64, heads: int, scale: float, out: F32 | None = None) -> F32:
    """The same on codes of 8 bits, not causal; scale > 0.  NonFinite where q, k or v is not finite."""

def layernorm(x: F32, residual: F32 | None, gain: F32, bias: F32, eps: float, out: F32 | None = None) -> F32:
    """(x + residual - mean) / sqrt(variance + eps) * gain + bias for each row of [rows, n]."""

def gather(
    table: F32 | Codes,
    ids: I64,
    scale: F32 | None = None,
    zero: I32 | None = None,
    offset: F32 | None = None,
    group: int = 0,
    out: F32 | None = None,
) -> F32:
    """Rows ids of a table [rows, n], dequantized: parameters [rows], or [rows, groups]."""

def add(a: F32, b: F32, out: F32 | None = None) -> F32:
    """a + b, of a's shape; b has the same size."""

def map(function: int | str, x: F32, out: F32 | None = None) -> F32:
    """ "relu", "gelu", "gelu_tanh", "silu", "tanh", "exp" or "erf" of x."""

def pool(
    x: F32,
    starts: I64,
    how: Literal["mean", "cls", "max", "lasttoken"],
    normalize: bool,
    out: F32 | None = None,
) -> F32:
    """One vector [n] for each sequence, zeros for an empty one; normalize: divided by its Euclidean norm."""

# ---- what this CPU can do at most ----

def peaks() -> list[tuple[str, str, float]]:
    """(what, scheme, operations a round) of each loop that shows a limit of the CPU at this tier (csrc/peaks.h); loops
    over memory have 0 operations."""

def run_peak(index: int, rounds: int, source: F32 | Codes | None = None, target: F32 | Codes | None = None) -> None:
    """Loop number `index` of peaks(), `rounds` times on each thread; loops over memory share the arrays between the
    threads: float32 read, or converted to int8; or int8 converted to float32.  Sizes are multiples of 4096, and the
    target is 64-byte aligned."""

Slot: TypeAlias = tuple[int | None, int]

@final
class Program:
    """A forward over rows [t, hidden] and a workspace of `width` floats a row, as a list of steps; immutable.

    A Slot is (at, width), floats of the workspace, or (None, hidden), the rows themselves.  Steps:
    ("linear", x, Input, weights, biases, activation, residual, outs): the residual is the first output's;
    ("divide", x, out, divisor); ("attention", q, k, v, out, heads, scale, causal);
    ("attention_8", q, k, v, out, heads, scale); ("layernorm", x, out, gain, bias, eps).  out may be x, q, or a
    linear's residual.
    """

    def __new__(cls, hidden: int, width: int, steps: tuple[tuple[Any, ...], ...]) -> Program: ...
    def run(self, x: F32, starts: I64) -> None:
        """Runs the sequences of x, rows starts[s] to starts[s + 1], in place.  NonFinite: its args are the step, the
        row, and the column of the step's operand."""

# ---- for tests ----

def kernel_address(isa: str, name: str) -> int:
    """Where a compiled kernel is, whether this CPU can run it or not."""

def kernel_constants(isa: str, /) -> dict[str, int]:
    """left_type, k_step, nr, mr_8, mr_16, mr_f32 of a table."""

"""Cases over qlm's kernels: `linear` on the shapes of real models, and the element-wise operations on arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Floats
from ..methods.rtn import round_to_nearest
from ..ops import quantize, quantize_dynamic
from ..products import linear, pack
from ..scheme import Scheme
from ..timing import Call
from .bounds import Bound, aligned, binary_size
from .cases import OWN, Case, Contender
from .shapes import MODELS, Shape, shapes

ROWS = (1, 16, 64, 128, 512)
QUICK_ROWS = (1, 128)
SIZES = (64 << 10, 1 << 20, 64 << 20, 256 << 20)  # bytes of float32
QUICK_SIZES = SIZES[:2]
PLAIN = ("quantize",)  # the loop that all element-wise works are also set beside
LENGTH = 4096  # of the rows that element-wise operations go over
GROUP = 32
SMALL = Shape(64, 64)  # a linear whose call costs more than its product
SHORT_UP_TO = 1536 * 1536  # weights up to this size are also shown net of a call


@dataclass(frozen=True)
class Kind:
    """A kind of linear: the weight's scheme (None: float32), how the input is fed, what its product is limited by."""

    name: str
    weight: Scheme | None
    input: str
    limit: str

    @property
    def bits(self) -> float:
        """Of a weight's element in memory, float16 scales of groups included."""
        if self.weight is None:
            return 32.0
        group = self.weight.group_size
        return self.weight.type.bits + (16 / group if group else 0)

    def pack(self, weight: Floats) -> object:
        return pack(weight if self.weight is None else round_to_nearest(weight, self.weight, "weight"))


def _groups(size: int) -> Scheme:
    return Scheme("int4", granularity="group", group_size=size, observer="minmax")


_CHANNELS = Scheme("int8", granularity="channel", observer="minmax")
KINDS = (
    Kind("int8", _CHANNELS, "uint8", "int8"),
    Kind("int4 g32", _groups(32), "uint8", "int4"),
    Kind("int4 g128", _groups(128), "uint8", "int4"),
    Kind("float32", None, "float32", "float32"),
    Kind("weight-only", _CHANNELS, "float32", "float32"),
)


def cases(
    *,
    of: Iterable[Shape] | None = None,
    rows: Sequence[int] = ROWS,
    sizes: Sequence[int] = SIZES,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[Case]:
    """All cases; each is made when it is asked for, and its arrays live until the next one.

    of: the shapes of the weights; None: all models'.
    """
    yield overhead()
    for shape in (shapes(MODELS) if of is None else of) if kinds else ():
        yield from linear_cases(shape, rows, kinds)
    for size in sizes:
        yield from array_cases(size)


def quick_cases() -> Iterator[Case]:
    """A few of each, in seconds."""
    yield overhead()
    for shape in (Shape(1536, 384), Shape(384, 1536)):
        yield from linear_cases(shape, QUICK_ROWS, KINDS)
    for size in QUICK_SIZES:
        yield from array_cases(size)


# ---- linear ------------------------------------------------------------------------------------------------------


def overhead() -> Case:
    """What a call costs from Python: a linear on one row of 64 numbers."""
    call = linear_call(KINDS[0], KINDS[0].pack(_random(SMALL)), _random(Shape(1, SMALL.k)))
    return Case(
        "call overhead", "linear int8, 1 x 64 x 64", None, None, (), [Contender(OWN, call)],
        inputs={"kind": KINDS[0], "weight": _random(SMALL), "x": _random(Shape(1, SMALL.k))},
    )  # fmt: skip


def linear_cases(shape: Shape, rows: Sequence[int], kinds: Sequence[Kind]) -> Iterator[Case]:
    weight = _random(shape)
    for kind in kinds:
        packed, small = kind.pack(weight), kind.pack(_random(SMALL))
        for m in rows:
            yield linear_case(kind, weight, packed, small, m)


def linear_case(kind: Kind, weight: Floats, packed: object, small: object, m: int) -> Case:
    n, k = weight.shape
    x, operations, nbytes = _random(Shape(m, k)), 2.0 * m * n * k, n * k * kind.bits / 8
    short = None
    if n * k <= SHORT_UP_TO and m >= 16:
        short = linear_call(kind, small, _random(Shape(1, SMALL.k)))
    return Case(
        f"linear {kind.name}",
        str(Shape(n, k)),
        operations,
        nbytes,
        (Bound((kind.limit,), operations), Bound(("read",), nbytes, int(nbytes))),
        [Contender(OWN, linear_call(kind, packed, x), short)],
        facts={"n": n, "k": k, "m": m},
        inputs={"kind": kind, "weight": weight, "x": x},
    )


def linear_call(kind: Kind, packed: object, x: Floats) -> Call:
    out = np.empty((len(x), packed.shape[0]), np.float32)  # type: ignore[attr-defined]
    how = kind.input
    return lambda: linear(x, packed, input=how, out=out)


def _random(shape: Shape) -> Floats:
    """Normal numbers; large arrays repeat a block of them."""
    count = shape.n * shape.k
    block = np.random.default_rng(0).standard_normal(min(count, 1 << 20), np.float32)
    return np.resize(block, (shape.n, shape.k))


# ---- arrays ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrayWork:
    """An element-wise operation: `make` gives a call on an array; `whats`: the plain loops that limit it."""

    section: str
    whats: tuple[str, ...]
    make: Callable[[Floats], Call]
    facts: tuple[tuple[str, object], ...] = ()


def array_cases(nbytes: int) -> Iterator[Case]:
    x = aligned(nbytes // 4, np.dtype(np.float32)).reshape(-1, LENGTH)
    x[:] = _random(Shape(len(x), LENGTH))
    for work in ARRAY_WORKS:
        yield Case(
            work.section,
            binary_size(nbytes),
            None,
            float(nbytes),
            (Bound(work.whats, nbytes, nbytes),),
            [Contender(OWN, work.make(x), work.make(x[:1, :64]))],
            beside=(Bound(PLAIN, nbytes, nbytes),),
            facts={"nbytes": nbytes, **dict(work.facts)},
            inputs={"x": x},
        )


def _codes_like(x: Floats) -> Array:
    return aligned(x.size, np.dtype(np.int8)).reshape(x.shape)


def _quantize(x: Floats, axis: int | None) -> Call:
    out, scale = _codes_like(x), np.float32(0.03) if axis is None else np.full(x.shape[axis], 0.03, np.float32)
    return lambda: quantize(x, "int8", axis=axis, scale=scale, out=out)


def _dequantize(x: Floats, axis: int | None, dtype: str = "int8", group_size: int | None = None) -> Call:
    q = quantize(x, dtype, axis=axis, group_size=group_size)
    out = aligned(x.size, np.dtype(np.float32)).reshape(x.shape)
    return lambda: q.dequantize(out=out)


def _dynamic(x: Floats) -> Call:
    out = aligned(x.size, np.dtype(np.uint8)).reshape(x.shape)
    return lambda: quantize_dynamic(x, "uint8", out=out)


def _grouped(x: Floats, dtype: str) -> Call:
    out = _codes_like(x)
    return lambda: quantize(x, dtype, group_size=GROUP, out=out)


def _halves(x: Floats) -> Call:
    """As recipes quantize weights: each scale a float16, the codes in a new array."""
    scheme = _groups(GROUP)
    return lambda: round_to_nearest(x, scheme, "x")


def _plain(what: str) -> tuple[str, ...]:
    """With ordinary and with streaming stores, whichever is faster at the size."""
    return what, f"{what} stream"


ARRAY_WORKS = (
    ArrayWork("quantize", _plain("quantize"), lambda x: _quantize(x, None)),
    ArrayWork("quantize channels", _plain("quantize"), lambda x: _quantize(x, 0)),
    ArrayWork("dequantize", _plain("dequantize"), lambda x: _dequantize(x, None)),
    ArrayWork("dequantize channels", _plain("dequantize"), lambda x: _dequantize(x, 0)),
    ArrayWork("quantize rows", _plain("rows"), _dynamic),
    ArrayWork("quantize int8 g32", _plain("quantize"), lambda x: _grouped(x, "int8"), (("dtype", "int8"),)),
    ArrayWork("dequantize int8 g32", _plain("dequantize"), lambda x: _dequantize(x, None, "int8", GROUP)),
    ArrayWork("quantize int4 g32", _plain("quantize"), lambda x: _grouped(x, "int4"), (("dtype", "int4"),)),
    ArrayWork("quantize int4 g32 float16", _plain("quantize"), _halves),
    ArrayWork("dequantize int4 g32", _plain("dequantize"), lambda x: _dequantize(x, None, "int4", GROUP)),
)

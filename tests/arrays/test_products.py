"""linear, matmul and pack of arrays and QTensors against tests/reference.py."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import reference as ref
from array_cases import parameter_view
from hypothesis import given
from hypothesis import strategies as st
from layouts import lay_out, layouts

import qlm
from qlm import QTensor, _core

F32 = np.float32
ACTIVATIONS = {None: ref.IDENTITY, "relu": ref.RELU, "gelu": ref.GELU, "gelu_tanh": ref.GELU_TANH, "silu": ref.SILU}


def evaluate(function: int, x: np.ndarray) -> np.ndarray:
    return _core.map(function, np.ascontiguousarray(x, F32))


def codes_of(q: QTensor) -> ref.Codes:
    """A matrix QTensor as the reference has it: parameters by row, or by row and group."""
    group = q.group_size or (1 if q.axis == 1 else 0)
    group = group if group < q.shape[1] else 0
    step = group or max(q.shape[1], 1)

    def by_group(part: Any, otherwise: float, dtype: Any) -> np.ndarray:
        view = np.full(q.shape, otherwise)
        if part is not None:
            view = parameter_view(part, q.shape, q.axis, q.group_size)
        return np.ascontiguousarray(view[:, ::step]).astype(dtype)

    offset = None if q.offset is None else by_group(q.offset, 0, F32)
    return ref.Codes(q.values, by_group(q.scale, 1, F32), by_group(q.zero_point, 0, np.int32), offset, group)


def expected(x: Any, weight: Any, bias: Any = None, activation: Any = None, residual: Any = None) -> np.ndarray:
    """x and weight: QTensors or float matrices; floats stay floats."""
    function = ACTIVATIONS[activation]
    if isinstance(x, QTensor) and isinstance(weight, QTensor):
        return ref.linear_codes(codes_of(x), codes_of(weight), bias, function, residual, evaluate)
    right = codes_of(weight) if isinstance(weight, QTensor) else weight
    left = x.dequantize() if isinstance(x, QTensor) else x
    return ref.linear_float(left, right, bias, function, residual, evaluate)


@st.composite
def linears(draw: Any) -> dict[str, Any]:
    """x, weight and options of a linear whose groups fit."""
    m, n, k = draw(st.integers(0, 5)), draw(st.integers(0, 20)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    small = draw(st.integers(1, 12))
    large = small * draw(st.integers(1, 3))
    groups = draw(
        st.sampled_from([(None, None), (None, None), (small, None), (None, small), (small, large), (large, small)])
    )
    kind = draw(st.sampled_from(["affine", "affine", "affine", "axis", "tensor"]))
    options: dict[str, Any] = {"affine": {"axis": 0}, "axis": {"axis": 1}, "tensor": {}}[kind]
    if groups[0]:
        options = {"group_size": groups[0]}
    weight_type = draw(st.sampled_from(["int8", "int8", "uint8", "int4", "uint4", "int16"]))
    if options.get("axis") == 1:
        groups = (None, None)
    return {
        "x": (rng.standard_normal((m, k)) * np.exp(rng.uniform(-3, 3, (m, 1)))).astype(F32),
        "weight": qlm.quantize(rng.standard_normal((n, k)), weight_type, **options),
        "bias": draw(st.none() | st.just(rng.standard_normal(n).astype(F32))),
        "residual": draw(st.none() | st.just(rng.standard_normal((m, n)).astype(F32))),
        "activation": draw(st.sampled_from(list(ACTIVATIONS))),
        "group": groups[1],
    }


@given(linears(), st.sampled_from(["uint8", "int8", "int16", "float32"]), st.booleans(), layouts())
def test_linear(case: dict[str, Any], kind: str, packed: bool, layout: str) -> None:
    x, weight, rest = case["x"], case["weight"], (case["bias"], case["activation"], case["residual"])
    options = {} if kind == "float32" else {"group_size": case["group"]}
    left = x if kind == "float32" else qlm.quantize_dynamic(x, kind, **options)
    wanted = expected(left, weight, *rest)
    keywords = {"bias": rest[0], "activation": rest[1], "residual": rest[2], "input": kind, **options}
    right = qlm.pack(weight) if packed else weight
    got = qlm.linear(lay_out(x, layout), right, **keywords)
    np.testing.assert_array_equal(got.view(np.int32), wanted.view(np.int32))
    if kind != "float32":
        again = qlm.linear(left, right, bias=rest[0], activation=rest[1], residual=rest[2])
        np.testing.assert_array_equal(again.view(np.int32), wanted.view(np.int32))


@given(linears(), st.sampled_from(["uint8", "int8", "int16"]))
def test_linear_on_an_interval_grid(case: dict[str, Any], kind: str) -> None:
    left = qlm.quantize_dynamic(case["x"], kind, grid="interval")
    wanted = expected(left, case["weight"], case["bias"])
    got = qlm.linear(case["x"], case["weight"], case["bias"], input=kind, grid="interval")
    np.testing.assert_array_equal(got.view(np.int32), wanted.view(np.int32))


@given(linears())
def test_linear_with_float_offsets_in_the_weight(case: dict[str, Any]) -> None:
    weight = qlm.quantize(case["weight"].dequantize(), "uint8", group_size=case["group"] or 7, grid="interval")
    for x in (qlm.quantize_dynamic(case["x"]), case["x"]):
        kind = "uint8" if isinstance(x, QTensor) else "float32"
        np.testing.assert_array_equal(
            qlm.linear(x, weight, input=kind).view(np.int32), expected(x, weight).view(np.int32)
        )


def test_offsets_on_both_sides_are_unsupported(rng: np.random.Generator) -> None:
    weight = qlm.quantize(rng.normal(size=(4, 6)), grid="interval")
    with pytest.raises(qlm.UnsupportedError, match="offset"):
        qlm.linear(rng.normal(size=(2, 6)), weight, grid="interval")


@pytest.mark.parametrize("shape", [(8,), (1, 8), (2, 3, 8), (0, 8), (2, 0, 3, 8)])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_leading_axes_are_rows(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> None:
    x, weight = rng.normal(size=shape), qlm.quantize(rng.normal(size=(5, 8)), axis=0)
    got = qlm.linear(x, weight, input=kind, residual=np.ones(5))
    assert got.shape == (*shape[:-1], 5)
    rows = [qlm.linear(row, weight, input=kind, residual=np.ones(5)) for row in x.reshape(-1, 8)]
    np.testing.assert_array_equal(got.reshape(-1, 5), np.reshape(rows, (-1, 5)))
    if kind == "uint8" and x.size:
        np.testing.assert_array_equal(qlm.linear(qlm.quantize_dynamic(x), weight, residual=np.ones(5)), got)


def test_no_inputs_and_no_outputs() -> None:
    assert qlm.linear(np.ones((3, 4)), qlm.quantize(np.ones((0, 4)))).shape == (3, 0)
    with pytest.raises(ValueError, match=r"x holds nan at index \(2, 0\)"):
        qlm.linear([[1.0], [2.0], [np.nan]], qlm.quantize(np.ones((0, 1))))
    bias = np.array([1.0, -2.0])
    got = qlm.linear(np.ones((3, 0)), qlm.quantize(np.ones((2, 0)), axis=0), bias, activation="relu")
    np.testing.assert_array_equal(got, [[1, 0]] * 3)
    empty = qlm.quantize(np.ones((3, 0)), group_size=2)
    np.testing.assert_array_equal(qlm.linear(empty, qlm.quantize(np.ones((2, 0)), group_size=2), bias), [bias] * 3)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16"])
def test_float_weights_meet_what_the_quantized_rows_stand_for(rng: np.random.Generator, kind: str) -> None:
    x, weight = rng.normal(size=(3, 9)), rng.normal(size=(4, 9)).astype(F32)
    wanted = ref.chain(qlm.quantize_dynamic(x, kind).dequantize(), weight.T)
    np.testing.assert_array_equal(qlm.linear(x, weight, input=kind), wanted)
    np.testing.assert_array_equal(qlm.linear(qlm.quantize_dynamic(x, kind), qlm.pack(weight)), wanted)
    np.testing.assert_array_equal(qlm.linear(x, weight, input="float32"), ref.chain(x, weight.T))


def test_one_scale_for_all_of_x_is_static(rng: np.random.Generator) -> None:
    x, weight = qlm.quantize(rng.normal(size=(3, 9)), "uint8"), qlm.quantize(rng.normal(size=(4, 9)), axis=0)
    np.testing.assert_array_equal(qlm.linear(x, weight), expected(x, weight))
    columns = qlm.quantize(rng.normal(size=(3, 9)), "uint8", axis=1)
    np.testing.assert_array_equal(qlm.linear(columns, weight), expected(columns, weight))


def test_nan_and_infinities_propagate_only_through_float_products(rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(2, 3)), qlm.quantize(np.ones((4, 3)))
    x[1, 2] = np.nan
    got = qlm.linear(x, weight, input="float32", bias=[0, np.inf, 0, 0])
    assert np.isfinite(got[0, [0, 2, 3]]).all()
    assert got[0, 1] == np.inf
    assert (got[1].view(np.uint32) == 0x7FC00000).all()
    for kind in ("uint8", "int8", "int16"):
        with pytest.raises(ValueError, match=r"^x holds nan at index \(1, 2\)"):
            qlm.linear(x, weight, input=kind)
    with pytest.raises(ValueError, match=r"^bias holds inf at index \(1,\)"):
        qlm.linear(np.ones((2, 3)), weight, [0, np.inf, 0, 0])
    with pytest.raises(ValueError, match=r"^residual holds nan at index \(0,\)"):
        qlm.linear(np.ones((2, 3)), weight, residual=[np.nan, 0, 0, 0])


def test_a_weight_that_is_not_finite_needs_a_float_product() -> None:
    weight = np.ones((2, 3))
    weight[1, 2] = np.inf
    for given_weight in (weight, qlm.pack(weight)):
        got = qlm.linear(np.ones((1, 3)), given_weight, input="float32")
        np.testing.assert_array_equal(got, [[3, np.inf]])
        for x in (np.ones((1, 3)), qlm.quantize(np.ones((1, 3)))):
            with pytest.raises(ValueError, match=r"^weight holds inf at index \(1, 2\)"):
                qlm.linear(x, given_weight)


def test_linear_into_out(rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(3, 4)).astype(F32), qlm.quantize(rng.normal(size=(4, 4)), axis=0)
    wanted = qlm.linear(x, weight, residual=x)
    for layout in ("C", "F", "stepped", "reversed", "offset-by-1"):
        out = lay_out(np.zeros((3, 4), F32), layout)
        assert qlm.linear(x, weight, residual=x, out=out) is out
        np.testing.assert_array_equal(out, wanted)
    assert qlm.linear(x, weight, residual=x, out=x) is x
    np.testing.assert_array_equal(x, wanted)


def test_packed_weights() -> None:
    weight = qlm.quantize(np.ones((5, 8)), "uint4", group_size=4)
    packed = qlm.pack(weight)
    assert (packed.shape, packed.dtype) == ((5, 8), "uint4")
    assert packed.nbytes > 0
    assert qlm.pack(packed) is packed
    assert qlm.pack(np.ones((2, 3))).dtype == "float32"
    assert "uint4" in repr(packed)
    with pytest.raises(TypeError, match="this CPU"):
        packed.__reduce__()


def test_packed_4_bits_stay_4_bits(rng: np.random.Generator) -> None:
    """Half a byte a code and, in groups, two bytes a float16 scale; a layout that an input asks for counts too."""
    w = rng.normal(size=(256, 512)).astype(F32)
    scale = np.full((256, 16), 0.25, np.float16)
    packed = qlm.pack(qlm.quantize(w, "int4", group_size=32, scale=scale))
    extra = 256 * 4 + 6 * 64  # a float an output; each part is a whole number of cache lines
    assert packed.nbytes <= w.size // 2 + w.size // 32 * 2 + extra
    assert qlm.pack(qlm.quantize(w, "int4", axis=0)).nbytes <= w.size // 2 + 5 * extra
    wide = qlm.pack(qlm.quantize(w, "int4", group_size=32, scale=scale.astype(F32) * F32(1 + 2.0**-20)))
    assert wide.nbytes - packed.nbytes == w.size // 32 * 2
    before = packed.nbytes
    x = rng.normal(size=(3, 512)).astype(F32)
    qlm.linear(x, packed)
    assert packed.nbytes == before
    qlm.linear(x, packed, input="int16")
    assert packed.nbytes >= before + 2 * w.size
    with pytest.raises(TypeError, match=r"qlm\.pack"):
        qlm.PackedWeight()


def test_a_packed_weight_is_its_own_copy() -> None:
    packed = qlm.pack(np.eye(3, dtype=F32))
    assert copy.copy(packed) is packed
    assert copy.deepcopy({"weight": packed})["weight"] is packed
    with pytest.raises(TypeError, match="belongs to this CPU"):
        pickle.dumps(packed)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"x": np.ones((2, 5))}, ValueError, r"x must have 8 features .* got the shape \(2, 5\)"),
        ({"x": 1.0}, ValueError, "x must have 8 features"),
        ({"x": np.ones((2, 8), bool)}, TypeError, "x must hold real numbers"),
        ({"weight": np.ones(8)}, ValueError, r"weight must be \[out, in\]"),
        ({"weight": "w"}, TypeError, "weight must hold real numbers"),
        ({"bias": np.ones(4)}, ValueError, r"bias must have the shape \(3,\), got \(4,\)"),
        ({"bias": ["a"] * 3}, TypeError, "bias must hold real numbers"),
        ({"residual": np.ones((3, 3))}, ValueError, r"residual must broadcast to \(2, 3\)"),
        ({"input": "uint16"}, ValueError, "input must be one of uint8, int8, int16, float32, got 'uint16'"),
        ({"input": np.int8}, TypeError, "input must be one of"),
        ({"grid": "log"}, ValueError, "grid must be one of affine, interval, got 'log'"),
        ({"activation": "tanh"}, ValueError, "activation must be one of relu, gelu, gelu_tanh, silu"),
        ({"group_size": 3}, ValueError, "group_size 3 of the activations and 4 of the weight"),
        ({"group_size": 0}, ValueError, "group_size must be at least 1, got 0"),
        ({"group_size": 2.0}, TypeError, "group_size must be an integer"),
        ({"group_size": 4, "input": "float32"}, ValueError, "group_size and grid must be left out"),
        ({"x": qlm.quantize(np.ones((2, 8))), "group_size": 4}, ValueError, "group_size and grid must be left out"),
        ({"x": qlm.quantize(np.ones((2, 8)), group_size=6)}, ValueError, "group_size 6 of the activations"),
        ({"out": np.ones((2, 3))}, TypeError, "out must be an array of float32"),
        ({"out": np.ones((3, 2), F32)}, ValueError, r"out must have the shape \(2, 3\), got \(3, 2\)"),
        ({"out": [[0.0] * 3] * 2}, TypeError, "out must be an array of float32"),
    ],
)
def test_arguments_of_linear(options: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"x": np.ones((2, 8)), "weight": qlm.quantize(np.ones((3, 8)), group_size=4), **options}
    with pytest.raises(error, match=words):
        qlm.linear(arguments.pop("x"), arguments.pop("weight"), arguments.pop("bias", None), **arguments)


# ---- matmul --------------------------------------------------------------------------------------------------------

SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 70), (70, 500)),  # turned in three steps
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 2)),
    ((0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((3, 4), (4, 0)),
    ((0, 3, 4), (4, 5)),
    ((1, 3, 4), (0, 4, 5)),
]
CODES = ("int8", "uint8", "int16", "uint16")


def random_codes(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.choice([info.min, info.max, 0, 1, info.max // 2], shape).astype(dtype)


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("left", CODES)
@pytest.mark.parametrize("right", CODES)
def test_integer_matmul(
    rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...], left: str, right: str
) -> None:
    x, y = random_codes(rng, left, a), random_codes(rng, right, b)
    got = qlm.matmul(x, y)
    assert got.dtype == (np.int32 if "16" not in left + right else np.int64)
    np.testing.assert_array_equal(got, np.matmul(x.astype(np.int64), y.astype(np.int64)))
    assert got.shape == np.matmul(x, y).shape


@pytest.mark.parametrize(
    ("left", "right", "bound"),
    [
        ("int8", "int8", 131_071),
        ("uint8", "int8", 65_793),
        ("int8", "uint8", 65_793),
        ("uint8", "uint8", 33_025),
    ],
)
def test_integer_matmul_at_the_bound_of_int32(left: str, right: str, bound: int) -> None:
    """The worst products of all, K times: at the bound they just fit, past it the result is int64."""
    a, b = (np.iinfo(t).max if t == "uint8" else np.iinfo(t).min for t in (left, right))
    for k in (bound, bound + 1, 4 * bound):
        got = qlm.matmul(np.full((2, k), a, left), np.full((k, 3), b, right))
        assert got.dtype == (np.int32 if k <= bound else np.int64)
        assert (got == k * a * b).all()


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_float_matmul(rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b).astype(F32)
    got = qlm.matmul(x, y)
    assert got.dtype == F32
    assert got.shape == np.matmul(x, y).shape
    np.testing.assert_allclose(got, np.matmul(x, y), atol=1e-5)
    if len(a) == len(b) == 2:
        np.testing.assert_array_equal(got, ref.chain(x, y))


@given(st.data(), st.sampled_from(CODES), st.sampled_from(CODES), layouts(), layouts())
def test_matmul_of_any_layout(data: st.DataObject, left: str, right: str, first: str, second: str) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x, y = random_codes(rng, left, (3, 7)), random_codes(rng, right, (7, 4))
    got = qlm.matmul(lay_out(x, first), lay_out(y, second))
    np.testing.assert_array_equal(got, x.astype(np.int64) @ y.astype(np.int64))


RIGHT: dict[str, dict[str, Any]] = {"tensor": {}, "columns": {"axis": -1}, "offset": {"axis": -1, "grid": "interval"}}
LEFT: dict[str, dict[str, Any]] = {
    **RIGHT,
    "columns": {"axis": 0},
    "offset": {"axis": 0, "grid": "interval"},
    "groups": {"group_size": 2},
    "one group": {"group_size": 9},
}


@pytest.mark.parametrize("right", RIGHT)
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("types", [("uint8", "int8"), ("int8", "uint8"), ("int16", "int8"), ("uint4", "int4")])
def test_matmul_of_qtensors(rng: np.random.Generator, left: str, right: str, types: tuple[str, str]) -> None:
    a = qlm.quantize(rng.normal(size=(3, 8)), types[0], **LEFT[left])
    b = qlm.quantize(rng.normal(size=(8, 5)), types[1], **RIGHT[right])
    if left == right == "offset":
        with pytest.raises(qlm.UnsupportedError, match="offset"):
            qlm.matmul(a, b)
        return
    transposed = QTensor.from_parts(
        b.values.T, b.scale, b.zero_point, offset=b.offset, dtype=b.dtype, axis=None if b.axis is None else 0
    )
    np.testing.assert_array_equal(qlm.matmul(a, b), expected(a, transposed))


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul_of_qtensors_of_any_shape(rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b)
    for options in ({}, {"axis": 0}, {"group_size": 2}):
        if options.get("axis") == 0 and len(a) == 1:
            continue
        left = qlm.quantize(x, "uint8", **options)
        right = qlm.quantize(y, axis=0) if len(b) > 2 else qlm.quantize(y)
        got = qlm.matmul(left, right)
        wanted = np.matmul(left.dequantize().astype(np.float64), right.dequantize().astype(np.float64))
        assert got.dtype == F32
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    dynamic = qlm.quantize_dynamic(x)
    np.testing.assert_array_equal(qlm.matmul(x, qlm.quantize(y)), qlm.matmul(dynamic, qlm.quantize(y)))


def test_matmul_is_linear_with_the_other_side_turned(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(3, 8)), rng.normal(size=(5, 8))
    got = qlm.matmul(x, qlm.quantize(w.T, axis=1))
    np.testing.assert_array_equal(got, qlm.linear(x, qlm.quantize(w, axis=0)))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((2, 3)), qlm.quantize(np.ones((3, 4)), axis=0), "b has a scale for each index of axis 0"),
        (
            np.ones((2, 3)),
            qlm.quantize(np.ones((3, 4)), group_size=2),
            "b has a scale for each index of axis 0, in groups",
        ),
        (
            qlm.quantize(np.ones((2, 3)), axis=1),
            qlm.quantize(np.ones((3, 4))),
            "a has a scale for each index of axis 1",
        ),
        (np.ones(3), qlm.quantize(np.ones(3), axis=0), "b has a scale for each index of axis 0"),
        (np.ones(3), qlm.quantize(np.ones(3), group_size=2), "b has a scale for each index of axis 0"),
    ],
)
def test_parameters_along_k_are_refused(a: Any, b: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        qlm.matmul(a, b)
    assert "qlm.linear" in str(caught.value)


@pytest.mark.parametrize(
    ("a", "b", "error", "words"),
    [
        (np.ones((2, 3)), np.ones((4, 2)), ValueError, r"\(2, 3\) and \(4, 2\) have 3 and 4 along K"),
        (np.ones((2, 3, 4)), np.ones((3, 4, 2)), ValueError, "batch axes"),
        (1.0, np.ones(3), ValueError, "at least one axis"),
        (np.ones((2, 3), np.int32), np.ones((3, 2), np.int8), TypeError, "a must hold int8, uint8, int16 or uint16"),
        (np.ones((2, 3), np.int8), np.ones((3, 2), np.int64), TypeError, "b must hold int8"),
        (np.ones((2, 3), bool), np.ones((3, 2), np.int8), TypeError, "a must hold real numbers"),
        (np.ones((2, 3)), [["a"]], TypeError, "b must hold real numbers"),
        (qlm.quantize(np.ones((2, 3))), np.ones((3, 2)), TypeError, "b must be a QTensor where a is one"),
        (np.ones((2, 3)), qlm.pack(np.ones((3, 2))), TypeError, r"qlm\.linear"),
        (np.full((2, 3), np.nan), qlm.quantize(np.ones((3, 2))), ValueError, r"^a holds nan at index \(0, 0\)"),
        (1.0, qlm.quantize(np.ones((3, 2))), ValueError, "a and b must have at least one axis"),
    ],
)
def test_arguments_of_matmul(a: Any, b: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        qlm.matmul(a, b)


def test_qtensors_of_no_k_have_products_of_zeros() -> None:
    for options in ({}, {"group_size": 2}):
        vector = qlm.quantize(np.zeros(0), **options)
        assert qlm.matmul(vector, vector) == 0
    rows = qlm.quantize(np.zeros((2, 0)), axis=0, grid="interval")
    np.testing.assert_array_equal(qlm.matmul(rows, qlm.quantize(np.zeros((0, 3)), axis=1)), np.zeros((2, 3)))


def test_products_of_64_axes(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(2, 4, 5))
    deep_a, deep_b = a.reshape((1,) * 62 + (3, 4)), b.reshape((1,) * 61 + (2, 4, 5))
    for left, right in (
        (lambda x: x, lambda x: x),
        (lambda x: x.astype(np.int8), lambda x: x.astype(np.int8)),
        (lambda x: x, qlm.quantize),
        (lambda x: qlm.quantize(x, axis=-2), lambda x: qlm.quantize(x, axis=-1)),
    ):
        got = qlm.matmul(left(deep_a), right(deep_b))
        assert got.shape == (1,) * 61 + (2, 3, 5)
        np.testing.assert_array_equal(got.reshape(2, 3, 5), qlm.matmul(left(a), right(b)))


def test_float_matmul_propagates() -> None:
    got = qlm.matmul([[1.0, np.inf]], [[1.0, 0.0], [1.0, 0.0]])
    assert got[0, 0] == np.inf
    assert np.isnan(got[0, 1])


@pytest.mark.parametrize("group_size", [None, 100])
@pytest.mark.parametrize("dtype", ["int8", "uint4", "int16"])
def test_a_large_weight_is_its_rows(rng: np.random.Generator, dtype: str, group_size: int | None) -> None:
    """It is packed, and laid out again for other inputs, in slices."""
    weight = qlm.quantize(rng.standard_normal((2600, 1700)), dtype, axis=0)
    packed, x = qlm.pack(weight), rng.standard_normal((3, 1700))
    for kind in ("uint8", "int16"):
        found = qlm.linear(x, packed, input=kind, group_size=group_size)
        for rows in (slice(0, 40), slice(1290, 1310), slice(2583, 2600)):
            part = qlm.linear(x, weight[rows], input=kind, group_size=group_size)
            assert found[:, rows].tobytes() == part.tobytes()


def test_many_rows_are_each_row(rng: np.random.Generator) -> None:
    """They are cut into blocks of rows, and those into slices by the outputs."""
    weight, x = rng.standard_normal((2100, 4000), F32), rng.standard_normal((390, 4000), F32)
    packed = qlm.pack(qlm.quantize(weight, axis=0))
    found = qlm.linear(x, packed, group_size=40)
    for row in (0, 150, 194, 195, 389):
        assert found[row].tobytes() == qlm.linear(x[row : row + 1], packed, group_size=40).tobytes()
    x[300, 7] = np.nan
    with pytest.raises(ValueError, match=r"nan at index \(300, 7\)"):
        qlm.linear(x, packed, group_size=40)

"""Independent implementations: ONNX's reference evaluator, and torch where it is installed."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import qlm

OPSET = 21
PROTO = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
}
CODES = ("int8", "uint8", "int16", "uint16")
floats = st.floats(-1e4, 1e4, width=32)


def evaluate(operator: str, inputs: dict[str, np.ndarray], outputs: list[str], **attributes: Any) -> list[np.ndarray]:
    """One ONNX operator, run by the reference evaluator."""
    node = helper.make_node(operator, list(inputs), outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, PROTO[x.dtype.name], x.shape) for name, x in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    assert isinstance(model, onnx.ModelProto)
    return ReferenceEvaluator(model).run(None, inputs)


def zero_of(q: qlm.QTensor) -> np.ndarray:
    return np.zeros(np.shape(q.scale), q.values.dtype) if q.zero_point is None else np.asarray(q.zero_point)


matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=floats)


@given(matrices, st.sampled_from(CODES), st.sampled_from([None, 0, 1]))
def test_quantize_linear_and_back(x: np.ndarray, dtype: str, axis: int | None) -> None:
    q = qlm.quantize(x, dtype, axis=axis, symmetric=False)
    inputs = {"x": x, "scale": np.asarray(q.scale), "zero": zero_of(q)}
    attributes = {} if axis is None else {"axis": axis}
    (codes,) = evaluate("QuantizeLinear", inputs, ["y"], **attributes)
    np.testing.assert_array_equal(q.values, codes)
    back = {"x": q.values, "scale": np.asarray(q.scale), "zero": zero_of(q)}
    (numbers,) = evaluate("DequantizeLinear", back, ["y"], **attributes)
    np.testing.assert_array_equal(q.dequantize(), numbers)


@given(st.data(), st.sampled_from(CODES))
def test_quantize_linear_with_any_scale(data: st.DataObject, dtype: str) -> None:
    x = data.draw(matrices)
    scale = np.float32(data.draw(st.floats(2.0**-10, 100, width=32)))
    info = np.iinfo(dtype)
    zero = np.array(data.draw(st.integers(info.min, info.max)), dtype)
    (codes,) = evaluate("QuantizeLinear", {"x": x, "scale": np.asarray(scale), "zero": zero}, ["y"])
    np.testing.assert_array_equal(qlm.quantize(x, dtype, scale=scale, zero_point=zero).values, codes)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("group", [2, 4])
def test_blocked_quantize_linear(rng: np.random.Generator, dtype: str, group: int) -> None:
    x = rng.normal(size=(3, 8)).astype(np.float32)
    q = qlm.quantize(x, dtype, group_size=group, symmetric=False)
    inputs = {"x": x, "scale": q.scale, "zero": zero_of(q)}
    (codes,) = evaluate("QuantizeLinear", inputs, ["y"], axis=1, block_size=group)
    np.testing.assert_array_equal(q.values, codes)


@given(matrices)
def test_dynamic_quantize_linear(x: np.ndarray) -> None:
    """Per tensor, as ONNX has it; its scale is float32 arithmetic, qlm's float64 rounded once."""
    codes, scale, zero = evaluate("DynamicQuantizeLinear", {"x": x}, ["y", "scale", "zero"])
    q = qlm.quantize(x, "uint8")
    if np.abs(x).max() < 1e-35:
        return  # ONNX's scale is 0, or so small that its inverse overflows
    np.testing.assert_allclose(q.scale, scale, rtol=3e-7)
    assert abs(int(q.zero_point) - int(zero)) <= 1
    if q.scale == scale and q.zero_point == zero:
        np.testing.assert_array_equal(q.values, codes)


@given(st.data(), st.sampled_from(["int8", "uint8"]), st.sampled_from(["int8", "uint8"]))
def test_matmul_integer(data: st.DataObject, left: str, right: str) -> None:
    m, k, n = (data.draw(st.integers(1, 6)) for _ in range(3))
    a, b = data.draw(hnp.arrays(left, (m, k))), data.draw(hnp.arrays(right, (k, n)))
    (product,) = evaluate("MatMulInteger", {"a": a, "b": b}, ["y"])
    got = qlm.matmul(a, b)
    assert got.dtype == product.dtype
    np.testing.assert_array_equal(got, product)


# ---- torch ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("zero", [0, -3, 5])
def test_torch_fake_quantize(torch: Any, rng: np.random.Generator, axis: int | None, zero: int) -> None:
    """Powers of two: torch multiplies by 1 / scale, qlm divides."""
    x = rng.normal(size=(5, 7)).astype(np.float32) * 4
    size = 1 if axis is None else x.shape[axis]
    scale = (2.0 ** rng.integers(-6, -1, size)).astype(np.float32)
    if axis is None:
        theirs = torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(scale[0]), zero, -128, 127)
        mine = qlm.fake_quantize(x, scale=scale[0], zero_point=zero)
    else:
        zeros = torch.full((size,), zero, dtype=torch.int32)
        theirs = torch.fake_quantize_per_channel_affine(torch.tensor(x), torch.tensor(scale), zeros, axis, -128, 127)
        mine = qlm.fake_quantize(x, scale=scale, zero_point=np.full(size, zero), axis=axis)
    np.testing.assert_array_equal(mine, theirs.numpy())


def test_torch_learned_step_size_gradients(torch: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 7)).astype(np.float32) * 40
    grad = rng.normal(size=(6, 7)).astype(np.float32)
    data, scale = torch.tensor(x, requires_grad=True), torch.tensor([0.25], requires_grad=True)
    zero = torch.tensor([3.0], requires_grad=True)
    out = torch._fake_quantize_learnable_per_tensor_affine(data, scale, zero, -128, 127, 1.0)
    out.backward(torch.tensor(grad))
    grad_x, grad_scale = qlm.fake_quantize_backward(grad, x, scale=0.25, zero_point=3)
    np.testing.assert_array_equal(grad_x, data.grad.numpy())
    np.testing.assert_allclose(grad_scale, scale.grad.numpy()[0], rtol=1e-5)


def test_torch_observers(torch: Any, rng: np.random.Generator) -> None:
    observers = pytest.importorskip("torch.ao.quantization.observer")
    batches = [rng.normal(size=(4, 5)).astype(np.float32) * (i + 1) for i in range(5)]
    pairs = [
        (qlm.observers.MinMax(), observers.MinMaxObserver()),
        (qlm.observers.MovingAverageMinMax(0.1), observers.MovingAverageMinMaxObserver(averaging_constant=0.1)),
    ]
    for mine, theirs in pairs:
        for batch in batches:
            mine.update(batch)
            theirs(torch.tensor(batch))
        low, high = mine.range()
        np.testing.assert_allclose(low, theirs.min_val.numpy(), rtol=1e-6)
        np.testing.assert_allclose(high, theirs.max_val.numpy(), rtol=1e-6)


def test_torch_exact_integer_product(torch: Any, rng: np.random.Generator) -> None:
    a = rng.integers(-128, 128, (32, 48), dtype=np.int8)
    b = rng.integers(-128, 128, (48, 40), dtype=np.int8)
    np.testing.assert_array_equal(qlm.matmul(a, b), torch._int_mm(torch.tensor(a), torch.tensor(b)).numpy())


# ---- finite differences --------------------------------------------------------------------------------------------


def test_the_gradient_of_the_scale_by_finite_differences(rng: np.random.Generator) -> None:
    """Away from the steps, (x / s) rounds to the same code at s +- h, so d fake(x) / d s = code - zero point; LSQ adds
    the straight-through part -x / s inside the range."""
    x = rng.normal(size=200).astype(np.float32) * 100
    scale, h = 0.5, 2.0**-14
    up, down = (qlm.fake_quantize(x, scale=scale + step).astype(np.float64) for step in (h, -h))
    codes = qlm.quantize(x, scale=scale).values.astype(np.float64)
    above, below = (qlm.quantize(x, scale=scale + step).values for step in (h, -h))
    steady = above == below
    slope = (up - down) / (2 * h)
    np.testing.assert_allclose(slope[steady], codes[steady], rtol=1e-3, atol=1e-2)
    inside = (np.rint(x / scale) >= -128) & (np.rint(x / scale) <= 127)
    for i in np.flatnonzero(steady)[:50]:
        grad = np.zeros_like(x)
        grad[i] = 1
        _, got = qlm.fake_quantize_backward(grad, x, scale=scale)
        wanted = codes[i] - (float(x[i]) / scale if inside[i] else 0)
        assert got == pytest.approx(wanted, abs=1e-4)

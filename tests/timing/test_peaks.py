"""The C core's loops that show a CPU's limits: what they compute, and what they refuse."""

import numpy as np
import pytest

from qlm import _core

NAMES = [what for what, _, _ in _core.peaks()]
ROW = 4096


def aligned(count, dtype):
    block = np.zeros(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def test_a_tier_has_its_loops():
    if _core.cpu_info()["isa"] == "scalar":
        assert NAMES == []
    else:
        assert {"int8", "int16", "float32", "read", "quantize", "dequantize", "rows"} <= set(NAMES)


@pytest.mark.parametrize("index", range(len(NAMES)), ids=NAMES)
def test_what_a_loop_computes(index, rng):
    what, scheme, operations = _core.peaks()[index]
    assert scheme
    if operations:
        assert _core.run_peak(index, 3) is None
        return
    x = (4 * rng.standard_normal(3 * ROW)).astype(np.float32)
    codes = rng.integers(-128, 128, 3 * ROW).astype(np.int8)
    source = codes if what.startswith("dequantize") else x
    target = aligned(source.size, np.float32 if source is codes else np.int8)
    _core.run_peak(index, 2, source, target)
    if what == "read":
        assert not target.any()
        return
    largest = np.abs(x.reshape(3, ROW)).max(axis=1, keepdims=True)
    factor = np.float32(127) / largest if what.startswith("rows") else np.float32(12.7)
    quantized = np.clip(np.rint(x.reshape(3, ROW) * factor), -128, 127).astype(np.int8).ravel()
    np.testing.assert_array_equal(target, codes * np.float32(0.03125) if source is codes else quantized)


@pytest.mark.skipif(not NAMES, reason="the scalar tier has no loops")
def test_refusals():
    quantize = NAMES.index("quantize")
    x, target = np.zeros(ROW, np.float32), aligned(ROW, np.int8)
    with pytest.raises(ValueError, match="index"):
        _core.run_peak(len(NAMES), 1)
    with pytest.raises(ValueError, match="rounds"):
        _core.run_peak(quantize, 0, x, target)
    with pytest.raises(TypeError, match="source"):
        _core.run_peak(quantize, 1)
    with pytest.raises(TypeError, match="target"):
        _core.run_peak(quantize, 1, x)
    with pytest.raises(ValueError, match="source"):
        _core.run_peak(quantize, 1, x[: ROW // 2], target[: ROW // 2])
    with pytest.raises(ValueError, match="target"):
        _core.run_peak(quantize, 1, x, target[: ROW // 2])
    with pytest.raises(ValueError, match="aligned"):
        _core.run_peak(quantize, 1, x, aligned(ROW + 1, np.int8)[1:])
    with pytest.raises(TypeError, match="source"):
        _core.run_peak(quantize, 1, x.astype(np.float64), target)

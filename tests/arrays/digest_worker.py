"""Prints a digest of what every array function returns for the same inputs; run once for each setting."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import qlm

OPTIONS: list[dict[str, Any]] = [{}, {"axis": 0}, {"axis": 1}, {"group_size": 24}, {"axis": 0, "grid": "interval"}]


def results() -> Iterator[Any]:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((67, 200)) * np.exp(rng.uniform(-5, 5, (67, 1)))).astype(np.float32)
    grad = rng.standard_normal(x.shape).astype(np.float32)
    weights = [rng.standard_normal((45, 200)).astype(np.float32)]
    for dtype in ("int8", "uint8", "int4", "uint4", "int16", "uint16"):
        for options in OPTIONS:
            q = qlm.quantize(x, dtype, **options)
            yield from (q.values, q.scale, q.zero_point, q.offset, q.dequantize())
        weights.append(qlm.quantize(weights[0], dtype, axis=0))  # type: ignore[arg-type]
        yield from qlm.fake_quantize_backward(grad, x, dtype, scale=0.05, zero_point=3, axis=1)
    weights.append(qlm.quantize(weights[0], "uint4", group_size=40))  # type: ignore[arg-type]
    yield from qlm.estimate_range(x, group_size=7)
    for weight in weights:
        for kind in ("uint8", "int8", "int16", "float32"):
            for activation in (None, "gelu", "gelu_tanh", "silu"):
                yield qlm.linear(x, weight, np.ones(45), input=kind, activation=activation, residual=x[:, :45])
        yield qlm.linear(x, weight, grid="interval")
        yield qlm.linear(x, weight, group_size=20)
    clashing = rng.standard_normal((1024, 200)).astype(np.float32)  # rows of outputs 4 KiB apart: lower tiles
    for rows in (7, 8, 12, 25, 67):
        yield qlm.linear(
            x[:rows], qlm.quantize(clashing, axis=0), clashing[:, 0], residual=clashing.reshape(200, -1)[:rows]
        )
    yield qlm.matmul(x, x.T)
    yield qlm.matmul(qlm.quantize(x).values, qlm.quantize(x.T, "uint8").values)
    yield qlm.matmul(x, qlm.quantize(x.T, axis=1))


def digest() -> str:
    total = hashlib.sha256()
    for part in results():
        total.update(b"None" if part is None else np.asarray(part).tobytes())
    return total.hexdigest()


if __name__ == "__main__":
    print(qlm.cpu_info()["isa"], qlm.get_num_threads(), digest())

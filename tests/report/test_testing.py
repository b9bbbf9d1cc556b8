"""qlm.testing: what passes, what fails, and what a failure says."""

import numpy as np
import pytest
from test_comparison import FakeModel, tables

import qlm
from qlm import testing


@pytest.fixture
def models():
    first, second = tables(0.3)
    return FakeModel(first, ("a", "b")), FakeModel(second, ("a", "b"))


ROWS = [[index] for index in range(100)]


def test_accuracy_within_limits_passes(models):
    report = qlm.compare(*models, ROWS, labels=[0] * 100)
    testing.assert_accuracy(*models, ROWS, min_agreement=float(report.agreement), max_kl=float(report.kl))
    testing.assert_accuracy(*models, ROWS, labels=[0] * 100, max_accuracy_drop=float(report.accuracy_drop))
    testing.assert_accuracy(models[0], models[0], ROWS, min_agreement=1, max_kl=0)


def test_a_broken_limit_shows_the_report(models):
    report = qlm.compare(*models, ROWS)
    with pytest.raises(AssertionError) as failure:
        testing.assert_accuracy(*models, ROWS, min_agreement=0.999, max_kl=1e-6)
    text = str(failure.value)
    lines = text.splitlines()
    assert lines[0].startswith(f"agreement is {float(report.agreement):.4g} (95 %: ")
    assert "min_agreement = 0.999" in lines[0]
    assert lines[1].startswith("kl is ")
    assert "max_kl = 1e-06" in lines[1]
    assert "cosine" in text
    assert "95 % interval" in text


def test_each_limit_is_held_alone(models):
    testing.assert_accuracy(*models, ROWS, min_agreement=0.5)
    with pytest.raises(AssertionError, match="accuracy_drop"):
        testing.assert_accuracy(*models, ROWS, labels=[0] * 100, max_accuracy_drop=-1)


def test_limits_that_cannot_be_judged(models):
    with pytest.raises(ValueError, match="no limit"):
        testing.assert_accuracy(*models, ROWS)
    with pytest.raises(ValueError, match=r"max_accuracy_drop.*labels"):
        testing.assert_accuracy(*models, ROWS, max_accuracy_drop=0.1)
    with pytest.raises(ValueError, match="max_perplexity_ratio"):
        testing.assert_accuracy(*models, ROWS, max_perplexity_ratio=1.1)
    with pytest.raises(TypeError, match="max_kl"):
        testing.assert_accuracy(*models, ROWS, max_kl="0.1")
    with pytest.raises(ValueError, match="max_kl"):
        testing.assert_accuracy(*models, ROWS, max_kl=float("nan"))


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": 1}, {"group_size": 4}, {"dtype": "uint8"}])
def test_close_arrays_pass_and_the_worst_element_is_named(x, options):
    q = qlm.quantize(x, **options)
    stats = q.error(x)
    testing.assert_quantized_close(q, x, max_abs=stats.max_abs, min_sqnr_db=stats.sqnr_db, min_cosine=stats.cosine)
    other = x.copy()
    other[4, 7] += 3
    with pytest.raises(AssertionError) as failure:
        testing.assert_quantized_close(q, other, max_abs=0.5, min_sqnr_db=60, min_cosine=0.1)
    first, second, worst = str(failure.value).splitlines()
    assert first.startswith("max_abs is ")
    assert "max_abs = 0.5" in first
    assert second.startswith("sqnr_db is ")
    assert worst.startswith(f"worst element [4, 7]: {other[4, 7]!s} became {q.dequantize()[4, 7]!s}, off by ")
    scale = np.broadcast_to(
        np.repeat(q.scale, 4, axis=1)[:, :10] if q.group_size else np.expand_dims(q.scale, 1 - (q.axis or 0))
        if q.axis is not None else q.scale, x.shape
    )  # fmt: skip
    assert worst.endswith(f"code {q.values[4, 7]}, scale {scale[4, 7]!s}")


def test_bad_arguments_of_close(x):
    q = qlm.quantize(x)
    with pytest.raises(ValueError, match="shape"):
        testing.assert_quantized_close(q, x[:3], max_abs=1)
    with pytest.raises(ValueError, match="no limit"):
        testing.assert_quantized_close(q, x)
    with pytest.raises(TypeError, match="max_abs"):
        testing.assert_quantized_close(q, x, max_abs=True)
    with pytest.raises(TypeError, match="QTensor"):
        testing.assert_quantized_close(x, x, max_abs=1)


def test_equal_arrays_have_a_cosine_of_exactly_one():
    for seed in range(20):
        q = qlm.quantize(np.random.default_rng(seed).standard_normal((16, 16)), axis=0)
        testing.assert_quantized_close(q, q.dequantize(), max_abs=0, min_cosine=1.0)

"""Estimate as a number, and the intervals against their formulas and their meaning."""

import copy
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from qlm.estimate import Estimate, mean, median, paired_difference, proportion

Z = 1.959963984540054


def test_estimate_works_as_a_float():
    figure = Estimate(0.25, 0.125, 0.5)
    assert isinstance(figure, float)
    assert figure == 0.25
    assert figure <= 0.25
    assert figure > 0.2
    assert figure < 1
    assert figure != 0.5
    assert figure + 1 == 1.25
    assert 1 - figure == 0.75
    assert figure * 2 == 0.5
    assert 1 / figure == 4
    assert figure**2 == 0.0625
    assert -figure == -0.25
    assert abs(-figure) == 0.25
    assert divmod(figure, 0.2) == divmod(0.25, 0.2)
    assert float(figure) == 0.25
    assert int(figure) == 0
    assert round(figure, 1) == 0.2
    assert bool(Estimate(0.0)) is False
    assert hash(figure) == hash(0.25)
    assert {figure: 1}[0.25] == 1
    assert f"{figure:.1%}" == "25.0%"
    assert f"{figure}" == "0.25"
    assert str(figure) == "0.25"
    assert f"{figure:8.3f}" == "   0.250"
    assert json.dumps([figure]) == "[0.25]"
    assert np.asarray([figure, 1.0]).dtype == np.float64
    assert np.mean([figure, 0.75]) == 0.5
    assert math.sqrt(figure) == 0.5
    assert Fraction(figure) == Fraction(1, 4)
    assert pytest.approx(0.25) == figure
    assert sorted([Estimate(2.0), Estimate(1.0)]) == [1.0, 2.0]
    assert max(figure, 0.1) == 0.25


def test_estimate_carries_its_interval():
    figure = Estimate(0.9, 0.8, 0.95, min=0.5)
    assert (figure.value, figure.low, figure.high, figure.min) == (0.9, 0.8, 0.95, 0.5)
    assert type(figure.value) is float
    assert repr(figure) == "Estimate(0.9, 0.8, 0.95, min=0.5)"
    assert figure.to_dict() == {"value": 0.9, "low": 0.8, "high": 0.95, "min": 0.5}
    exact = Estimate(4.0)
    assert (exact.low, exact.high, exact.min) == (4.0, 4.0, None)
    assert exact.to_dict() == {"value": 4.0, "low": 4.0, "high": 4.0}
    assert Estimate(math.inf).to_dict() == {"value": None, "low": None, "high": None}


def test_estimate_cannot_be_changed_and_survives_copies():
    figure = Estimate(0.9, 0.8, 0.95, min=0.5)
    with pytest.raises(AttributeError):
        figure.low = 0.0
    for twin in (pickle.loads(pickle.dumps(figure)), copy.copy(figure), copy.deepcopy(figure)):
        assert (twin.value, twin.low, twin.high, twin.min) == (0.9, 0.8, 0.95, 0.5)


@pytest.mark.parametrize("total", [1, 2, 10, 1013])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_proportion_is_wilsons_interval(total, share):
    count = round(share * total)
    figure = proportion(count, total)
    # Wilson's bounds are where the score test is just not rejected: (p - b)^2 = z^2 b (1 - b) / n.
    p = count / total
    for bound in (figure.low, figure.high):
        assert (p - bound) ** 2 == pytest.approx(Z * Z * bound * (1 - bound) / total, abs=1e-12)
    assert 0 <= figure.low <= figure == p <= figure.high <= 1
    assert figure.high - figure.low > 0


def test_proportion_has_the_published_value():
    figure = proportion(81, 263)  # R. G. Newcombe, Statistics in Medicine 1998, table I
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.2553, 0.3662)


def test_paired_difference_against_its_formula():
    figure = paired_difference(12, 5, 200)
    first, second = 13 / 202, 6 / 202
    half = Z * math.sqrt((first + second - (first - second) ** 2) / 202)
    assert figure == 7 / 200
    assert figure.low == pytest.approx(first - second - half, rel=1e-12)
    assert figure.high == pytest.approx(first - second + half, rel=1e-12)


@pytest.mark.parametrize(
    ("only_first", "only_second", "total"), [(0, 0, 1), (1, 0, 1), (0, 0, 1000), (3, 3, 50), (50, 0, 50)]
)
def test_paired_difference_keeps_its_value_inside(only_first, only_second, total):
    figure = paired_difference(only_first, only_second, total)
    assert -1 <= figure.low <= figure <= figure.high <= 1
    assert figure.high - figure.low > 0


def test_paired_difference_covers_the_truth():
    random = np.random.default_rng(0)
    true_first, true_second, texts, rounds = 0.04, 0.02, 300, 400
    covered = 0
    for _ in range(rounds):
        first, second, _ = random.multinomial(texts, [true_first, true_second, 1 - true_first - true_second])
        figure = paired_difference(int(first), int(second), texts)
        covered += figure.low <= true_first - true_second <= figure.high
    assert covered / rounds > 0.92


def test_mean_and_its_bootstrap():
    values = np.random.default_rng(1).gamma(2.0, size=400).tolist()
    figure = mean(values, least=True)
    assert figure == math.fsum(values) / 400
    assert figure.min == min(values)
    error = Z * np.std(values, ddof=1) / 20
    assert figure.low == pytest.approx(figure - error, abs=0.25 * error)
    assert figure.high == pytest.approx(figure + error, abs=0.25 * error)
    assert mean(values, least=True).to_dict() == figure.to_dict()


def test_mean_of_one_value_is_a_point():
    assert mean([0.5]).to_dict() == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_median_takes_order_statistics():
    # Of 10 values the second and ninth hold the median with 1 - 2 * 11 / 1024 = 97.9 %, the third and eighth with 89 %.
    values = [float(value) for value in np.random.default_rng(2).permutation(10)]
    assert median(values).to_dict() == {"value": 4.5, "low": 1.0, "high": 8.0}
    assert median([3.0, 1.0, 2.0]).to_dict() == {"value": 2.0, "low": 1.0, "high": 3.0}
    assert median([7.0]).to_dict() == {"value": 7.0, "low": 7.0, "high": 7.0}


def test_median_covers_the_truth():
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        figure = median(random.exponential(size=25).tolist())
        covered += figure.low <= math.log(2) <= figure.high
    assert covered / 400 > 0.92

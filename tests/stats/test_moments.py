import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from shardwise.stats.moments import Moments
from shardwise.testing.summaries import SummaryConformance


class TestConformance(SummaryConformance):
    def make(self):
        return Moments("x")

    def batch(self, rows, seed):
        values = np.random.default_rng(seed).gamma(2.0, size=rows)
        return pa.record_batch({"x": pa.array(values, mask=values > 4.0)})

    def check_agree(self, found, whole):
        assert found == pytest.approx(whole, rel=1e-8, abs=1e-8, nan_ok=True)


def moments_of(*parts: np.ndarray) -> Moments:
    moments = Moments("x")
    for part in parts:
        moments.update(pa.record_batch({"x": part}))
    return moments


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_agree_with_scipy(scale):
    values = np.random.default_rng(0).gamma(2.0, size=10_000) * scale
    found = moments_of(values[:3], values[3:4000], values[4000:])
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std(ddof=1))
    assert found.skewness == pytest.approx(stats.skew(values))
    assert found.kurtosis == pytest.approx(stats.kurtosis(values))
    assert (found.minimum, found.maximum) == (values.min(), values.max())


def test_a_far_offset_does_not_drown_the_variance():
    values = 1e9 + np.random.default_rng(1).normal(size=100_000)
    assert moments_of(*np.split(values, 10)).std == pytest.approx(values.std(ddof=1), rel=1e-6)


def test_missing_and_infinite_values_are_left_out():
    assert (
        moments_of(np.array([1.0, np.nan, np.inf, 3.0, -np.inf])).result() == moments_of(np.array([1.0, 3.0])).result()
    )


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0], [1e200, -1e200]])
def test_what_is_not_defined_is_nan_and_nothing_warns(values):
    found = moments_of(np.array(values, dtype=np.float64))
    assert np.isnan(found.skewness)
    assert np.isnan(found.kurtosis)


def test_a_constant_has_no_spread():
    assert moments_of(np.full(1000, 0.1), np.full(7, 0.1)).std == 0.0

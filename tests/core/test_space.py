import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.space import Float
from shardwise.models.spaces import SPACES

NARROW = [
    Float(1234567.0, 1234569.0), Float(0.9999991, 0.9999996), Float(1e6 + 1, 1e6 + 2, log=True), Float(3.0, 3.0),
    Float(-2.0000001, -2.0), Float(0.12345678, 0.2),
]  # fmt: skip


@pytest.mark.parametrize("dimension", NARROW, ids=str)
@given(seed=st.integers(0, 2**32), place=st.floats(0.0, 1.0))
def test_what_is_drawn_lies_in_the_range(dimension: Float, seed: int, place: float) -> None:
    drawn = dimension.draw(np.random.default_rng(seed))
    assert dimension.low <= drawn <= dimension.high
    assert dimension.low <= dimension.at(place) <= dimension.high


@pytest.mark.parametrize("dimension", [each for each in NARROW if each.high > each.low], ids=str)
def test_a_narrow_range_of_large_numbers_has_many_values(dimension: Float) -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([dimension.draw(rng) for _ in range(2000)])
    assert len(set(drawn.tolist())) > 500
    middle = (dimension.low + dimension.high) / 2
    assert np.mean(drawn) == pytest.approx(middle, abs=0.1 * (dimension.high - dimension.low))
    assert len({dimension.at(place) for place in np.linspace(0, 1, 200).tolist()}) == 200


def test_values_of_the_families_spaces_have_six_digits() -> None:
    """Results of a seed stay as they are."""
    ranges = [each for space in SPACES.values() for each in space.values() if isinstance(each, Float)]
    assert len(ranges) > 20
    for dimension in ranges:
        rng, again = np.random.default_rng(1), np.random.default_rng(1)
        low, high = np.log([dimension.low, dimension.high]) if dimension.log else (dimension.low, dimension.high)
        for _ in range(50):
            value = again.uniform(low, high)
            assert dimension.draw(rng) == float(f"{np.exp(value) if dimension.log else value:.6g}")

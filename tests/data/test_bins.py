import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import DataError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import dump_state, load_state
from shardwise.data.bins import MAX_BINS, MISSING, Binner

NUMBER = Feature(name="x", source="x", kind=FeatureKind.NUMBER)
CODE = Feature(name="c", source="c", kind=FeatureKind.CODE, cardinality=255)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def fitted(values: np.ndarray, feature: Feature = NUMBER) -> Binner:
    return Binner.fit([feature], np.asarray(values, np.float32)[:, None])


def codes(binner: Binner, values: np.ndarray) -> np.ndarray:
    return binner.codes(np.asarray(values, np.float32)[:, None])[0]


@given(st.lists(finite, min_size=2, max_size=600), st.lists(finite, max_size=50))
def test_a_code_is_at_most_k_exactly_when_the_value_is_at_most_bound_k(seen: list[float], new: list[float]) -> None:
    binner = fitted(np.array(seen))
    values = np.array([*seen, *new], np.float32)
    if len(binner.columns) == 0:
        assert len(np.unique(np.array(seen, np.float32))) == 1
        return
    found, bounds = codes(binner, values), binner.bounds[0]
    assert (np.diff(bounds) > 0).all()
    for k, bound in enumerate(bounds.tolist()):
        np.testing.assert_array_equal(found <= k, values <= bound)


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=1000))
def test_few_values_get_a_bin_each(seen: list[int]) -> None:
    distinct = np.unique(seen)
    if len(distinct) > 1:
        np.testing.assert_array_equal(codes(fitted(np.array(seen)), distinct), np.arange(len(distinct)))


@pytest.mark.parametrize("spike", [0.0, 0.3, 0.9])
def test_bins_hold_even_shares_and_a_spike_has_its_own(spike: float) -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(50_000) < spike, 0.25, rng.lognormal(size=50_000)).astype(np.float32)
    binner = fitted(values)
    counts = np.bincount(codes(binner, values), minlength=MAX_BINS)
    assert len(counts) == MAX_BINS
    place = codes(binner, np.array([0.25]))[0]
    if spike:
        assert counts[place] == (values == np.float32(0.25)).sum()
        counts = np.delete(counts, [place - 1, place, place + 1])
    assert counts[counts > 0].max() < 1.5 * (1 - spike) * 50_000 / 240
    assert (counts > 0).sum() > 240


def test_missing_values_have_a_code_of_their_own() -> None:
    binner = fitted(np.array([1.0, 2.0, np.nan]))
    assert codes(binner, np.array([np.nan, 1.0, 5.0])).tolist() == [MISSING, 0, 1]


def test_a_category_keeps_its_number() -> None:
    numbers = np.arange(255)
    np.testing.assert_array_equal(codes(fitted(np.array([3.0, 4.0]), CODE), numbers), numbers)
    with pytest.raises(DataError, match="256 categories"):
        fitted(np.array([1.0]), Feature(name="c", source="c", kind=FeatureKind.CODE, cardinality=256))


def test_constant_and_redundant_features_have_no_bins() -> None:
    X = np.array([[1, 1, np.nan], [1, 2, np.nan], [1, 3, 1]], np.float32)
    wave = Feature(name="x:hour_sin", source="x", kind=FeatureKind.NUMBER, redundant=True)
    binner = Binner.fit([NUMBER, wave, NUMBER], X)
    assert binner.columns.tolist() == [2]
    assert binner.codes(X).tolist() == [[MISSING, MISSING, 0]]
    assert Binner.fit([NUMBER], np.empty((0, 1), np.float32)).codes(X[:, :1]).shape == (0, 3)


def test_saved_and_restored_is_the_same() -> None:
    binner = fitted(np.random.default_rng(0).normal(size=5000))
    content = dump_state(binner.state())
    again = Binner.from_state(load_state(content))
    assert dump_state(again.state()) == content
    with pytest.raises(DataError, match="format 9"):
        Binner.from_state({**binner.state(), "format": 9})

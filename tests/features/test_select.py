"""What the tests of features find on columns whose worth is known."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import mutual_info_score
from tests.features.tables import BINARY, k_folds, planned

from shardwise.features.recipe import Recipe
from shardwise.features.select import Evidence, binned, copies, information, informations


def test_information_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, 500)
    y = (x + rng.integers(0, 4, 500)) % 5
    assert np.isclose(information(x, y), mutual_info_score(x, y))


def test_bins_hold_about_as_many_rows_and_missing_is_a_bin_of_its_own():
    x = np.random.default_rng(0).lognormal(0, 3, 4800)
    x[:480] = np.nan
    codes = binned(x)
    assert set(codes[:480]) == {0}
    counts = np.bincount(codes)[1:]
    assert len(counts) == 24
    assert counts.max() - counts.min() <= 2


def test_noise_lies_below_its_level_and_signals_above():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    X = np.column_stack(
        [rng.normal(size=(4000, 40)), y + rng.normal(0, 2, 4000), np.where(y & (rng.random(4000) < 0.2), np.nan, 1.0)]
    )
    found, noise = informations(X, y.astype(float), 1, classes=True)
    assert (found[:40] <= noise[:40]).mean() >= 0.9
    assert (found[40:] > noise[40:]).all()


def test_copies_are_found_in_any_scale_and_not_where_rows_differ():
    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    near, holes = x.copy(), x.copy()
    near[:200] = rng.permutation(near[:200])
    holes[:100] = np.nan
    X = np.column_stack([x, -np.exp(x), near, holes, np.log(holes + 10), np.ones(1000), np.ones(1000)])
    found, beside = copies(X, (x > 1).astype(float), 0, classes=True)
    assert found.tolist() == [-1, 0, -1, -1, 3, -1, -1]
    assert not beside.any()


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("rows", [1000, 4000])
def test_what_is_left_of_one_beside_the_other_may_tell(rows: int, classes: bool) -> None:
    """The spread of bid and ask; copies of both go, and curves of one of them."""
    rng = np.random.default_rng(0)
    bid, spread = rng.uniform(50, 150, rows), rng.uniform(0.01, 0.05, rows)
    X = np.column_stack([bid, bid + spread, 2 * bid + 7, -(bid + spread), np.log(bid), bid.round(3)])
    y = spread > 0.03 if classes else spread
    found, beside = copies(X.astype(np.float32), y.astype(np.float64), 0, classes=classes)
    assert found.tolist() == [-1, -1, 0, 1, 0, 0]
    assert beside.tolist() == [True, True, False, False, False, False]
    found, beside = copies(X.astype(np.float32), (bid > 90).astype(np.float64), 0, classes=True)
    assert found.tolist() == [-1, 0, 0, 0, 0, 0]
    assert not beside.any()


def test_a_feature_that_tells_beside_another_is_not_useless() -> None:
    nothing = np.zeros(2)
    evidence = Evidence(
        information=nothing, noise=nothing, importance=nothing, shadow=0.1, copy_of=np.full(2, -1),
        beside=np.array([True, False]),
    )  # fmt: skip
    assert evidence.useless("auto").tolist() == [False, True]


def test_one_test_alone_drops_nothing_but_in_strict():
    evidence = Evidence(
        information=np.array([1.0, 0.0, 0.0]), noise=np.full(3, 0.1), importance=np.array([0.0, 1.0, 0.0]), shadow=0.1,
        copy_of=np.full(3, -1), beside=np.zeros(3, dtype=bool),
    )  # fmt: skip
    assert evidence.useless("auto").tolist() == [False, False, True]
    assert evidence.useless("strict").tolist() == [True, False, True]
    assert "tells nothing" in evidence.says(2, ["a", "b", "c"])


def test_a_recipe_without_features_no_longer_reads_their_columns():
    table = pa.table({"a": np.arange(100.0), "b": np.arange(100.0) ** 2, "y": np.arange(100) % 2})
    recipe = planned(table, BINARY, k_folds(2))
    smaller = recipe.without({"b": "because"})
    assert smaller.inputs == ("a",)
    assert smaller.rejected["b"] == "because"
    again = Recipe.from_state(smaller.state())
    batch = table.to_batches()[0]
    np.testing.assert_array_equal(again.transform(batch.select(["a"])), recipe.transform(batch)[:, :1])

import numpy as np
import pyarrow as pa
import pytest
from tests.features.tables import BINARY, MEAN, fitted, k_folds, whole

from shardwise.core.schema import FeatureKind
from shardwise.core.target import Target, Task
from shardwise.features.encoding import estimated_smoothing
from shardwise.features.recipe import RecipeConfig
from shardwise.features.target_sums import Labels, Visibility

ROWS = 3000


def table_of(target: Target = BINARY, seed: int = 0, kinds: int = 40) -> tuple[pa.Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = rng.geometric(3 / kinds, ROWS)
    texts = [None if value % 11 == 0 else f"v{value}" for value in drawn]
    y = rng.normal(drawn, 5.0) if target is MEAN else (rng.random(ROWS) < 1 / (1 + drawn % 5)).astype(int)
    return pa.table({"c": pa.array(texts), "y": pa.array(y)}), rng.integers(0, 4, ROWS)


def plain(table, folds, seen, smoothing):
    """The encoding of every row by loops: seen[f] are the folds that a row of fold f may see."""
    texts, y = table["c"].to_pylist(), np.asarray(table["y"], dtype=float)
    encoded = np.empty(len(y))
    for row, (text, fold) in enumerate(zip(texts, folds, strict=True)):
        visible = np.isin(folds, seen[fold])
        same = visible & np.array([other == text for other in texts])
        prior = y[visible].mean() if visible.any() else y.mean()
        encoded[row] = (y[same].sum() + smoothing * prior) / (same.sum() + smoothing)
    return encoded


@pytest.mark.parametrize("target", [BINARY, MEAN], ids=["binary", "mean"])
@pytest.mark.parametrize("visible", [k_folds(4), {-1: (0, 1, 2, 3), 0: (), 1: (0,), 2: (0, 1), 3: (0, 1, 2)}])
def test_training_rows_read_the_sums_of_the_folds_that_they_may_see(target, visible):
    table, folds = table_of(target)
    config = RecipeConfig(smoothing=3.0, max_categories=5)
    recipe = fitted(table, folds, target, visible=visible, config=config)
    X = recipe.transform(whole(table), folds=folds)
    assert [feature.kind for feature in recipe.features] == [FeatureKind.ENCODED, FeatureKind.NUMBER]
    np.testing.assert_allclose(X[:, 0], plain(table, folds, visible, 3.0), rtol=1e-5)


def test_hidden_folds_are_seen_by_nobody():
    table, folds = table_of()
    recipe = fitted(table, folds, config=RecipeConfig(smoothing=3.0, max_categories=5))
    seen = {fold: [other for other in range(4) if other not in (fold, 3)] for fold in range(4)}
    X = recipe.transform(whole(table), folds=folds, hidden=[3])
    np.testing.assert_allclose(X[:, 0], plain(table, folds, seen, 3.0), rtol=1e-5)
    changed = table.set_column(1, "y", pa.array(np.where(folds == 3, 1 - np.asarray(table["y"]), table["y"])))
    other = fitted(changed, folds, config=RecipeConfig(smoothing=3.0, max_categories=5))
    np.testing.assert_array_equal(other.transform(whole(table), folds=folds, hidden=[3]), X)


@pytest.mark.parametrize("smoothing", [None, 3.0])
def test_a_row_does_not_see_its_own_target(smoothing):
    table, folds = table_of()
    config = RecipeConfig(smoothing=smoothing, max_categories=5)
    flipped = np.asarray(table["y"]).copy()
    flipped[folds == 2] = 1 - flipped[folds == 2]
    changed = table.set_column(1, "y", pa.array(flipped))
    mine = folds == 2
    first = fitted(table, folds, config=config).transform(whole(table), folds=folds)
    second = fitted(changed, folds, config=config).transform(whole(table), folds=folds)
    np.testing.assert_array_equal(first[mine], second[mine])
    assert not np.array_equal(first[~mine], second[~mine])


def test_new_rows_read_all_folds_unseen_ones_the_prior_and_null_is_a_category():
    table, folds = table_of()
    recipe = fitted(table, folds, config=RecipeConfig(smoothing=3.0, max_categories=5)).sealed()
    X = recipe.transform(pa.record_batch({"c": pa.array(["v1", None, "never seen"])}))
    y, texts = np.asarray(table["y"]), np.array(table["c"].to_pylist(), dtype=object)
    prior = y.mean()
    for row, mask in enumerate([texts == "v1", texts == None]):  # noqa: E711
        assert X[row, 0] == pytest.approx((y[mask].sum() + 3 * prior) / (mask.sum() + 3), rel=1e-5)
        assert X[row, 1] == pytest.approx(np.log1p(mask.sum()), rel=1e-5)
    assert X[2].tolist() == pytest.approx([prior, 0.0], rel=1e-5)


def test_several_classes_get_a_column_each_and_of_many_the_heaviest():
    rng = np.random.default_rng(0)
    classes = tuple("abcdefghijklmn")
    y = rng.choice(classes, ROWS, p=np.arange(14, 0, -1) / 105)
    table = pa.table({"c": pa.array([f"v{n}" for n in rng.integers(0, 50, ROWS)]), "y": pa.array(y)})
    target = Target(column="y", task=Task.MULTICLASS, classes=classes)
    folds = rng.integers(0, 4, ROWS)
    recipe = fitted(table, folds, target, config=RecipeConfig(max_categories=5, encoded_classes=4))
    assert [feature.name for feature in recipe.features] == [*(f"c:target={label}" for label in "abcd"), "c:rows"]
    three = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))
    few = table.filter(pa.array(np.isin(y, ["a", "b", "c"])))
    recipe = fitted(few, folds[: len(few)], three, config=RecipeConfig(max_categories=5))
    X = recipe.transform(whole(few), folds=folds[: len(few)])
    np.testing.assert_allclose(X[:, :3].sum(axis=1), 1.0, rtol=0.2)


def test_smoothing_is_small_when_categories_differ_and_large_when_they_do_not():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, 20_000)
    counts = np.bincount(groups)

    def smoothing(values):
        return estimated_smoothing(np.bincount(groups, weights=values), counts, float((values**2).sum()))

    means = rng.normal(size=200)
    for noise in (0.5, 2.0):
        assert smoothing(means[groups] + rng.normal(0, noise, 20_000)) == pytest.approx(noise**2, rel=0.25)
    assert smoothing(rng.normal(size=20_000)) > 500


def test_labels_of_a_target():
    assert Labels.of(BINARY, 10) == Labels((1,), ("target",))
    assert Labels.of(MEAN, 10) == Labels((), ("target",))


def test_visibility_without_a_test_fold_lets_new_rows_see_all():
    visibility = Visibility({0: (1,), 1: (0,)})
    assert visibility.visible[-1] == (0, 1)
    np.testing.assert_array_equal(visibility.weights(), [[0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(visibility.slots(np.array([1, -1, 0, 5], np.int8)), [1, -1, 0, -1])


def test_a_sealed_recipe_refuses_training_rows():
    table, folds = table_of()
    recipe = fitted(table, folds, config=RecipeConfig(max_categories=5)).sealed()
    with pytest.raises(ValueError, match="sealed"):
        recipe.transform(whole(table), folds=folds)


@pytest.mark.parametrize("kinds", [40, 300, 2000])
@pytest.mark.parametrize("task", ["category", "code"])
def test_noise_scores_like_noise(kinds, task):
    """Neither the encodings alone, nor what a linear model makes of all features, tell anything of a random target."""
    rng = np.random.default_rng(kinds)
    rows = 12_000
    drawn = rng.integers(0, kinds, rows)
    column = pa.array([f"v{n}" for n in drawn]) if task == "category" else pa.array(drawn * 101)
    table = pa.table({"id": column, "z": pa.array(rng.normal(size=rows)), "y": pa.array(rng.integers(0, 2, rows))})
    folds = rng.integers(0, 5, rows)
    recipe = fitted(table, folds, config=RecipeConfig(max_categories=30))
    X, y = recipe.transform(whole(table), folds=folds), np.asarray(table["y"])
    assert {FeatureKind.ENCODED} < {feature.kind for feature in recipe.features}
    scores = np.empty(rows)
    for fold in range(5):
        train, valid = folds != fold, folds == fold
        Z = (X - X[train].mean(axis=0)) / (X[train].std(axis=0) + 1e-9)
        weights = np.linalg.lstsq(Z[train], y[train] - 0.5, rcond=None)[0]
        scores[valid] = Z[valid] @ weights
    assert abs(auc(y, scores) - 0.5) < 0.025


def auc(y, scores):
    ranks = np.argsort(np.argsort(scores)) + 1.0
    positives = y.sum()
    return (ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))

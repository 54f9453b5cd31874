"""A bit for each row gives what LightGBM gives, to the bit, whatever the trees and the rows."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from shardwise.models import trees_bits
from shardwise.models.trees_bits import BitTrees
from shardwise.models.trees_parsed import parse_trees
from shardwise.models.trees_text import ModelText

ROWS = 1500


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, many zeros, codes of two categories, and missing values everywhere."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(ROWS, 6)).astype(np.float32)
    X[:, 3] = rng.integers(0, 70, ROWS)
    X[:, 4] = rng.integers(0, 5, ROWS)
    X[:, 5] = np.where(rng.random(ROWS) < 0.6, 0.0, X[:, 5])
    y = X[:, 0] * X[:, 1] + np.sin(3 * X[:, 2]) + (X[:, 3] % 3) + 0.2 * X[:, 5] + 0.1 * rng.normal(size=ROWS)
    X[rng.random(X.shape) < 0.05] = np.nan
    return X, y


def trained(leaves: int, rounds: int = 15, classes: int = 0, **params: Any) -> lgb.Booster:
    X, y = table()
    label = y if not classes else np.digitize(y, np.quantile(y, np.linspace(0, 1, classes + 1)[1:-1]))
    task = {"objective": "multiclass", "num_class": classes} if classes else {"objective": "regression"}
    settings = {"num_leaves": leaves, "min_data_in_leaf": 2, "verbosity": -1, "num_threads": 1, **task, **params}
    return lgb.train(settings, lgb.Dataset(X, label, categorical_feature=[3, 4], params={"verbosity": -1}), rounds)


def strange_rows() -> np.ndarray:
    """Categories that were never seen, thresholds hit exactly, infinities."""
    X, _ = table(1)
    X[:50, 3], X[50:100, 3], X[100:150, 4] = 500, -3, 4.7
    X[150:160, 0], X[160:170, 0], X[170:180] = np.inf, -np.inf, np.nan
    X[:, 1] = table(0)[0][:, 1]
    return X


@pytest.mark.parametrize("leaves", [2, 8, 31, 33, 64, 65, 257, 700])
@pytest.mark.parametrize("params", [{}, {"zero_as_missing": True}, {"use_missing": False}], ids=str)
def test_equals_lightgbm_to_the_bit(leaves: int, params: dict[str, Any]) -> None:
    booster, X = trained(leaves, **params), strange_rows()
    bits = BitTrees(ModelText.of(booster).trees, 1, rounds=10**6)
    expected = booster.predict(X, raw_score=True, num_threads=1)
    np.testing.assert_array_equal(bits(X, 1)[:, 0], expected)
    np.testing.assert_array_equal(bits(np.asfortranarray(X), 1)[:, 0], expected)


def test_numbers_that_lightgbm_reads_as_zero_are_read_so() -> None:
    """Beside a threshold that lies among them."""
    x = np.array([2e-38, 5e-37, 2e-36, 8e-36, 9e-36, 2e-35, 1.0], np.float32)
    X = np.concatenate([x, -x, [0.0]])[:, None].repeat(30, axis=0).astype(np.float32)
    y = (X[:, 0] > 3e-36) + 2.0 * (X[:, 0] > 1.5e-35)
    settings = {
        "objective": "regression",
        "num_leaves": 8,
        "min_data_in_leaf": 1,
        "min_data_in_bin": 1,
        "verbosity": -1,
    }
    text = lgb.train(settings, lgb.Dataset(X, y, params=settings), 5).model_to_string()
    thresholds = [line for line in text.splitlines() if line.startswith("threshold=")]
    text = "\n".join(line for line in text.split("\n") if not line.startswith("tree_sizes="))  # they are others then
    text = text.replace(thresholds[0], "threshold=" + " ".join("5e-36" for _ in thresholds[0].split("=")[1].split()))
    booster = lgb.Booster(model_str=text)
    expected = booster.predict(X, raw_score=True, num_threads=1)
    np.testing.assert_array_equal(BitTrees(ModelText.parse(text).trees, 1, rounds=10**6)(X, 1)[:, 0], expected)


@pytest.mark.parametrize("rounds", [1, 4, 100])
def test_trees_of_several_classes_are_added_block_by_block(rounds: int) -> None:
    booster, X = trained(7, classes=3), strange_rows()
    total: Any = 0.0
    for start in range(0, booster.current_iteration(), rounds):
        total = total + booster.predict(X, raw_score=True, start_iteration=start, num_iteration=rounds, num_threads=1)
    np.testing.assert_array_equal(BitTrees(ModelText.of(booster).trees, 3, rounds)(X, 1), total)


def test_a_row_gets_the_same_bits_in_any_block_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, X = trained(31), strange_rows()
    whole = BitTrees(ModelText.of(booster).trees, 1, 5)(X, 1)
    monkeypatch.setattr(trees_bits, "BLOCK_ROWS", 64)
    monkeypatch.setattr(trees_bits, "GROUP_SPLITS", 100)
    monkeypatch.setattr(trees_bits, "ADDED", 3)
    bits = BitTrees(ModelText.of(booster).trees, 1, 5)
    np.testing.assert_array_equal(bits(X, 1), whole)
    np.testing.assert_array_equal(bits(X, 3), whole)
    np.testing.assert_array_equal(np.concatenate([bits(row[None], 1) for row in X[:40]]), whole[:40])


def test_a_tree_without_a_split_is_a_constant() -> None:
    X = np.zeros((300, 2), np.float32)
    booster = lgb.train(
        {"verbosity": -1, "objective": "regression"}, lgb.Dataset(X, np.full(300, 2.5), params={"verbosity": -1}), 2
    )
    expected = booster.predict(X, raw_score=True)
    np.testing.assert_array_equal(BitTrees(ModelText.of(booster).trees, 1, 9)(X, 1)[:, 0], expected)


@pytest.mark.parametrize("rows", [1, 63, 1000, trees_bits.BLOCK_ROWS + 1])
def test_blocks_of_any_size_are_worked_on_in_memory_without_gaps(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy copies the whole of what it takes rows from where it has gaps, for each level and bit."""
    seen = []
    take = np.take

    def spy(source: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        if source.dtype == np.uint64:
            seen.append(source.flags.c_contiguous and kwargs["out"].flags.c_contiguous)
        return take(source, *args, **kwargs)

    monkeypatch.setattr(np, "take", spy)
    booster = trained(12)
    BitTrees(ModelText.of(booster).trees, 1, 100)(np.resize(table()[0], (rows, 6)).astype(np.float32), 1)
    assert seen
    assert all(seen)


def test_trees_with_too_many_conditions_are_walked_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, X = trained(31, classes=3), strange_rows()
    texts = list(ModelText.of(booster).trees)
    whole = BitTrees(texts, 3, 4)(X, 1)
    made = []
    conditions = trees_bits.Conditions

    def spy(trees: Any) -> Any:
        made.append(conditions(trees))
        return made[-1]

    monkeypatch.setattr(trees_bits, "Conditions", spy)
    monkeypatch.setattr(trees_bits, "MOST_CONDITIONS", 300)
    np.testing.assert_array_equal(BitTrees(texts, 3, 4)(X, 2), whole)
    assert len(made) > 3
    assert made[0].total > 300


def test_a_condition_that_trees_share_is_evaluated_once() -> None:
    """Twice the same trees have as many conditions as these once."""
    texts = list(ModelText.of(trained(31)).trees)
    once, twice = (trees_bits.Conditions(list(parse_trees(texts * times))) for times in (1, 2))
    assert once.total == twice.total
    assert len(twice.of_split) == 2 * len(once.of_split)

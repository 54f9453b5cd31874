"""Probes find what the split is for, and what leaks; on clean data they are silent."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import DataError
from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.features.recipe import Recipe
from shardwise.split.base import TEST, Splitter
from shardwise.split.given import ColumnSplitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.hashed import HashSplitter, Shares
from shardwise.split.temporal import TemporalSplitter
from shardwise.train import probing

BINARY = Target(column="y", task=Task.BINARY, classes=(0, 1))
TIME = TemporalSplitter("when", [0.5, 0.6, 0.8], 2)


def rows(count: int = 4000, seed: int = 0, *, drift: float = 0.0, groups: int = 80) -> pa.Table:
    """`a` tells the target, `b` moves with time by `drift`, `town` shares a secret among the rows of a group."""
    rng = np.random.default_rng(seed)
    when, group = rng.random(count), rng.integers(0, groups, count)
    secret, mark = rng.normal(size=groups), rng.normal(size=groups)
    a, b = rng.normal(size=count), rng.normal(size=count) + drift * when
    y = (a + 2 * secret[group] + rng.normal(0, 0.5, count) > 0).astype(int)
    return pa.table({"when": when, "group": group, "a": a, "b": b, "mark": mark[group], "y": y,
                     "kind": rng.choice([f"k{i}" for i in range(300)], count)})  # fmt: skip


def apart(table: pa.Table, splitter: Splitter) -> tuple[pa.Table, pa.Table]:
    """Rows outside the test, and those of the test."""
    is_test = splitter.assign(table.combine_chunks().to_batches()[0], 0) == TEST
    return table.filter(pa.array(~is_test)), table.filter(pa.array(is_test))


def plan(profile: Profile, visible: Mapping[int, Sequence[int]]) -> Recipe:
    return Recipe.plan(profile.schema, profile, target=BINARY, exclude={"y", "group"}, visible=visible)


def test_a_test_that_drifts_is_told_apart_and_the_column_is_named() -> None:
    (found,) = probing.told_apart(*apart(rows(drift=6.0), TIME), TIME, hidden={"y", "when", "group"})
    assert found.severity == "warning"
    assert found.columns == ("b",)
    assert found.evidence["low"] > 0.8


def test_a_small_test_of_many_rows_is_told_apart_too() -> None:
    opened, sealed = apart(rows(60_000, drift=6.0), TIME)
    small = sealed.slice(0, 100)  # of a sample of all rows there would be 20
    (found,) = probing.told_apart(opened, small, TIME, hidden={"y", "when", "group"})
    assert (found.columns[0], found.severity) == ("b", "warning")


def test_without_drift_the_auc_is_a_half_and_nothing_is_warned_of() -> None:
    (found,) = probing.told_apart(*apart(rows(), TIME), TIME, hidden={"y", "when", "group"})
    assert found.severity == "info"
    assert found.evidence["low"] < 0.5 < found.evidence["high"] + 0.02


def test_groups_do_not_tell_each_others_fold() -> None:
    splitter = GroupSplitter("group", shares=Shares(folds=4, test=0.2))
    (found,) = probing.told_apart(*apart(rows(groups=400), splitter), splitter, hidden={"y", "group"})
    assert found.severity == "info"


def test_folds_that_were_given_are_not_said_to_be_groups() -> None:
    table = rows().append_column("part", pa.array(np.arange(4000) % 5 - 1))
    splitter = ColumnSplitter("part", 4)
    (found,) = probing.told_apart(*apart(table, splitter), splitter, hidden={"y", "part"})
    assert found.text.startswith("Rows of the test that was given are told")


def test_a_random_split_needs_no_probe() -> None:
    splitter = HashSplitter(["a"], shares=Shares(folds=4, test=0.2))
    assert list(probing.told_apart(*apart(rows(), splitter), splitter, hidden={"y"})) == []
    assert list(probing.score_gap(rows(), BINARY, splitter, hidden={"y"})) == []


def test_the_gap_between_random_rows_and_new_groups_is_told() -> None:
    splitter = GroupSplitter("group", shares=Shares(folds=4, test=0.2))
    (found,) = probing.score_gap(rows(), BINARY, splitter, hidden={"y", "group"})
    assert found.evidence["gap"] > 0.15
    assert "groups that it has not seen" in found.text


@pytest.mark.parametrize("seed", range(3))
def test_a_permuted_target_tells_nothing_of_a_clean_pipeline(seed: int) -> None:
    assert list(probing.permuted_target(rows(seed=seed), BINARY, plan, seed=seed)) == []


def test_a_feature_that_sees_its_own_target_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: Recipe, batch: pa.RecordBatch, **_: object) -> np.ndarray:
        return whole(self, batch)  # as if the rows were new: their own targets count in the encoding of `kind`

    whole = Recipe.transform
    monkeypatch.setattr(Recipe, "transform", careless)
    (found,) = probing.permuted_target(rows(), BINARY, plan, seed=0)
    assert found.severity == "leak"
    assert found.code == "permuted_target"


def test_a_sample_of_which_no_recipe_is_made_ends_no_training() -> None:
    def refuses(profile: Profile, visible: Mapping[int, Sequence[int]]) -> Recipe:
        raise DataError("no column is left to learn from")

    (found,) = probing.permuted_target(rows(), BINARY, refuses, seed=0)
    assert found.severity == "info"
    assert "not looked at" in found.text


def test_what_a_gap_costs_is_bounded_whatever_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 classes the heaviest are learned, and the gap is still seen."""
    table = rows(20_000, groups=2000)
    classes = tuple(f"c{number:03d}" for number in range(300))
    labels = pa.array([classes[group % 300] for group in table["group"].to_pylist()])
    table = table.set_column(table.column_names.index("y"), "y", labels)
    target = Target(column="y", task=Task.MULTICLASS, classes=classes)
    learned = []
    small = probing.small_power
    monkeypatch.setattr(
        probing, "small_power", lambda X, had, *rows: learned.append(had.n_classes) or small(X, had, *rows)
    )
    splitter = GroupSplitter("group", shares=Shares(folds=4, test=0.2))
    (found,) = probing.score_gap(table, target, splitter, hidden={"y", "group"})
    assert learned == [20, 20]
    assert found.evidence["gap"] > 0.15
    assert "among the 20 heaviest classes" in found.text

"""Leaks in columns that are mostly missing, in samples of very many rows, and of very many classes."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.findings import Finding
from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.split import groups
from shardwise.split.hashed import PositionSplitter
from shardwise.split.leaks import find_leaks
from shardwise.split.probes import MOST_CLASSES, Labels, Probe, cells_of

ROWS = 3000
BINARY = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
MEAN = Target(column="y", task=Task.REGRESSION)


def profile_of(table: pa.Table, sample_rows: int) -> Profile:
    profile = Profile(table.schema, sample_rows=sample_rows)
    for batch in table.to_batches(max_chunksize=10_000):
        profile.update(batch)
    return profile


def holed(values: np.ndarray, share: float, seed: int = 0) -> pa.Array:
    """Known in a share of the rows, drawn without regard to the value."""
    return pa.array(values, mask=np.random.default_rng(seed).random(len(values)) > share)


def told(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


@pytest.mark.parametrize("share", [0.6, 0.45, 0.3, 0.1])
def test_copies_are_found_where_they_are_known(share: float) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=ROWS)
    y = a + rng.normal(size=ROWS)
    for target, values in ((BINARY, (y > 0).astype(float)), (MEAN, y)):
        label = target.decode(values) if target.task.is_classification else pa.array(values)
        for code, copied in (("target_copy", values * 3), ("near_copy", values + rng.normal(size=ROWS) * 0.05)):
            found = told(find_leaks(pa.table({"a": a, "z": holed(copied, share), "y": label}), target))
            assert list(found) == [code]
            assert found[code].severity == "leak"
            assert abs(found[code].evidence["known"] - share) < 0.05
            assert f"where it is known ({found[code].evidence['known']:.0%} of rows)" in found[code].text


def test_the_same_quantity_is_suspected_where_it_is_known() -> None:
    rng = np.random.default_rng(4)
    pay = rng.lognormal(10, 0.5, ROWS)
    paid = np.where(rng.random(ROWS) < 0.7, pay * rng.normal(1, 0.02, ROWS), rng.uniform(0, 2 * pay.mean(), ROWS))
    grade = np.digitize(pay * rng.lognormal(0, 0.2, ROWS), [15e3, 25e3, 35e3])
    found = told(find_leaks(pa.table({"paid": holed(paid, 0.3), "grade": grade, "y": pay}), MEAN))
    assert 0.6 < found["same_quantity"].evidence["share"] < 0.8


def test_a_few_rows_that_agree_by_chance_are_no_copy() -> None:
    y = np.zeros(ROWS)
    y[:6] = 1
    few = np.where(np.arange(ROWS) < 300, y, np.nan)  # of the rare class fewer rows than tell
    data = pa.table({"x": np.random.default_rng(0).normal(size=ROWS), "z": pa.array(few, from_pandas=True),
                     "y": BINARY.decode(y)})  # fmt: skip
    assert "target_copy" not in told(find_leaks(data, BINARY))


@pytest.mark.parametrize("seed", range(3))
def test_two_rows_of_a_class_make_no_leak_of_many_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.zeros(2000)
    y[rng.permutation(2000)[:2]] = 1
    noise = {f"c{i}": holed(rng.normal(size=2000), 0.9, i) for i in range(350)}
    found = find_leaks(pa.table({**noise, "y": BINARY.decode(y)}), BINARY)
    assert [finding.code for finding in found if finding.severity != "info"] == []


def customers(rows: int, groups: int) -> pa.Table:
    """Rows in random order; each customer has a secret that tells the target."""
    rng = np.random.default_rng(0)
    who = rng.permutation(rows) % groups
    secret = 2 * rng.normal(size=groups)
    y = (secret[who] + rng.normal(size=rows) > 0).astype(float)
    return pa.table({"x": rng.normal(size=rows), "customer": [f"c{w}" for w in who], "y": BINARY.decode(y)})


def test_groups_are_found_though_the_sample_holds_one_row_of_most() -> None:
    profile = profile_of(customers(60_000, 6_000), 4000)
    assert len(set(profile.sample()["customer"].to_pylist())) > 2500
    found = told(find_leaks(profile.sample(), BINARY, profile=profile))
    assert list(found) == ["group_ignored"]
    assert abs(found["group_ignored"].evidence["rows_each"] - 10) < 1


def test_where_the_sample_holds_no_two_rows_of_a_group_that_is_said() -> None:
    table = customers(60_000, 6_000)
    profile = profile_of(table, 60_000)
    _, first = np.unique(table["customer"].to_numpy(zero_copy_only=False), return_index=True)
    found = told(find_leaks(table.take(pa.array(np.sort(first))), BINARY, profile=profile))
    assert {code: finding.severity for code, finding in found.items()} == {"group_column": "info"}


def test_copies_of_whole_rows_are_told_by_the_profile_where_a_sample_sees_none() -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=40_000), "y": BINARY.decode(rng.integers(0, 2, 40_000).astype(float))})
    doubled = pa.concat_tables([table, table.slice(0, 8_000)])
    profile = profile_of(doubled, 300)
    found = told(find_leaks(profile.sample(), BINARY, splitter=PositionSplitter(), profile=profile))
    assert found["copies_across_folds"].evidence["twins"] < 3
    assert (
        0.08 < found["copies_across_folds"].evidence["share"] < 0.17
    )  # a sixth of the rows, four fifths of them apart
    profile = profile_of(table, 300)
    assert find_leaks(profile.sample(), BINARY, splitter=PositionSplitter(), profile=profile) == []


def test_missing_is_the_cell_after_the_last() -> None:
    numbers = np.random.default_rng(0).normal(size=50_000)
    numbers[:7] = np.nan
    cells = cells_of(numbers, is_category=False)
    assert set(cells[:7]) == {cells[7:].max() + 1}
    assert cells.max() <= 1024
    assert cells_of(np.array([5.0, np.nan, 7.0]), is_category=True).tolist() == [0, 2, 1]


def test_errors_that_are_avoided_are_those_of_a_table_of_cells_and_classes() -> None:
    rng = np.random.default_rng(0)
    for classes in (3, 40):
        y, half = rng.integers(0, classes, 2000), rng.integers(0, 2, 2000)
        cells = np.where(rng.random(2000) < 0.3, y, rng.integers(0, 60, 2000))
        target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(classes)))
        hits = 0
        for own in (0, 1):
            table = np.zeros((int(cells.max()) + 1, classes))
            np.add.at(table, (cells[half != own], y[half != own]), 1.0)
            guess = (table + 1e-3 * table.sum(axis=0) / table.sum()).argmax(axis=1)
            hits += int((guess[cells[half == own]] == y[half == own]).sum())
        base = np.bincount(y).max() / 2000
        power = Labels(target=target, y=y.astype(float), half=half).power(cells)
        assert power == pytest.approx(max(0.0, (hits / 2000 - base) / (1 - base)))


def test_the_work_does_not_grow_with_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 classes the heaviest are learned; copies and groups are still found."""
    rng = np.random.default_rng(0)
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(f"c{number:03d}" for number in range(500)))
    who = rng.integers(0, 2000, 20_000)
    y = np.where(rng.random(20_000) < 0.8, who % 500, rng.integers(0, 500, 20_000))
    near = np.where(rng.random(20_000) < 0.99, y, rng.integers(0, 500, 20_000))
    outputs = []
    small = groups.small_power
    monkeypatch.setattr(
        groups, "small_power", lambda X, labels, *rows: outputs.append(X.shape) or small(X, labels, *rows)
    )
    times = pa.array(np.arange(20_000)).cast(pa.timestamp("s"))
    table = pa.table({"x": holed(rng.normal(size=20_000), 0.7), "patient": who, "near": near, "when": times,
                      "y": target.decode(y.astype(float))})  # fmt: skip
    found = told(find_leaks(table, target))
    assert {"near_copy", "group_ignored"} <= set(found)
    assert "among the 20 heaviest classes" in found["group_ignored"].text
    assert outputs
    assert all(width <= MOST_CLASSES + 3 for _, width in outputs)


def test_the_heaviest_classes_are_numbered_anew() -> None:
    counts = np.r_[np.full(30, 2), 9, np.full(20, 5)]
    y = np.repeat(np.arange(51), counts).astype(float)
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(f"c{number:02d}" for number in range(51)))
    labels, rows = Labels.of(target, y, 0).heaviest()
    assert labels.target.classes == tuple(f"c{number:02d}" for number in range(30, 50))
    assert labels.left_out == 31
    np.testing.assert_array_equal(y[rows] - 30, labels.y)
    probe = Probe(name="x", values=y, is_category=False, is_time=False, is_whole=True, distinct=51)
    assert 0.0 <= Labels.of(target, y, 0).drift_of(probe) <= 1.0

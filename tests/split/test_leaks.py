"""Planted leaks are found, and clean data gives no alarm."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.split.hashed import HashSplitter, PositionSplitter
from shardwise.split.leaks import LeakConfig, find_leaks

ROWS = 3000
TARGETS = {
    "binary": Target(column="y", task=Task.BINARY, classes=("no", "yes")),
    "multiclass": Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c")),
    "regression": Target(column="y", task=Task.REGRESSION),
    "count": Target(column="y", task=Task.COUNT),
}


def numbers(task: str, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Encoded target and honest features."""
    rng = np.random.default_rng(seed)
    features = {"a": rng.normal(size=ROWS), "b": rng.integers(0, 5, ROWS), "c": rng.exponential(size=ROWS)}
    signal = features["a"] + 0.5 * features["b"] + rng.normal(size=ROWS)
    if task == "binary":
        return (signal > 1.5).astype(float), features
    if task == "multiclass":
        return np.digitize(signal, [0.3, 1.8]).astype(float), features
    if task == "count":
        return rng.poisson(np.exp(signal / 2)).astype(float), features
    return signal * 100, features


def table(task: str, **more) -> pa.Table:
    y, features = numbers(task)
    return pa.table(
        {**features, **more, "y": pa.array(y) if task in ("regression", "count") else TARGETS[task].decode(y)}
    )


def codes(task: str, **more) -> dict[str, str]:
    """Code -> severity of what is found."""
    return {finding.code: finding.severity for finding in find_leaks(table(task, **more), TARGETS[task])}


@pytest.mark.parametrize("task", TARGETS)
def test_clean_data_gives_no_alarm(task: str) -> None:
    rng = np.random.default_rng(1)
    honest = {"id": np.arange(ROWS), "town": [f"t{i}" for i in rng.integers(0, 300, ROWS)], "note": ["x"] * ROWS}
    assert codes(task, **honest) == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_gives_no_alarm_by_chance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.zeros(ROWS)
    y[rng.permutation(ROWS)[:6]] = 1
    noise = {f"c{i}": rng.normal(size=ROWS) for i in range(20)}
    more = {"id": np.arange(ROWS), "when": np.datetime64("2024-01-01") + rng.integers(0, 300, ROWS),
            "customer_id": rng.integers(0, 300, ROWS)}  # fmt: skip
    found = find_leaks(pa.table({**noise, **more, "y": TARGETS["binary"].decode(y)}), TARGETS["binary"])
    assert [finding.code for finding in found if finding.severity != "info"] == []
    copied = find_leaks(pa.table({**noise, "z": y * 2, "y": TARGETS["binary"].decode(y)}), TARGETS["binary"])
    assert [finding.code for finding in copied] == ["target_copy"]


@pytest.mark.parametrize("task", TARGETS)
def test_copies_are_found_however_they_are_written(task: str) -> None:
    y, _ = numbers(task)
    assert codes(task, z=y * -3.5 + 2) == {"target_copy": "leak"}
    assert codes(task, z=[f"${v:,.3f}" for v in y * 1000]) == {"target_copy": "leak"}
    if task == "regression":
        assert codes(task, z=np.exp(y / 500)) == {"target_copy": "leak"}
    else:
        assert codes(task, z=[f"label {v:.0f}" for v in y]) == {"target_copy": "leak"}


@pytest.mark.parametrize("task", TARGETS)
def test_noisy_copies_are_found(task: str) -> None:
    rng = np.random.default_rng(2)
    y, _ = numbers(task)
    assert codes(task, z=y + rng.normal(size=ROWS) * y.std() * 0.08) == {"near_copy": "leak"}


def test_what_is_filled_in_afterwards_is_found() -> None:
    rng = np.random.default_rng(3)
    y, _ = numbers("binary")
    refund = np.where((y == 1) & (rng.random(ROWS) > 0.02), rng.gamma(2, 50, ROWS), np.nan)
    assert codes("binary", refund=pa.array(refund, from_pandas=True)) in (
        {"near_copy": "leak"},
        {"missing_tells_target": "leak"},
    )
    status = [f"done-{rng.integers(3)}" if v else f"open-{rng.integers(3)}" for v in y]
    assert codes("binary", status=status) == {"near_copy": "leak"}


def test_the_same_quantity_measured_again_is_suspected() -> None:
    rng = np.random.default_rng(4)
    pay = rng.lognormal(10, 0.5, ROWS)
    paid = np.where(rng.random(ROWS) < 0.7, pay * rng.normal(1, 0.02, ROWS), rng.uniform(0, 2 * pay.mean(), ROWS))
    data = pa.table(
        {"paid": paid, "grade": np.digitize(pay * rng.lognormal(0, 0.2, ROWS), [15e3, 25e3, 35e3]), "y": pay}
    )
    assert "same_quantity" in {finding.code for finding in find_leaks(data, TARGETS["regression"])}


def test_an_outstanding_column_is_suspected() -> None:
    rng = np.random.default_rng(5)
    y, _ = numbers("regression")
    found = find_leaks(table("regression", late=y + rng.normal(size=ROWS) * y.std() * 0.3), TARGETS["regression"])
    assert [(finding.code, finding.columns) for finding in found] == [("known_afterwards", ("late",))]


@pytest.mark.parametrize("task", TARGETS)
def test_a_number_of_the_row_that_knows_the_target(task: str) -> None:
    y, _ = numbers(task)
    order = np.argsort(np.argsort(y + 0.05 * y.std() * np.random.default_rng(6).random(ROWS)))
    assert codes(task, id=order) == {"id_tells_target": "leak"}


def test_rows_of_one_group_that_share_the_target() -> None:
    rng = np.random.default_rng(7)
    who = rng.integers(0, 150, ROWS)
    labels = TARGETS["multiclass"].decode(rng.integers(0, 3, 150)[who])
    data = pa.table({"x": rng.normal(size=ROWS), "recording": [f"r{w}" for w in who], "y": labels})
    (finding,) = find_leaks(data, TARGETS["multiclass"])
    assert (finding.code, finding.severity, finding.columns) == ("group_tells_target", "leak", ("recording",))
    assert "--group recording" in finding.hint
    assert find_leaks(data, TARGETS["multiclass"], group="recording") == []


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_groups_that_a_random_split_tears_apart(task: str, as_text: bool) -> None:
    rng = np.random.default_rng(8)
    who = rng.integers(0, 150, ROWS)
    hidden = rng.normal(size=150)[who] * 2 + rng.normal(size=ROWS)
    y = pa.array(hidden) if task == "regression" else TARGETS[task].decode((hidden > 0).astype(float))
    patient = [f"p{w}" for w in who] if as_text else rng.permutation(150)[who]
    data = pa.table({"x": rng.normal(size=ROWS), "u": rng.normal(size=ROWS), "patient": patient, "y": y})
    found = find_leaks(data, TARGETS[task])
    assert [(finding.code, finding.severity) for finding in found] == [("group_ignored", "warning")]
    assert found[0].evidence["random"] > found[0].evidence["grouped"] + 0.15


def test_time_that_is_ignored() -> None:
    rng = np.random.default_rng(9)
    when = rng.integers(0, 1000, ROWS)
    data = pa.table(
        {
            "x": rng.normal(size=ROWS),
            "day": pa.array(when.astype("datetime64[D]")),
            "y": when / 300 + rng.normal(size=ROWS),
        }
    )
    assert [f.code for f in find_leaks(data, TARGETS["regression"])] == ["time_ignored"]
    assert find_leaks(data, TARGETS["regression"], time_column="day") == []
    calm = data.set_column(2, "y", pa.array(rng.normal(size=ROWS)))
    assert [(f.code, f.severity) for f in find_leaks(calm, TARGETS["regression"])] == [("time_column", "info")]


def test_copies_across_folds() -> None:
    data = table("binary")
    doubled = pa.concat_tables([data, data.slice(0, 300)]).append_column("id", pa.array(np.arange(ROWS + 300)))
    torn = [f for f in find_leaks(doubled, TARGETS["binary"], splitter=PositionSplitter()) if f.columns == ()]
    assert [finding.code for finding in torn] == ["copies_across_folds"]
    assert 0.1 < torn[0].evidence["share"] < 0.25
    together = HashSplitter(["a", "b", "c"])
    assert find_leaks(doubled, TARGETS["binary"], splitter=together) == []


def test_a_sample_hides_twins_and_the_finding_says_so() -> None:
    data = table("binary")
    doubled = pa.concat_tables([data, data])
    profile = Profile(doubled.schema)
    for batch in doubled.to_batches():
        profile.update(batch)
    sample = doubled.take(pa.array(np.random.default_rng(0).permutation(2 * ROWS)[:ROWS]))
    (finding,) = find_leaks(sample, TARGETS["binary"], splitter=PositionSplitter(), profile=profile)
    assert finding.evidence["sample_share"] == 0.5
    assert finding.evidence["share"] > 0.6


def test_ignored_columns_are_not_looked_at() -> None:
    y, _ = numbers("regression")
    assert find_leaks(table("regression", z=y), TARGETS["regression"], ignore=["z"]) == []


def test_findings_do_not_depend_on_the_run() -> None:
    rng = np.random.default_rng(10)
    data = table("count", who=[f"c{i}" for i in rng.integers(0, 100, ROWS)])
    first, second = (find_leaks(data, TARGETS["count"], config=LeakConfig(group_gap=-1)) for _ in range(2))
    assert [f.to_json() for f in first] == [f.to_json() for f in second] != []


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(60),
        pa.array([[1]] * 60),
        pa.array([None] * 60, pa.string()),
        pa.array([b"x"] * 60),
        pa.array([float("inf"), float("nan")] * 30),
        pa.array([True, None] * 30),
        pa.array(["2020-01-01", "soon"] * 30),
        pa.array(["é", "🙂"] * 30).dictionary_encode(),
        pa.array([2**63, 5] * 30, pa.uint64()),
    ],
)
def test_odd_columns_do_no_harm(column: pa.Array) -> None:
    rng = np.random.default_rng(0)
    data = pa.table({"odd": column, "x": rng.normal(size=60), "y": rng.normal(size=60)})
    assert all(
        finding.severity == "info" for finding in find_leaks(data, TARGETS["regression"], splitter=PositionSplitter())
    )


def test_too_little_to_say_anything() -> None:
    short = table("binary").slice(0, 10)
    assert find_leaks(short, TARGETS["binary"]) == []
    flat = pa.table({"x": np.arange(100.0), "y": [1.0] * 100})
    assert find_leaks(flat, TARGETS["regression"]) == []
    assert find_leaks(pa.table({"y": np.arange(100.0)}), TARGETS["regression"]) == []


def test_classes_that_become_rarer_are_a_drift_though_the_best_guess_stays() -> None:
    """Of five classes one is always the most frequent; the others come and go with time."""
    rng = np.random.default_rng(3)
    place = np.arange(ROWS) / ROWS
    y = np.where(rng.random(ROWS) < 0.5, 0, 1 + np.clip(4 * place + rng.normal(0, 0.5, ROWS), 0, 3.99).astype(int))
    target = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c", "d", "e"))
    data = pa.table({"x": rng.normal(size=ROWS), "y": target.decode(y.astype(float))})
    when = pa.array((place * 1e9).astype(np.int64)).cast(pa.timestamp("s"))
    assert [f.code for f in find_leaks(data.append_column("when", when), target)] == ["time_ignored"]
    mixed = data.append_column("when", when.take(pa.array(rng.permutation(ROWS))))
    assert [f.code for f in find_leaks(mixed, target)] == ["time_column"]

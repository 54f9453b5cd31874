"""Windows: rare false alarms, quick true ones; slow drift in merged windows; suggestions."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.findings import Finding
from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.monitor.judge import SPANS, DriftConfig, DriftMonitor, find_drift, suggested
from shardwise.monitor.windows import Reference, Window, answers_profile, shown_answers
from shardwise.registry.answers import answer_batch

TARGET = Target(column="y", task=Task.BINARY, classes=(False, True))


def inputs(rng, rows, move=0.0):
    return pa.record_batch({
        "a": rng.normal(move, 1.0, rows), "b": rng.lognormal(size=rows),
        "c": rng.choice(["x", "y", "z"], rows), "d": rng.poisson(1.0, rows),
    })  # fmt: skip


def scores(rng, rows, power=1.0):
    p = rng.beta(2.0, 3.0, rows) ** power
    return np.column_stack([1 - p, p])


def window(rng, rows=500, move=0.0, power=1.0):
    batch, answers = inputs(rng, rows, move), shown_answers(TARGET, answer_batch(TARGET, scores(rng, rows, power)))
    made = Window.empty(batch.schema, answers.schema)
    made.add(batch, answers)
    return made


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    batch = inputs(rng, 20_000)
    profile = Profile(batch.schema)
    profile.update(batch)
    return Reference(inputs=profile, answers=answers_profile(TARGET, scores(rng, 20_000)))


def test_null_windows_are_silent(reference):
    rng, monitor = np.random.default_rng(1), DriftMonitor(reference)
    assert [f.text for _ in range(64) for f in monitor.close(window(rng))] == []


def test_a_moved_column_is_named_with_its_sizes(reference):
    found = find_drift(reference, window(np.random.default_rng(2), move=0.8))
    assert {finding.columns for finding in found} == {("a",)}
    assert found[0].code == "drift_distribution"
    assert found[0].evidence["psi"] > 0.25
    assert found[0].evidence["p_value"] < 0.001


def test_answers_that_moved_are_found_where_inputs_did_not(reference):
    found = find_drift(reference, window(np.random.default_rng(3), rows=2000, power=2.0))
    assert {finding.evidence["what"] for finding in found} == {"answer"}


def test_a_slow_drift_shows_in_merged_windows_alone(reference):
    rng, monitor = np.random.default_rng(4), DriftMonitor(reference)
    spans = [
        f.evidence["windows"] for _ in range(16) for f in monitor.close(window(rng, move=0.12)) if f.columns == ("a",)
    ]
    assert spans
    assert min(spans) > 1


def test_a_category_that_has_become_more_frequent_is_found_though_its_psi_is_small():
    rng, shares = np.random.default_rng(7), np.array([0.55, 0.27, 0.18])
    rows = [pa.record_batch({"c": rng.choice(["x", "y", "z"], 20_000, p=p)})
            for p in (shares, shares * 0.9 + np.array([0.1, 0, 0]))]  # fmt: skip
    made = [Profile(batch.schema) for batch in rows]
    for profile, batch in zip(made, rows, strict=True):
        profile.update(batch)
    empty = Profile(pa.schema([]))
    (finding,) = find_drift(Reference(inputs=made[0], answers=None), Window(made[1], empty))
    assert finding.evidence["psi"] < 0.02
    assert finding.evidence["largest_change"] == pytest.approx(0.045, abs=0.01)


def test_chances_of_all_spans_are_half_of_the_rate_per_window(reference):
    monitor = DriftMonitor(reference, DriftConfig(false_alarms=0.003))
    assert sum(monitor.chance(span) / span for span in SPANS) == pytest.approx(0.0015)


def test_small_windows_and_small_differences_say_nothing(reference):
    rng = np.random.default_rng(5)
    assert find_drift(reference, window(rng, rows=50, move=9.0)) == []
    tolerant = DriftConfig(least_psi=9.0, least_ks=1.0, least_share=1.0)
    assert find_drift(reference, window(rng, move=2.0), tolerant) == []


def test_a_window_is_merged_saved_and_restored(reference):
    rng = np.random.default_rng(6)
    first, second = window(rng), window(rng)
    copy = first.copy()
    copy.merge(second)
    assert (first.rows, copy.rows) == (500, 1000)
    assert Window.from_state(copy.state()).inputs.to_json() == copy.inputs.to_json()


def test_suggestions_name_the_partitions_or_the_source():
    drift = Finding(code="drift_distribution", severity="warning", text="", columns=("a",), evidence={"what": "column"})
    missing = Finding(code="drift_missing", severity="warning", text="", columns=("b",), evidence={"what": "column"})
    assert suggested([]) == ""
    assert "may.parquet" in suggested([drift], {"april.parquet": [], "may.parquet": [drift]})
    assert "april" not in suggested([drift], {"april.parquet": [], "may.parquet": [drift]})
    assert "Look at where b" in suggested([missing])
    assert "since the first alarm" in suggested([drift])


def test_a_rate_that_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match="false_alarms"):
        DriftConfig(false_alarms=0.0)

"""Past runs: read from journals, left out with a reason, compared with what was predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.plan.shapes import STAGE, past_run, sizes

from shardwise.plan.knowledge import defaults, from_json, learned, observed_time, to_json
from shardwise.plan.past import FORMAT, PastRun, accuracy, read_runs
from shardwise.store.journal import SqliteJournal


def records(**changes: Any) -> list[dict[str, Any]]:
    plan = past_run().plan
    known: dict[str, dict[str, Any]] = {
        "opened": {"identity": "a", "data": "b"},
        "plan": {"format": FORMAT, "source": "shipped", "predicted": plan},
        "stage": {"stage": "profile", "rows": 10, **STAGE},
        "sizes": {"format": FORMAT, "sizes": sizes().to_json(), "workers": 2, "asked": None, "ceiling_bytes": None},
        "trial": {"number": 0, "family": "baseline", "params": {}, "folds": []},
        "finished": {"result": {"seconds": 10.0, "peak_memory_bytes": 5 * 10**8, "cut": False}},
    }
    known |= changes
    return [{"kind": kind, **content} for kind, content in known.items()]


def journal(folder: Path, name: str, content: list[dict[str, Any]]) -> None:
    with SqliteJournal(folder / name / "journal.db") as out:
        out.append(content)


def test_a_journal_becomes_a_run_and_the_stages_are_summed(tmp_path: Path) -> None:
    again = {"kind": "stage", "stage": "profile", "rows": 10, "seconds": 2.0, "peak_bytes": 10**8}
    journal(tmp_path, "one", [*records(), again])
    (run,), refused = read_runs(tmp_path)
    assert refused == []
    assert run.sizes == sizes()
    assert run.stages["profile"] == {"seconds": 3.0, "peak_bytes": 3 * 10**8}
    assert run.plan == past_run().plan
    assert PastRun.from_json(run.to_json()) == run


@pytest.mark.parametrize(
    "changes",
    [
        {"finished": {"result": {"seconds": 10.0, "peak_memory_bytes": 1, "cut": True}}},
        {"sizes": {"format": FORMAT + 1, "sizes": {}}},
        {"sizes": {"sizes": {}}},
    ],
)
def test_cut_runs_and_other_formats_teach_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    journal(tmp_path, "one", records(**changes))
    assert read_runs(tmp_path) == ([], [])


def test_a_run_that_went_on_after_a_stop_teaches_nothing(tmp_path: Path) -> None:
    finished = records()[-1]
    journal(tmp_path, "unfinished", records()[:-1])
    journal(tmp_path, "twice", [*records(), finished])
    assert read_runs(tmp_path) == ([], [])


def test_journals_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    journal(tmp_path, "good", records())
    for name, content in (("damaged", b"no database at all" * 100), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "journal.db").write_bytes(content)
    journal(tmp_path, "incomplete", records(sizes={"format": FORMAT, "sizes": {"rows": 3}, "workers": 1}))
    runs, refused = read_runs(tmp_path)
    assert [run.name for run in runs] == ["good"]
    assert [name for name in ("damaged", "empty", "incomplete") if not any(name in text for text in refused)] == []


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    assert read_runs(tmp_path / "none") == ([], [])


def test_accuracy_is_predicted_over_actual() -> None:
    factors = np.array([0.5, 0.9, 1.1, 1.19, 1.3])
    found = accuracy([past_run(str(factor), factor=float(factor)) for factor in factors] + [past_run(plan=None)])
    assert [run["time_s"]["ratio"] for run in found["runs"]] == pytest.approx(factors.tolist())
    assert found["time_s"]["median"] == pytest.approx(np.median(factors))
    assert found["time_s"]["within"] == pytest.approx(np.mean(np.abs(factors - 1) <= 0.2))
    assert found["memory_bytes"]["under"] == 2
    assert accuracy([])["time_s"] == {"runs": 0, "median": None, "within": None, "under": 0}


def test_shipped_laws_survive_json_and_have_all_stages() -> None:
    known = defaults()
    assert to_json(from_json(to_json(known))) == to_json(known)
    assert {"open", "profile", "encode", "train", "trees", "large_trees", "linear", "test"} <= known.time.keys()


def test_slower_runs_make_slower_laws() -> None:
    known = defaults()
    (terms, _), *_ = observed_time([past_run()])["profile"]
    slow = known.time["profile"](terms) * 3
    runs = [past_run(str(i), stages={"profile": {"seconds": slow, "peak_bytes": 10**8}}) for i in range(4)]
    assert learned(known, runs).time["profile"](terms) == pytest.approx(slow, rel=1e-6)
    assert learned(known, []).time == known.time

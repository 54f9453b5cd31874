import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.models.spaces import SPACES
from shardwise.store.journal import SqliteJournal
from shardwise.tune.archive import (
    Archive,
    PastTask,
    left_out,
    of_runs,
    read_archive,
    shipped,
    split_otherwise,
    task_of,
)
from shardwise.tune.samplers.meta import MetaSampler
from shardwise.tune.spaces import Cube

TRIALS = [{"family": "trees", "params": {"num_leaves": n}, "loss": float(n)} for n in range(6)]
TASK = PastTask(name="t", features={"log_rows": 3.0}, trials=TRIALS)


def test_an_archive_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(Archive((TASK,)).to_json()))
    again = read_archive(path)
    assert again == Archive((TASK,))
    assert again.digest() == Archive((TASK,)).digest()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 99, "tasks": []}', r"99.*reads 1.*--export"),
        ('{"tasks": []}', "no archive"),
        ("[]", "no archive"),
        ("{", "no archive"),
        ('{"format": 1}', "no archive"),
        ('{"format": 1, "tasks": [{"name": "x"}]}', "no archive"),
        ('{"format": 1, "tasks": [{"name": "x", "features": {}, "trials": [{"params": {}}]}]}', "no archive"),
        ('{"format": 1, "tasks": [{"name": "x", "features": null, "trials": []}]}', "no archive"),
        ('{"format": 1, "tasks": [{"name": "x", "features": {"rows": "many"}, "trials": []}]}', "no archive"),
        ('{"format": 1, "tasks": [{"name": "x", "features": {}, "trials": [{"family": 1, "params": {}, "loss": 1}]}]}',
         "no archive"),
    ],
)  # fmt: skip
def test_what_is_no_archive_or_of_another_version_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_archive(path)


def test_tasks_with_too_few_trials_of_a_family_tell_nothing() -> None:
    few = PastTask(name="few", features={}, trials=TRIALS[:3])
    mixed = PastTask(name="mixed", features={}, trials=[*TRIALS, {"family": "linear", "params": {}, "loss": 1.0}])
    archive = Archive((TASK, few, mixed)).of("trees")
    assert [task.name for task in archive.tasks] == ["t", "mixed"]
    assert all(trial["family"] == "trees" for task in archive.tasks for trial in task.trials)


def test_the_newer_of_two_tasks_of_a_name_counts() -> None:
    other = PastTask(name="t", features={}, trials=[])
    more = PastTask(name="a", features={}, trials=[])
    assert Archive((TASK,)).merged(Archive((other, more))).tasks == (more, other)


def test_journals_of_runs_become_tasks_and_damaged_ones_are_told(tmp_path: Path) -> None:
    for name in ("one", "two", "empty"):
        (tmp_path / name).mkdir()
        with SqliteJournal(tmp_path / name / "journal.db") as journal:
            if name != "empty":
                journal.append([{"kind": "task", "features": {"log_rows": 2.0}, "metric": "rmse"}])
                for rung, loss in ((0, 9.0), (1, 5.0)):
                    journal.append([
                        {"kind": "trial", "number": 0, "family": "trees", "params": {}, "loss": loss, "rung": rung}
                    ])  # fmt: skip
                journal.append([{"kind": "trial", "number": 1, "family": "trees", "params": {}, "loss": None}])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "journal.db").write_bytes(b"no journal at all")
    archive, refused = of_runs(tmp_path, without="two")
    assert [task.name for task in archive.tasks] == ["one"]
    assert archive.tasks[0].trials == [{"family": "trees", "params": {}, "loss": 5.0}]
    assert len(refused) == 1
    assert "bad" in refused[0]


def test_of_a_trial_counts_the_highest_rung_that_the_clock_has_not_cut() -> None:
    def told(number: int, rung: int, loss: float | None, *cuts: bool) -> dict[str, Any]:
        folds = [{"rounds": 3, "cut": cut} for cut in cuts]
        return {"kind": "trial", "number": number, "family": "trees", "params": {"num_leaves": 4 + number},
                "loss": loss, "rung": rung, "folds": folds}  # fmt: skip

    whole = (False, False)
    records = [
        {"kind": "task", "features": {"log_rows": 2.0}, "metric": "rmse"},
        told(0, 2, 0.2, *whole), told(0, 0, 0.9, *whole),  # the run went on, and has not come back to the top
        told(1, 0, 0.8, *whole), told(1, 1, 0.1, False, True),
        told(2, 0, 0.1, False),
        told(3, 0, 0.7, *whole), told(3, 0, 0.6, *whole),
        told(4, 0, None, *whole),
    ]  # fmt: skip
    task = task_of("run", records)
    assert task is not None
    found = {trial["params"]["num_leaves"] - 4: trial["loss"] for trial in task.trials}
    assert found == {0: 0.2, 1: 0.8, 3: 0.6}


def test_a_task_knows_its_data_and_its_split_and_tells_them_nobody() -> None:
    trials = [{"kind": "trial", "number": 0, "family": "trees", "params": {}, "loss": 1.0}]
    old = [{"kind": "task", "features": {}, "metric": "rmse"}, *trials]
    split = {"kind": "hash", "seed": 3}
    new = [{"kind": "opened", "data": "d1"}, {"kind": "encoded", "content": {"split": split}}, *old]
    tasks = [task_of("old", old), task_of("new", new), task_of("bare", [{"kind": "opened", "data": "d1"}, *old])]
    archive = Archive(tuple(task for task in tasks if task is not None))
    assert archive.splits_of("d1") == {"new": split, "bare": None}
    assert archive.splits_of("d2") == {}
    assert all(set(task) == {"name", "features", "trials"} for task in archive.to_json()["tasks"])
    kept = [{"kind": "archive", "same_data": archive.splits_of("d1")}]
    assert split_otherwise(kept, split) == ["bare"]
    assert split_otherwise(kept, {**split, "seed": 4}) == ["bare", "new"]
    assert split_otherwise([{"kind": "archive"}], split) == split_otherwise([], split) == []  # of an older version
    assert [task.name for task in archive.without(["bare", "new"]).tasks] == ["old"]


def test_some_of_many_runs_that_are_left_out_are_named() -> None:
    assert left_out([]) == ()
    (found,) = left_out([f"run{number}" for number in range(7)])
    assert found.text.startswith("7 earlier run(s)")
    assert "run3 and 3 more" in found.text


def test_the_shipped_archive_can_be_read_and_is_of_generated_data() -> None:
    tasks = shipped().of("trees").tasks
    assert len(tasks) >= 10
    assert all(task.name.startswith("generated-") for task in tasks)


def test_trials_without_a_param_that_is_searched_now_stand_at_its_default() -> None:
    space = SPACES["trees"]
    assert "reg_alpha" in space
    cube = Cube(space)
    trials = shipped().of("trees").tasks[0].trials
    assert all("reg_alpha" not in trial["params"] for trial in trials)
    place = cube.names.index("reg_alpha")
    points = np.array([cube.point(trial["params"]) for trial in trials])
    assert (points[:, place] == cube.point({"reg_alpha": 0.0})[place]).all()
    proposed = MetaSampler(archive=shipped().of("trees")).suggest(space, [], 7)
    assert proposed == MetaSampler(archive=shipped().of("trees")).suggest(space, [], 7)
    assert "reg_alpha" in proposed

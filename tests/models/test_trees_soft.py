"""Trees that learn from a teacher come nearer to it than trees that learn from labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardwise.core.target import Task
from shardwise.data.rows import BinnedRows
from shardwise.data.rows_soft import SoftRows, soft_path
from shardwise.data.rows_window import RowsWindow, has_teacher
from shardwise.models.base import FitRun
from shardwise.models.links import link
from shardwise.models.trees import Trees
from shardwise.models.trees_pair import fit_by_two
from shardwise.testing.models import FEATURES, TRAIN, Table, on_disk, tiny_table, tiny_target


def teach(folder: Path, table: Table, task: Task) -> np.ndarray:
    """Answers of a teacher that knows more than the labels tell, for all rows; those of the training rows on disk."""
    score = np.nan_to_num(table.X[:, 0] + 0.5 * table.X[:, 1])
    scores = np.column_stack([-score, np.zeros_like(score), score]) if task is Task.MULTICLASS else score[:, None]
    answers = link(task, scores)
    folder.mkdir()
    np.save(soft_path(folder, TRAIN), answers[table.folds == TRAIN])
    return answers


@pytest.mark.parametrize("task", list(Task))
def test_a_student_is_nearer_to_its_teacher_than_who_learns_labels(tmp_path: Path, task: Task) -> None:
    table = tiny_table(task, 1200)
    answers = teach(tmp_path / "teacher", table, task)
    train, valid = on_disk(tmp_path / "rows", table, reads="bins")
    assert isinstance(train, BinnedRows)
    far = {}
    for name, rows in (("student", SoftRows(train, tmp_path / "teacher")), ("labels", train)):
        model = Trees(tiny_target(task), FEATURES, n_estimators=60, learning_rate=0.2, num_leaves=7)
        model.fit(rows, valid if name == "labels" else None, FitRun(seed=1))
        model.save(tmp_path / name)
        prediction = Trees.load(tmp_path / name).predict(table.X)
        assert prediction.shape == answers.shape
        far[name] = float(np.abs(prediction - answers)[table.folds != TRAIN].mean())
    assert far["student"] < 0.5 * far["labels"]


@pytest.mark.parametrize("task", list(Task))
def test_two_members_learn_from_the_teacher_as_one_does(tmp_path: Path, task: Task) -> None:
    table = replace(tiny_table(task, 1200), weight=np.linspace(0.2, 1.0, 1200, dtype=np.float32))
    answers = teach(tmp_path / "teacher", table, task)
    train, _ = on_disk(tmp_path / "rows", table, reads="bins")
    assert isinstance(train, BinnedRows)
    soft = SoftRows(train, tmp_path / "teacher")
    params = {"n_estimators": 60, "learning_rate": 0.2, "num_leaves": 7}
    alone, *members = (Trees(tiny_target(task), FEATURES, **params) for _ in range(3))
    alone.fit(soft, None, FitRun(seed=1))
    fit_by_two((members[0].fit, members[1].fit), soft, None, FitRun(seed=1))
    new = table.folds != TRAIN
    one, two = (np.abs(model.predict(table.X) - answers)[new].mean() for model in (alone, members[0]))
    assert two < 1.2 * one


def test_windows_have_the_answers_of_their_rows(tmp_path: Path) -> None:
    train, _ = on_disk(tmp_path / "rows", tiny_table(Task.REGRESSION), reads="bins")
    assert isinstance(train, BinnedRows)
    (tmp_path / "teacher").mkdir()
    np.save(soft_path(tmp_path / "teacher", TRAIN), train.target())
    last = BinnedRows(train.folder, FEATURES, [TRAIN], partitions=[2])
    for whole in (train, train.sampled(0.4), last, last.sampled(0.4)):
        assert not has_teacher(window := RowsWindow(whole, 0, 50))
        assert window.soft() is None
        soft = SoftRows(whole, tmp_path / "teacher")
        np.testing.assert_array_equal(soft.soft(), whole.target())
        for start, stop in ((0, 50), (50, whole.n_rows)):
            window = RowsWindow(soft, start, stop)
            assert has_teacher(window)
            np.testing.assert_array_equal(window.soft(), window.target())


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_a_student_stops_early_by_labels_and_goes_on_from_a_checkpoint(tmp_path: Path, task: Task) -> None:
    table = tiny_table(task, 900)
    teach(tmp_path / "teacher", table, task)
    train, valid = on_disk(tmp_path / "rows", table, reads="bins")
    assert isinstance(train, BinnedRows)
    soft = SoftRows(train, tmp_path / "teacher")
    losses: list[float] = []

    def fit(run: FitRun) -> Trees:
        model = Trees(tiny_target(task), FEATURES, n_estimators=400, learning_rate=0.3, num_leaves=15)
        model.fit(soft, valid, run)
        return model

    whole = fit(FitRun(seed=1, report=lambda _step, loss: not losses.append(loss)))
    assert 0 < whole.rounds < len(losses) < 400
    assert losses[whole.rounds - 1] == min(losses)
    halved = FitRun(seed=1, checkpoint=tmp_path / "part", rests_at=7, report=lambda step, _loss: step < 7)
    fit(halved)
    again = fit(FitRun(seed=1, checkpoint=tmp_path / "part"))
    np.testing.assert_allclose(again.predict(table.X), whole.predict(table.X), rtol=0, atol=0.05)


def test_answers_are_those_of_the_rows_that_a_share_takes(tmp_path: Path) -> None:
    table = tiny_table(Task.REGRESSION)
    train, _ = on_disk(tmp_path / "rows", table, reads="bins")
    assert isinstance(train, BinnedRows)
    (tmp_path / "teacher").mkdir()
    np.save(soft_path(tmp_path / "teacher", TRAIN), train.target())
    for rows in (train, train.sampled(0.4)):
        np.testing.assert_array_equal(SoftRows(rows, tmp_path / "teacher").soft(), rows.target())
        assert SoftRows(rows, tmp_path / "teacher").key == rows.key

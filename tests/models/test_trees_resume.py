"""A fit that is ended and begun again gives the bytes of one that was never ended."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardwise.core.target import Task
from shardwise.models import trees, trees_resume
from shardwise.models.base import FitRun
from shardwise.models.families import build, save_model
from shardwise.models.trees import Trees
from shardwise.models.trees_resume import Keeper, Progress, read_progress, write_progress
from shardwise.testing.models import FEATURES, Pair, on_disk, tiny_table, tiny_target

SAMPLED = {"subsample": 0.7, "feature_fraction": 0.6}
CASES: list[tuple[Task, dict[str, Any]]] = [
    *[(task, {}) for task in Task],
    (Task.BINARY, SAMPLED),
    (Task.MULTICLASS, SAMPLED),
    (Task.REGRESSION, {"objective": "l1"}),
    (Task.REGRESSION, {"extra_trees": True}),
    (Task.REGRESSION, {"target_transform": "log1p"}),
]


class Killed(BaseException):
    """In the place of a signal."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "SEGMENT_ROUNDS", 5)
    monkeypatch.setattr(trees_resume, "KEEP_S", 0.0)
    monkeypatch.setattr(trees_resume, "KEEP_SHARE", 1e9)


def fit(rows: Pair, task: Task, params: dict[str, Any], **run: Any) -> Trees:
    given = {"n_estimators": 33, "num_leaves": 7, "min_child_samples": 5, "learning_rate": 0.2, "patience": 3.0}
    model = Trees(tiny_target(task), FEATURES, **{**given, **params})
    model.fit(*rows, FitRun(**{"seed": 1, "threads": 2, **run}))
    return model


@pytest.mark.parametrize("threads", ["one", "many"])
@pytest.mark.parametrize(("task", "params"), CASES)
def test_a_killed_fit_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task, params: dict[str, Any], threads: str
) -> None:
    if threads == "many":
        monkeypatch.setattr(trees, "ONE_THREAD_CELLS", 0)
    rows = on_disk(tmp_path / "rows", tiny_table(task, 3000), reads="bins")
    curves: dict[str, list[tuple[int, float]]] = {"whole": [], "again": []}
    whole = fit(rows, task, params, report=lambda *point: curves["whole"].append(point) or True)

    def kill_at(round_: int) -> None:
        def report(step: int, _loss: float) -> bool:
            if step == round_:
                raise Killed
            return True

        with pytest.raises(Killed):
            fit(rows, task, params, report=report, checkpoint=tmp_path / "kept")

    for round_ in (8, 17):
        kill_at(round_)
        kept = read_progress(tmp_path / "kept")
        assert kept is not None
        assert kept.rounds == round_ // 5 * 5
    again = fit(
        rows, task, params, report=lambda *point: curves["again"].append(point) or True, checkpoint=tmp_path / "kept"
    )
    assert again.rounds == whole.rounds > 20
    assert curves["again"] == curves["whole"]
    assert again._text == whole._text
    assert not (tmp_path / "kept").exists()


OTHERS: list[tuple[str, Task, dict[str, Any]]] = [
    ("forest", Task.BINARY, {}),
    ("forest", Task.MULTICLASS, {"extra_trees": True, "subsample": 1.0}),
    ("forest", Task.REGRESSION, {"subsample": 1.0, "max_features": 0.5}),
    ("adaboost", Task.BINARY, {}),
    ("adaboost", Task.MULTICLASS, {"subsample": 0.7}),
]


@pytest.mark.parametrize(("family", "task", "params"), OTHERS)
def test_other_families_of_trees_go_on_to_the_same_bytes(
    tmp_path: Path, family: str, task: Task, params: dict[str, Any]
) -> None:
    rows = on_disk(tmp_path / "rows", tiny_table(task, 2000), reads="bins")

    def fit_until(last: int, kept: Path | None) -> dict[str, bytes]:
        def report(step: int, _loss: float) -> bool:
            if step == last:
                raise Killed
            return True

        model = build(family, tiny_target(task), FEATURES, {"n_estimators": 23, "num_leaves": 15, **params})
        model.fit(*rows, FitRun(seed=1, report=report, checkpoint=kept))
        save_model(family, model, tmp_path / "model")
        return {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    whole = fit_until(0, None)
    with pytest.raises(Killed):
        fit_until(13, tmp_path / "kept")
    assert (tmp_path / "kept").exists()
    assert fit_until(0, tmp_path / "kept") == whole


def test_without_validation_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = on_disk(tmp_path / "rows", tiny_table(Task.BINARY, 2000), reads="bins")
    whole = fit((train, None), Task.BINARY, SAMPLED)  # type: ignore[arg-type]

    def keep_and_die(keeper: Keeper, *kept: Any) -> None:
        write(keeper, *kept)
        raise Killed

    write = Keeper.keep
    monkeypatch.setattr(Keeper, "keep", keep_and_die)
    with pytest.raises(Killed):
        fit((train, None), Task.BINARY, SAMPLED, checkpoint=tmp_path / "kept")  # type: ignore[arg-type]
    monkeypatch.setattr(Keeper, "keep", write)
    again = fit((train, None), Task.BINARY, SAMPLED, checkpoint=tmp_path / "kept")  # type: ignore[arg-type]
    assert again.rounds == whole.rounds == 33
    assert again._text == whole._text


def test_a_damaged_checkpoint_begins_anew(tmp_path: Path) -> None:
    rows = on_disk(tmp_path / "rows", tiny_table(Task.BINARY), reads="bins")
    whole = fit(rows, Task.BINARY, {})
    write_progress(tmp_path / "kept", Progress(whole._text, 33, np.zeros((33, 2))))
    file = tmp_path / "kept" / "trees.progress"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(bytes(content))
    assert fit(rows, Task.BINARY, {}, checkpoint=tmp_path / "kept")._text == whole._text

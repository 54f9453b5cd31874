"""How a fit of an estimator ends that is stopped: by Ctrl-C, by SIGTERM, by the clock."""

import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from shardwise import ShardwiseClassifier, estimators
from shardwise.core.events import Event, Events, Scored, StageStarted
from shardwise.workflow import TrainResult, train

X = np.random.default_rng(0).normal(size=(120, 2))
y = X[:, 0] > 0


def classifier(**changes: Any) -> ShardwiseClassifier:
    return ShardwiseClassifier(**{"trials": 2, "families": "linear", "random_state": 0, **changes})


def signalled(monkeypatch: pytest.MonkeyPatch, number: signal.Signals, at: type[Event] = Scored) -> list[Any]:
    """From now on each run gets a signal at its first event of a kind; the runs that there were."""
    runs = []

    def trained(config: Any, *, dataset: Any) -> TrainResult:
        def stop(event: Event) -> None:
            if isinstance(event, at) and runs[-1] is config:
                runs[-1] = (config,)
                signal.raise_signal(number)

        runs.append(config)
        return train(config, Events([stop]), dataset=dataset)

    monkeypatch.setattr(estimators, "train", trained)
    return runs


@pytest.mark.parametrize("at", [StageStarted, Scored])  # before there is a model, and when there is one
def test_ctrl_c_ends_what_is_around_a_fit_too(at: type[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runs, before = signalled(monkeypatch, signal.SIGINT, at), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(classifier(), X, y, cv=3)
    assert len(runs) == 1
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fit_that_was_stopped_has_no_model_and_goes_on_in_a_folder_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, signal.SIGINT)
    model = classifier(runs_folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "package_")
    monkeypatch.undo()
    assert model.fit(X, y).package_ == classifier().fit(X, y).package_
    assert model.cut_ is False


def test_sigterm_comes_to_the_handler_of_the_process_when_all_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found: list[Any] = []

    def handler(number: int, _frame: Any) -> None:
        found.append((number, list(tmp_path.iterdir()), [t for t in threading.enumerate() if t.name == "clock"]))

    signalled(monkeypatch, signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            classifier().fit(X, y)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert found == [(signal.SIGTERM, [], [])]


def test_what_was_cut_by_the_clock_is_known() -> None:
    assert classifier(time="1ms", trials=None).fit(X, y).cut_ is True

"""What `import shardwise` offers."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
import shardwise.train.result  # imports the room of that name, which must not hide the function
from shardwise.core.errors import ConfigError
from shardwise.core.events import Advanced, Event, Said, Scored
from shardwise.data.dataset import open_dataset
from shardwise.testing.tables import people

DROP = ("id", "weight", "spent", "visits")


def test_tables_of_all_kinds_give_the_same_scores(tmp_path: Path) -> None:
    arrow = people(300)
    scores = [
        shardwise.train(table, "bought", trials=2, folds=2, drop=DROP, runs_folder=str(tmp_path)).score
        for table in (arrow, arrow.to_pandas(), pl.from_arrow(arrow))
    ]
    assert scores[0] == scores[1] == scores[2]


def test_listeners_hear_the_trials(tmp_path: Path) -> None:
    heard: list[Event] = []
    shardwise.train(people(200), "bought", trials=2, folds=2, drop=DROP, runs_folder=str(tmp_path), listen=heard.append)
    assert [event.trial for event in heard if isinstance(event, Scored)] == [0, 1]


def test_profile_of_a_table_counts_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "x", "y"]})
    found = shardwise.profile(frame, runs_folder=str(tmp_path))
    assert (found.rows, found.columns["a"].nulls, found.columns["b"].top[0]) == (3, 1, ("x", 2))


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'trials'"):
        shardwise.train(people(50), "bought", trails=2, runs_folder=str(tmp_path))


def test_the_module_says_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = shardwise.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_wait_as_the_user_says_or_after_a_short_spin(given: dict[str, str], spins: str) -> None:
    script = "import os, shardwise; print(os.environ.get('GOMP_SPINCOUNT'), os.environ['OMP_WAIT_POLICY'])"
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env={**bare, **given}, capture_output=True, text=True, check=True).stdout.split()
    assert said == [spins, given.get("OMP_WAIT_POLICY", "PASSIVE")]


# -- tables that are read once ---------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; what is temporary is in `temp`, beside it."""
    for name in ("here", "temp"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    return tmp_path / "here"


def is_clean(place: Path, *left: str) -> bool:
    return sorted(path.name for path in place.iterdir()) == sorted(left) and not list((place.parent / "temp").iterdir())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    asked = {"trials": 1, "folds": 2, "drop": DROP, "report": False, "runs_folder": str(folder)}
    return Path(shardwise.train(people(200), "bought", **asked).package)


@pytest.mark.parametrize("convert", [pa.Table.to_pandas, pl.from_arrow, lambda table: table])
def test_tables_that_are_judged_leave_nothing_behind(place: Path, convert: Callable[[pa.Table], Any]) -> None:
    table = convert(people(60))
    assert shardwise.health(table, key="city").rows == 60
    assert shardwise.advise_partitions(table, memory="1GB", workers=1).count >= 1
    assert is_clean(place)


def test_tables_that_are_partitioned_leave_the_dataset_alone_and_are_known_again(place: Path) -> None:
    heard: list[Event] = []
    assert shardwise.partition(people(60).to_pandas(), "parts", "hash:city:2").manifest.rows == 60
    again = shardwise.partition(people(60).to_pandas(), "parts", append=True, listen=heard.append)
    assert again.manifest.rows == 120
    assert any(isinstance(event, Said) and "written to this dataset before" in event.text for event in heard)
    with pytest.raises(ConfigError, match="where to write"):
        shardwise.partition(people(60))
    assert is_clean(place, "parts")


@pytest.mark.parametrize("out", ["scores.parquet", "scores"])
def test_tables_that_are_predicted_leave_the_predictions_alone(place: Path, package: Path, out: str) -> None:
    table = people(60).to_pandas()
    assert shardwise.predict(package, table, out, keep=["id"]) == 60
    assert pq.read_table(out)["id"].to_pylist() == list(range(60))
    assert is_clean(place, out)
    with pytest.raises(ValueError, match="nothing"):
        shardwise.predict(package, table, out, keep=["nothing"])
    assert is_clean(place, out)


def test_a_table_whose_predictions_were_stopped_is_gone_on_with(
    place: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    monkeypatch.setattr("shardwise.data.tables._BATCH_ROWS", 20)
    monkeypatch.setattr("shardwise.api.open_dataset", partial(open_dataset, target_bytes=1))
    with pytest.raises(KeyboardInterrupt):
        shardwise.predict(package, people(60), "scores", listen=stop)
    assert is_clean(place, ".scores.predicting")
    (place / ".scores.table").mkdir()  # as after a kill
    heard: list[Event] = []
    assert shardwise.predict(package, people(60), "scores", listen=heard.append) == 60
    assert "1 of 3 partitions are predicted already." in [event.text for event in heard if isinstance(event, Said)]
    assert is_clean(place, "scores")

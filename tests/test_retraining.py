"""Training again on old and new rows: what is unchanged is not read again, and what has changed is said."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run
from shardwise.core.errors import ConfigError
from shardwise.core.events import StageStarted
from shardwise.data.dataset import Dataset
from shardwise.data.readers.base import Batches
from shardwise.registry.manifest import Manifest
from shardwise.registry.registry import Registry
from shardwise.retraining import find_run, retrain_config
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people
from shardwise.train.inherit import FIRST, best_candidates

OLD, NEW = 900, 300
OPTIONS = {"drop": ["id", "weight", "spent", "visits"], "folds": 2, "trials": 2, "report": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run on three files, and further rows: alike, and of another kind."""
    folder = tmp_path_factory.mktemp("retrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("old").mkdir()
        table = people(OLD + NEW)
        for piece in range(3):
            pq.write_table(table.slice(piece * 300, 300), f"old/{piece}.parquet")
        pq.write_table(table.slice(OLD), "alike.parquet")
        pq.write_table(changed(table.slice(OLD)), "changed.parquet")
        shardwise.train("old", "bought", run="first", **OPTIONS)
    return folder


def changed(table):
    place = table.schema.get_field_index("income")
    return table.set_column(place, "income", pc.multiply(pc.cast(table["income"], pa.float64()), 3.0))


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


@contextmanager
def counting():
    """Bytes of the batches that are read of each file."""
    found = {}
    read = Dataset.read

    def counted(batches, name):
        for batch in batches:
            found[name] = found.get(name, 0) + batch.nbytes
            yield batch

    def watched(self, partition, *args):
        return Batches(counted(read(self, partition, *args), Path(partition.path).name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "read", watched)
        yield found


@pytest.fixture
def bytes_read():
    with counting() as found:
        yield found


@pytest.fixture(scope="module")
def alike(place):
    """A run that goes on, and the bytes that it read."""
    with pytest.MonkeyPatch.context() as patch, counting() as found:
        patch.chdir(place)
        return shardwise.retrain("first", ["old", "alike.parquet"], run="alike"), dict(found)


def told(result):
    return next(finding for finding in result.findings if finding["code"] == "retrained")


def finished(name):
    with SqliteJournal(Path("runs") / name / "journal.db", read_only=True) as journal:
        records = list(journal.read())
    return records, [record["result"] for record in records if record["kind"] == "finished"][-1]


def test_a_split_by_time_is_planned_anew_and_said(place):
    shardwise.train("old", "bought", run="timed", time_column="since", **OPTIONS)
    result = shardwise.retrain("timed", ["old", "alike.parquet"], run="timed-on")
    assert told(result)["text"] == (
        "1,200 rows in 4 partition(s) are read: nothing that the run timed has counted fits. Features and bins are "
        "planned anew, as a split by time has to see how late the new rows are."
    )


def test_where_new_rows_are_like_the_old_ones_only_they_are_read(alike):
    records, first = finished("first")
    result, bytes_read = alike
    assert bytes_read.keys() == {"alike.parquet"}
    assert result.rows == OLD + NEW
    evidence = told(result)["evidence"]
    assert evidence["kept"]
    assert (evidence["known_rows"], evidence["new_rows"], evidence["new_partitions"]) == (OLD, NEW, 1)
    assert told(result)["text"] == (
        "300 rows in 1 partition(s) are new beside 900 that the run first has read. No column of the new rows differs "
        "by more than a little. Its features and bins are kept, and the other rows are not read again."
    )
    lineage = Manifest.read(Path(result.package)).lineage
    assert lineage["parent"] == first["package_hash"] == evidence["parent_package"]
    tried = [record for record in finished("alike")[0] if record["kind"] == "trial"]
    best = best_candidates(records)
    assert 0 < len(best) <= FIRST
    assert [{"family": t["family"], "params": t["params"]} for t in tried[1 : 1 + len(best)]] == best
    for parent in Path("runs/first/rows").rglob("X.npy"):
        assert parent.samefile("runs/alike/rows" / parent.relative_to("runs/first/rows"))


def test_the_models_learn_from_old_and_new_rows(alike):
    before, after = (
        sum(len(np.load(path)) for path in Path(f"runs/{name}/rows").rglob("bins/*/y.npy"))
        for name in ("first", "alike")
    )
    sealed = {name: finished(name)[1]["rows"] for name in ("first", "alike")}
    assert sealed == {"first": OLD, "alike": OLD + NEW}
    assert 0.7 * OLD < before < OLD
    assert 0.7 * NEW < after - before < NEW


def test_where_columns_have_changed_features_are_planned_anew(bytes_read):
    shardwise.train(["old", "changed.parquet"], "bought", run="fresh", **OPTIONS | {"trials": 1})
    fresh = dict(bytes_read)
    bytes_read.clear()
    result = shardwise.retrain("first", ["old", "changed.parquet"], run="changed", trials=1)
    assert not told(result)["evidence"]["kept"]
    assert told(result)["columns"] == ["income"]
    assert "What has changed: column 'income' is distributed differently (PSI" in told(result)["text"]
    assert "planned anew, as columns have changed" in told(result)["text"]
    assert bytes_read["changed.parquet"] == fresh["changed.parquet"]
    for piece in range(3):  # of which the profile is taken over
        assert 0 < bytes_read[f"{piece}.parquet"] < fresh[f"{piece}.parquet"]


def test_refitting_may_be_asked_for(bytes_read):
    result = shardwise.retrain("first", ["old", "alike.parquet"], run="refit", refit=True, trials=1)
    assert "planned anew, as that was asked for" in told(result)["text"]
    assert bytes_read.keys() > {"alike.parquet"}


class Stop(Exception):
    pass


def test_a_run_that_was_ended_goes_on_to_the_same_package(bytes_read, alike):
    def stop(event):
        if isinstance(event, StageStarted) and event.stage == "encode":
            raise Stop

    with pytest.raises(Stop):
        shardwise.retrain("first", ["old", "alike.parquet"], run="ended", listen=stop)
    ended = shardwise.retrain("first", ["old", "alike.parquet"], run="ended")
    assert bytes_read.keys() == {"alike.parquet"}
    assert ended.package_hash == alike[0].package_hash


def test_the_command_line_and_the_registry_tell_the_parent(capsys):
    _, first = finished("first")
    registry = Registry("registry")
    registry.register("buyers", first["package"])
    words = ["retrain", "buyers@1", "--registry", "registry", "--data", "old", "--data", "alike.parquet", "--trials",
             "1", "--register", "buyers"]  # fmt: skip
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("since  300 rows in 1 partition(s) are new beside 900")
    assert "version  buyers@2" in shown
    assert registry.version("buyers@2").lineage["parent"] == 1
    assert run(["models", "show", "buyers@2", "--registry", "registry", "--json"]) == 0
    lineage = json.loads(capsys.readouterr().out)["lineage"]
    assert (lineage["parent"], lineage["parent_package"]) == (1, first["package_hash"])
    assert run(["models", "show", "buyers@2", "--registry", "registry"]) == 0
    assert "parent of lineage" in capsys.readouterr().out


def test_a_run_is_found_by_its_name_folder_and_package():
    package = finished("first")[1]["package"]
    for source in ("first", "runs/first", package):
        assert find_run(source, Path("runs")).resolve() == Path("runs/first").resolve()
    config = retrain_config("first", ["alike.parquet"], {"trials": 7, "out": None})
    assert (config.data, config.target, config.trials, config.run) == (("alike.parquet",), "bought", 7, None)
    assert config.drop == tuple(OPTIONS["drop"])
    assert config.identity() == retrain_config(package, ["alike.parquet"], {"trials": 7}).identity()


@pytest.mark.parametrize(
    ("source", "message"),
    [("frist", r"neither a package nor a run 'frist'.*Did you mean 'first'"), ("open", "has not ended")],
)
def test_a_run_that_cannot_be_gone_on_from(source, message):
    Path("runs/open").mkdir(exist_ok=True)
    Path("runs/open/config.yaml").write_text(Path("runs/first/config.yaml").read_text())
    with SqliteJournal(Path("runs/open/journal.db")):
        pass
    with pytest.raises(ConfigError, match=message):
        shardwise.retrain(source, ["old", "alike.parquet"])


def test_a_package_whose_run_is_elsewhere_is_named():
    shutil.copytree(finished("first")[1]["package"], "copied")
    with pytest.raises(ConfigError, match=r"no run below elsewhere has made the package .*--runs-folder"):
        shardwise.retrain("copied", runs_folder="elsewhere")


def test_partitions_that_are_not_there_any_more_are_not_learned_from(place):
    result = shardwise.retrain("first", ["old/0.parquet", "old/1.parquet"], run="fewer")
    parts = {path.parent.name for path in Path("runs/fewer/rows").rglob("part-*/rows.json")}
    assert parts == {"part-000000", "part-000001"}
    assert result.rows == 600
    again = shardwise.retrain("first", ["old/1.parquet", "old/2.parquet"], run="later")
    parts = {path.parent.name for path in Path("runs/later/rows").rglob("part-*/rows.json")}
    assert (parts, again.rows) == ({"part-000000", "part-000001"}, 600)


def test_another_split_than_that_of_the_parent_is_refused():
    with pytest.raises(ConfigError, match="'group' is another one"):
        shardwise.retrain("first", None, group="household")
    assert retrain_config("first", (), {"folds": 2}).folds == 2
    assert retrain_config("first", (), {"drop": tuple(OPTIONS["drop"]), "seed": 0}).seed == 0

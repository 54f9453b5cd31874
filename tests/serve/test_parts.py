"""Folders of predictions: the same on any executor, and nothing done twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_package, make_table

from shardwise.compute.local import ProcessExecutor
from shardwise.core.errors import ConfigError, DataError
from shardwise.core.events import Advanced, Events, Said
from shardwise.core.target import Task
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.forms import AnswerForm
from shardwise.serve.part_folders import MARK, Parts
from shardwise.serve.parts import remembered
from shardwise.serve.pieces import PredictOptions
from shardwise.serve.predictor import Predictor

ROWS = 1200


@pytest.fixture(scope="module")
def workers():
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def table():
    return make_table(ROWS, seed=5)


@pytest.fixture
def data(table, tmp_path):
    """Six files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(6):
        pq.write_table(table.slice(number * 200, 200), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "scores"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written(folder):
    """Which writing of each part is there: a file that is written anew has another inode or time."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("part-*")}


def predict(predictor, data, out, **how):
    """The rows, and what was said."""
    said = []
    events = Events([lambda event: said.append(event.text) if isinstance(event, Said) else None])
    rows = predict_files(predictor, open_dataset([str(data)]), out, keep=["row"], events=events, **how)
    return rows, said


def rows_in(data):
    return [row for path in sorted(data.iterdir()) for row in pq.read_table(path)["row"].to_pylist()]


def rows_of(out):
    return [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part)["row"].to_pylist()]


def test_workers_write_the_bytes_of_one_process(predictor, data, workers, out, tmp_path):
    assert predict(predictor, data, out)[0] == ROWS
    assert predict(predictor, data, tmp_path / "there", executor=workers)[0] == ROWS
    assert contents(out) == contents(tmp_path / "there")
    assert rows_of(out) == rows_in(data)
    assert [path.name for path in out.parent.iterdir()] == ["scores"]


KILLED = """
import sys, time
from shardwise.compute.local import ProcessExecutor
from shardwise.core.events import Advanced, Events
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.predictor import Predictor

def listen(event):
    if isinstance(event, Advanced):
        print(event.rows, flush=True)
        time.sleep(60)

predictor, dataset = Predictor.load(sys.argv[1]), open_dataset([sys.argv[2]])
predict_files(predictor, dataset, sys.argv[3], keep=["row"], executor=ProcessExecutor(2), events=Events([listen]))
"""


def kill_after_a_part(package, data, out):
    command = [sys.executable, "-c", KILLED, str(package), str(data), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert int(process.stdout.readline()) == 200
        process.send_signal(signal.SIGKILL)
    before, now = None, written(Parts(out).done)
    while before != now:  # a worker may end what it writes before it sees that its caller is gone
        time.sleep(0.3)
        before, now = now, written(Parts(out).done)
    return now


def test_after_a_kill_the_same_command_goes_on_and_writes_nothing_twice(predictor, packages, data, workers, out):
    done = kill_after_a_part(packages[Task.BINARY], data, out)
    assert 0 < len(done) < 6
    assert not out.exists()
    rows, said = predict(predictor, data, out, executor=workers)
    assert rows == ROWS
    assert said == [f"{len(done)} of 6 partitions are predicted already."]
    assert {name: stamp for name, stamp in written(out).items() if name in done} == done
    assert rows_of(out) == rows_in(data)
    assert [path.name for path in out.parent.iterdir()] == ["scores"]
    again = written(out)
    assert predict(predictor, data, out) == (ROWS, [f"{out} holds these predictions already."])
    assert written(out) == again


def test_only_new_and_changed_partitions_are_predicted_and_changes_are_named(predictor, data, table, out):
    predict(predictor, data, out)
    before = {name.rpartition("-")[2]: stamp for name, stamp in written(out).items()}
    changed = table.slice(400, 150)
    pq.write_table(changed, data / "2.parquet")
    pq.write_table(make_table(10, seed=9), data / "1b.parquet")  # moves the numbers of those behind it
    rows, said = predict(predictor, data, out)
    assert rows == ROWS - 50 + 10
    assert said[0].startswith("1 file(s) changed after they were predicted, which is done anew: ")
    assert said[0].endswith("2.parquet")
    assert said[1:] == ["5 of 7 partitions are predicted already."]
    now = {name.rpartition("-")[2]: stamp for name, stamp in written(out).items()}
    assert len(now) == 7
    assert {key: stamp for key, stamp in now.items() if key in before} == {
        key: stamp for key, stamp in before.items() if key in now
    }
    assert rows_of(out) == rows_in(data)


class Stop(Exception):
    pass


def test_a_change_after_a_failure_is_named(predictor, data, out):
    def stop(event):
        if isinstance(event, Advanced):
            raise Stop

    with pytest.raises(Stop):
        predict_files(predictor, open_dataset([str(data)]), out, keep=["row"], events=Events([stop]))
    assert len(written(Parts(out).done)) == 1
    pq.write_table(make_table(30, seed=1), data / "0.parquet")
    rows, said = predict(predictor, data, out)
    assert rows == ROWS - 170
    assert len(said) == 1
    assert "0.parquet" in said[0]


def test_another_package_or_form_takes_nothing_over(predictor, data, out, tmp_path):
    predict(predictor, data, out)
    before = written(out)
    _, said = predict(predictor, data, out, form=AnswerForm(dtype="float32"))
    assert said == ["The predictions there are another package's, or of another form: all rows are predicted anew."]
    other = Predictor.load(make_package(tmp_path, rows=200))
    _, said = predict(other, data, out)
    assert len(said) == 1
    assert not set(written(out)) & set(before)
    assert json.loads((out / MARK).read_text())["asked"]["package"] == other.package.hash


def test_a_damaged_part_is_predicted_anew(predictor, data, out):
    predict(predictor, data, out)
    whole = contents(out)
    part = sorted(out.glob("part-*"))[2]
    part.write_bytes(b"PAR1")
    assert predict(predictor, data, out)[0] == ROWS
    assert contents(out) == whole


@pytest.mark.parametrize("content", [b'{"for', b"[1]", b"\xff", b""])
def test_a_damaged_note_is_written_anew(predictor, data, out, content):
    predict(predictor, data, out)
    whole = contents(out)
    (out / MARK).write_bytes(content)
    assert predict(predictor, data, out)[0] == ROWS
    assert contents(out) == whole


def test_an_error_leaves_what_is_done_and_the_old_folder(predictor, data, out, table):
    predict(predictor, data, out)
    before = contents(out)
    for number in range(6):
        pq.write_table(table.slice(number * 100, 100), data / f"{number}.parquet")
    dataset = open_dataset([str(data)])
    os.truncate(data / "5.parquet", 100)
    with pytest.raises(DataError, match=r"5\.parquet"):
        predict_files(predictor, dataset, out, keep=["row"])
    assert contents(out) == before
    pq.write_table(table.slice(500, 100), data / "5.parquet")
    assert predict(predictor, data, out)[1][-1] == "5 of 6 partitions are predicted already."


def test_text_that_turned_out_wider_is_read_so_from_the_start(predictor, out, tmp_path):
    """So that parts that were written with the wider type are taken over after a kill."""
    lines = ["x,z,town,day,row", *["1,1,Ulm,2024-01-01,1"] * 500, "1,1,Ulm,2024-01-01,late"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    options = ReadOptions(types={"row": "int64"})
    for _ in range(2):
        dataset = open_dataset([str(tmp_path / "a.csv")], options=options)
        assert predict_files(predictor, dataset, out, keep=["row"]) == 501
        assert rows_of(out)[-1] == "late"
        dataset = remembered(open_dataset([str(tmp_path / "a.csv")], options=options), Parts(out))
        assert dataset.schema.field("row").type == pa.string()


def test_one_file_is_for_one_process(predictor, data, workers, tmp_path):
    with pytest.raises(ConfigError, match=r"several workers cannot write the one file .*Give a folder"):
        predict(predictor, data, tmp_path / "s.parquet", executor=workers)


def test_a_worker_that_does_not_see_the_package_says_so(packages, data, workers, out, tmp_path):
    moved = tmp_path / "package"
    packages[Task.BINARY].rename(moved)
    try:
        predictor = Predictor.load(moved)
    finally:
        moved.rename(packages[Task.BINARY])
    with pytest.raises(ConfigError, match=r"does not find the package.*where all workers see them"):
        predict(predictor, data, out, executor=workers)
    assert not Parts(out).work.exists()


def test_two_processes_do_not_write_the_same_folder(predictor, data, out):
    caught = []

    def listen(event):
        if not caught:
            with pytest.raises(DataError, match=r"is writing predictions to .*Wait for it") as error:
                predict_files(predictor, open_dataset([str(data)]), out)
            caught.append(error)

    predict_files(predictor, open_dataset([str(data)]), out, events=Events([listen]))
    assert caught
    assert len(rows_of_names(out)) == 6


def rows_of_names(out):
    return sorted(path.name for path in out.glob("part-*"))


def test_memory_is_bounded_by_batches_of_few_rows_for_many_classes():
    assert PredictOptions().rows_of(2) == 65_536
    assert PredictOptions().rows_of(1 << 20) == 4
    assert PredictOptions().rows_of(1 << 30) == 1


def test_a_folder_of_something_else_is_left_alone(predictor, data, out):
    out.mkdir(parents=True)
    Path(out / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="something else than predictions"):
        predict(predictor, data, out)
    assert [path.name for path in out.parent.iterdir()] == ["scores"]

"""Folders of predictions in an object store: nothing half-done is read, and nothing done is done twice."""

import json
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_table

from shardwise.compute.local import ProcessExecutor
from shardwise.core.errors import ConfigError, DataError
from shardwise.core.events import Advanced, Events, Said
from shardwise.core.target import Task
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.data.manifest import MANIFEST_NAME
from shardwise.data.survey import check_health
from shardwise.serve.batch import predict_files
from shardwise.serve.forms import AnswerForm
from shardwise.serve.part_objects import NOTE, PARTS

ROWS = 800


@pytest.fixture
def data(tmp_path):
    """Four files."""
    folder = tmp_path / "data"
    folder.mkdir()
    table = make_table(ROWS, seed=5)
    for number in range(4):
        pq.write_table(table.slice(number * 200, 200), folder / f"{number}.parquet")
    return folder


@pytest.fixture
def url(tmp_path):
    return f"s3://models/{tmp_path.name}/scores/"


class Store:
    """What stands below a URL."""

    def __init__(self, url, storage):
        self.url, self.storage = url.rstrip("/"), storage
        self.system = fsspec.filesystem("s3", **storage)

    def objects(self):
        """Their versions by name: what is written again has another time."""
        self.system.invalidate_cache()
        found = self.system.find(self.url, detail=True)
        root = len(self.url.removeprefix("s3://")) + 1
        return {name[root:]: (each["ETag"], str(each["LastModified"])) for name, each in found.items()}

    def parts(self):
        return {name: stamp for name, stamp in self.objects().items() if name.startswith(f"{PARTS}/part-")}

    def read(self):
        """The table, as shardwise reads the folder."""
        dataset = open_dataset([f"{self.url}/"], options=ReadOptions(storage=self.storage))
        batches = [batch for part in dataset.partitions for batch in dataset.reader.read(part, None, 1000)]
        return pa.Table.from_batches(batches)


@pytest.fixture
def store(url, s3):
    return Store(url, s3)


def predict(predictor, data, store, **how):
    said = []
    events = Events([lambda event: said.append(event.text) if isinstance(event, Said) else None])
    dataset = open_dataset([str(data)])
    rows = predict_files(predictor, dataset, f"{store.url}/", keep=["row"], storage=store.storage, events=events, **how)
    return rows, said


def test_the_parts_are_those_of_a_folder_here_and_the_manifest_leads_to_them(predictor, data, store, tmp_path):
    assert predict(predictor, data, store)[0] == ROWS
    predict_files(predictor, open_dataset([str(data)]), tmp_path / "here", keep=["row"])
    here = {path.name: path.read_bytes() for path in (tmp_path / "here").glob("part-*")}
    there = {name: store.system.cat_file(f"{store.url}/{PARTS}/{name}") for name in here}
    assert there == here
    assert set(store.objects()) == {MANIFEST_NAME, *(f"{PARTS}/{name}" for name in here)}
    expected = pa.concat_tables([pq.read_table(tmp_path / "here" / name) for name in sorted(here)])
    assert store.read().equals(expected)
    again = store.objects()
    assert predict(predictor, data, store) == (ROWS, [f"{store.url}/ holds these predictions already."])
    assert store.objects() == again


KILLED = """
import json, os, signal, sys
from shardwise.core.events import Advanced, Events
from shardwise.data.dataset import open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.predictor import Predictor

def listen(event):
    if isinstance(event, Advanced):
        os.kill(os.getpid(), signal.SIGKILL)

predictor, dataset = Predictor.load(sys.argv[1]), open_dataset([sys.argv[2]])
storage = json.loads(sys.argv[4])
predict_files(predictor, dataset, sys.argv[3], keep=["row"], storage=storage, events=Events([listen]))
"""


def test_after_a_kill_nothing_is_read_and_the_same_command_goes_on(predictor, packages, data, store):
    words = [str(packages[Task.BINARY]), str(data), f"{store.url}/", json.dumps(store.storage)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], check=False, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    done = store.parts()
    assert len(done) == 1
    assert NOTE in store.objects()
    with pytest.raises(DataError, match="holds no data file"):
        store.read()
    with ProcessExecutor(2) as workers:
        rows, said = predict(predictor, data, store, executor=workers)
    assert (rows, said) == (ROWS, ["1 of 4 partitions are predicted already."])
    assert done.items() <= store.parts().items()
    assert store.read().num_rows == ROWS
    assert NOTE not in store.objects()


def test_what_another_run_left_that_was_killed_goes_when_the_same_command_comes_again(predictor, data, store):
    predict(predictor, data, store)
    there = store.objects()
    for name in (f"{PARTS}/part-00000-0123456789ab.parquet", NOTE):  # as after a manifest that nobody cleaned up behind
        store.system.pipe_file(f"{store.url}/{name}", b"{}")
    assert predict(predictor, data, store) == (ROWS, [f"{store.url}/ holds these predictions already."])
    assert store.objects() == there


def test_an_empty_object_that_stands_for_the_folder_is_no_other_content(predictor, data, store):
    bucket, _, key = store.url.removeprefix("s3://").partition("/")
    store.system.call_s3("put_object", Bucket=bucket, Key=f"{key}/", Body=b"")
    assert predict(predictor, data, store)[0] == ROWS
    assert store.read().num_rows == ROWS


class Stop(Exception):
    pass


def stop(event):
    if isinstance(event, Advanced):
        raise Stop


def test_until_the_new_manifest_is_there_the_old_predictions_are_read(predictor, data, store):
    predict(predictor, data, store)
    before, first = store.read(), store.parts()
    with pytest.raises(Stop):
        predict_files(predictor, open_dataset([str(data)]), f"{store.url}/", storage=store.storage,
                      form=AnswerForm(dtype="float32"), events=Events([stop]))  # fmt: skip
    assert store.read().equals(before)
    _, said = predict(predictor, data, store, form=AnswerForm(dtype="float32"))
    assert "another package's, or of another form" in said[0]
    assert store.read().schema.field("probability_true").type == pa.float32()
    assert not set(first) & set(store.parts())  # the old ones are gone
    assert len(store.parts()) == 4


def test_only_new_partitions_are_predicted_and_others_get_their_new_number(predictor, data, store):
    predict(predictor, data, store)
    keys = {name.rpartition("-")[2] for name in store.parts()}
    pq.write_table(make_table(10, seed=9), data / "0b.parquet")  # moves the numbers of those behind it
    rows, said = predict(predictor, data, store)
    assert (rows, said) == (ROWS + 10, ["4 of 5 partitions are predicted already."])
    assert keys < {name.rpartition("-")[2] for name in store.parts()}
    assert len(store.parts()) == 5
    expected = [row for path in sorted(data.iterdir()) for row in pq.read_table(path)["row"].to_pylist()]
    assert store.read()["row"].to_pylist() == expected


def test_parts_that_another_run_removed_are_told_and_written_anew(predictor, data, store):
    taken = []

    def take(event):
        if isinstance(event, Advanced) and not taken:
            taken.extend(store.parts())
            store.system.rm_file(f"{store.url}/{taken[0]}")

    with pytest.raises(DataError, match=r"1 part\(s\) are gone.*Another run"):
        predict_files(predictor, open_dataset([str(data)]), f"{store.url}/", keep=["row"], storage=store.storage,
                      events=Events([take]))  # fmt: skip
    assert MANIFEST_NAME not in store.objects()
    assert predict(predictor, data, store) == (ROWS, ["3 of 4 partitions are predicted already."])


def test_what_is_no_parquet_file_is_written_anew(predictor, data, store):
    predict(predictor, data, store)
    whole = store.read()
    store.system.pipe_file(f"{store.url}/{sorted(store.parts())[2]}", b"PAR1")
    assert predict(predictor, data, store)[1] == ["3 of 4 partitions are predicted already."]
    assert store.read().equals(whole)


def test_a_folder_of_something_else_and_the_data_itself_are_left_alone(predictor, data, store):
    store.system.pipe_file(f"{store.url}/mine.txt", b"keep")
    with pytest.raises(ConfigError, match="something else than predictions"):
        predict(predictor, data, store)
    assert set(store.objects()) == {"mine.txt"}
    store.system.put_file(str(data / "0.parquet"), f"{store.url}/rows/0.parquet")
    dataset = open_dataset([f"{store.url}/rows/"], options=ReadOptions(storage=store.storage))
    with pytest.raises(ConfigError, match="where the data is read from"):
        predict_files(predictor, dataset, f"{store.url}/rows", storage=store.storage)


def test_any_kind_of_store_will_do_and_its_health_can_be_asked(predictor, data, tmp_path):
    url = f"memory://{tmp_path.name}/scores/"
    assert predict_files(predictor, open_dataset([str(data)]), url) == ROWS
    dataset = open_dataset([url])
    assert dataset.rows == ROWS
    assert check_health(dataset).partitions == 4


def test_a_server_of_files_is_no_place_for_a_folder(predictor, data):
    with pytest.raises(ConfigError, match=r"cannot be written to .*models.*object store"):
        predict_files(predictor, open_dataset([str(data)]), "https://models.example/scores/")


def test_a_bucket_that_is_not_there_is_told(predictor, data, s3):
    with pytest.raises(DataError, match=r"no such file|storage answers"):
        predict_files(predictor, open_dataset([str(data)]), "s3://nobodys/scores/", storage=s3)

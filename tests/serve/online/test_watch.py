"""A server that watches: windows of live rows are judged, findings are told, counted and shown."""

import datetime
import shutil

import pyarrow as pa
import pytest
from tests.registry.parts import make_table
from tests.serve.online.servers import serving, until
from tests.serve.profiled import make_profiled

from shardwise.serve.online.watch import batch_of
from shardwise.store.files import staged_folder

httpx = pytest.importorskip("httpx")
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_profiled(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def server(place):
    with serving(f"m={place}", "--monitor", "--window-rows", "400", "--window", "1h") as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def rows_of(count, seed, move=0.0):
    table = make_table(count, seed=seed).drop_columns(["y", "row"])
    return [{**row, "day": row["day"] and row["day"].isoformat(), "x": None if row["x"] is None else row["x"] + move}
            for row in table.to_pylist()]  # fmt: skip


def state(client):
    return client.get("/monitor").json()["models"][0]


def ask(client, rows, size=20):
    before = state(client)["windows"]
    for start in range(0, len(rows), size):
        assert client.post("/predict", json=rows[start : start + size]).status_code == 200
    until(lambda: state(client)["windows"] > before, "the window was not closed")
    return state(client)


def test_values_of_json_become_those_of_training_and_others_are_missing():
    schema = pa.schema([("day", pa.date32()), ("n", pa.int64()), ("town", pa.dictionary(pa.int8(), pa.string()))])
    rows = [{"day": "2024-05-06", "n": 3, "town": "Ulm"}, {"day": "soon", "n": 2**70, "town": None},
            {"day": None, "n": "7", "town": 4}]  # fmt: skip
    assert batch_of(rows, schema).to_pydict() == {
        "day": [datetime.date(2024, 5, 6), None, None], "n": [3, None, 7], "town": ["Ulm", None, "4"],
    }  # fmt: skip


def test_windows_of_live_rows_are_judged(client, server):
    quiet = ask(client, rows_of(400, seed=21))
    assert (quiet["name"], quiet["findings"], quiet["last"]["rows"]) == ("m", [], 400)
    assert set(quiet["last"]["sizes"]) >= {"x", "z", "town", "answer:prediction"}
    loud = ask(client, rows_of(400, seed=22, move=3.0))
    assert "x" in {column for finding in loud["findings"] for column in finding["columns"]}
    alert = server.wait_for("alert")
    assert (alert["model"], alert["version"]) == ("m", loud["version"])
    assert "Retrain" in alert["suggestion"]
    text = client.get("/metrics").text
    assert 'shardwise_findings_total{code="drift_distribution",model="m"}' in text
    psi = next(line for line in text.splitlines() if line.startswith('shardwise_drift_psi{column="x"'))
    assert float(psi.rpartition(" ")[2]) > 0.25


def test_tables_and_tensors_are_watched_too(client):
    table = make_table(500, seed=23).drop_columns(["y", "row"])
    before, sink = state(client), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert client.post("/predict", content=sink.getvalue().to_pybytes(), headers={"content-type": ARROW}).is_success
    until(lambda: state(client)["rows"] == before["rows"] + 400, "the table was not watched")  # a window, and no more


def test_a_new_version_has_a_window_of_its_own(client, server, place, tmp_path):
    version = state(client)["version"]
    make_profiled(tmp_path, rows=900)
    with staged_folder(place) as temp:
        shutil.copytree(tmp_path / "package", temp, dirs_exist_ok=True)
    server.wait_for("swapped")
    until(lambda: state(client)["version"] != version, "the new version is not watched")
    assert state(client)["windows"] == 0


def test_a_server_that_does_not_watch_says_so(place):
    with serving(f"m={place}") as running:
        answer = httpx.get(f"{running.url}/monitor")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_watched")

"""A server that watches: windows of live rows are judged, findings are told, counted and shown."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.registry.parts import make_table
from tests.serve.online.servers import serving, until
from tests.serve.profiled import make_profiled

from shardwise.monitor import concept
from shardwise.registry.registry import Registry
from shardwise.serve.online.assembly import Assembly
from shardwise.serve.online.live import FolderSource, Models, Served, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.watch import Watch, Watching
from shardwise.serve.predictor import Predictor
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


def moved(place, change):
    """The findings of a window whose column x has moved, after `change(table)`; and how many rows it had."""
    watch = Watch(Served("m", "1", "same", Predictor.load(place)), ServeConfig())
    table = make_table(600, seed=24).drop_columns(["y", "row"])
    table = change(table.set_column(table.column_names.index("x"), "x", pc.add(table["x"], 3.0)))
    watch.record_table(table, watch.served.predictor.predict(table))
    findings = watch.close()
    return findings, watch.last["rows"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("z", lambda column: column.cast(pa.string())),
        ("z", lambda column: column.cast(pa.float64())),
        ("day", lambda column: column.cast(pa.timestamp("ms"))),
        ("day", lambda column: pc.binary_join_element_wise(column.cast(pa.string()), "00:00:00Z", "T")),
        ("town", lambda column: column.cast(pa.large_string()).dictionary_encode()),
    ],
)
def test_a_column_of_another_type_takes_no_other_from_the_watch(place, name, change):
    findings, rows = moved(place, lambda t: t.set_column(t.column_names.index(name), name, change(t[name])))
    assert rows == 600
    assert {column for finding in findings for column in finding.columns} == {"x", "prediction", "probability_true"}


def test_values_that_cannot_be_compared_are_told(place):
    rows = rows_of(500, seed=25)
    watch = Watch(Served("m", "1", "same", Predictor.load(place)), ServeConfig())
    scores = watch.served.predictor.computed(rows)
    for row in rows[:40]:
        row["z"] = "much"
    watch.record(rows, scores)
    unread = next(finding for finding in watch.close() if finding.code == "unread")
    assert (unread.columns, unread.evidence["rows"]) == (("z",), [40, 500])


def test_a_window_of_long_rows_ends_when_its_bytes_are_full(place):
    watch = Watch(Served("m", "1", "same", Predictor.load(place)), ServeConfig())
    row = {"x": 0.1, "z": 0.2, "town": "", "day": None}
    for number in range(3):
        watch.record([{**row, "town": f"{number}" * 1_000_000}], np.array([[0.5, 0.5]]))
    assert not watch.is_due()
    watch._buffer._left_bytes = 1_500
    for _ in range(3):
        watch.record([{**row, "town": "y" * 1_000_000}], np.array([[0.5, 0.5]]))
    assert watch.is_due()
    watch.close()
    assert watch.last["rows"] == 5


def test_without_the_library_labels_are_not_watched_which_is_told_at_the_start(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(concept, "_MISSING", "No module named 'river'")
    assembly = Assembly([f"m={place}"], Registry(tmp_path), ServeConfig(monitor=True))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["hint"]) for line in told] == [
        ("labels_not_watched", "Run: pip install 'shardwise[monitor]'.")
    ]
    watching, served = assembly.routes.watching, assembly.models.find("m")
    watching.label(served, np.array([1.0]), np.array([[0.4, 0.6]]))
    assert watching.to_json()["labels_watched"] is False
    assembly.routes.close()


class Heard:
    """Keeps the alerts that it is sent."""

    def __init__(self):
        self.alerts = []

    def send(self, alert):
        self.alerts.append(alert)


def test_a_window_that_cannot_be_judged_is_told_and_the_next_one_is(place, monkeypatch):
    slot, heard = Slot(FolderSource("m", place), Predictor), Heard()
    watching = Watching(Models([slot]), ServeConfig(window_rows=3), Metrics(), [heard])
    rows, scores = rows_of(3, seed=26), np.full((3, 2), 0.5)
    with monkeypatch.context() as broken:
        broken.setattr(Watch, "_sketched", lambda *_: 1 / 0)
        watching.record(slot.live, rows, scores)
        watching.look()
    assert [finding["code"] for alert in heard.alerts for finding in alert["findings"]] == ["unwatched"]
    watching.record(slot.live, rows, scores)
    watching.look()
    assert watching.to_json()["models"][0]["rows"] == 3

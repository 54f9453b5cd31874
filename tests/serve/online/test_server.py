"""A real server in a process of its own, and what it answers."""

import json
import signal
import socket
import threading
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pytest
from tests.registry.parts import make_table
from tests.serve.online.servers import serving, until

from shardwise.core.target import Task
from shardwise.serve.online.inference import Infer
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import check_rows
from shardwise.serve.online.rows import rows_of as rows_of_json
from shardwise.serve.online.settings import ServeConfig

httpx = pytest.importorskip("httpx")
parser = pytest.importorskip("prometheus_client.parser")
ARROW = "application/vnd.apache.arrow.stream"
ROW = {"x": 0.25, "z": 0.5, "town": "Ulm", "day": "2024-05-06"}


@pytest.fixture(scope="module")
def server(packages):
    places = [f"{task}={packages[task]}" for task in (Task.BINARY, Task.MULTICLASS, Task.REGRESSION)]
    limits = ("--max-rows", "600", "--max-json", "400KB", "--max-arrow", "20MB")
    with serving(*places, *limits) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def rows_of(count: int, task: Task = Task.BINARY, seed: int = 7) -> list[dict]:
    """Rows as JSON has them."""
    table = make_table(count, task, seed).drop_columns(["y", "row"])
    return [{**row, "day": row["day"] and row["day"].isoformat()} for row in table.to_pylist()]


def answer_of(answer: dict) -> dict:
    """What a server says, as `predict_one` says it."""
    return {"prediction": answer["prediction"],
            **{f"probability_{name}": share for name, share in answer.get("probabilities", {}).items()}}  # fmt: skip


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION])
@pytest.mark.parametrize("count", [1, 5, 40, 500])
def test_rows_get_the_answers_of_the_predictor_to_the_bit(client, predictors, task, count):
    rows = rows_of(count, task)
    answer = client.post("/predict", params={"model": task}, json=rows)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model"], told["version"]) == (task, predictors[task].package.hash[:12])
    assert [answer_of(each) for each in told["predictions"]] == [predictors[task].predict_one(row) for row in rows]
    one = client.post("/predict", params={"model": task}, json=rows[0]).json()
    assert answer_of(one) == predictors[task].predict_one(rows[0])


def test_no_rows_are_answered_with_no_rows(client):
    assert client.post("/predict", params={"model": "binary"}, json=[]).json()["predictions"] == []


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_a_table_of_arrow_gets_a_stream_of_arrow(client, predictors, kind):
    table = make_table(3000).drop_columns(["y", "row"])
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=700)
    headers = {"content-type": ARROW.replace("stream", kind)}
    answer = client.post("/predict", params={"model": "binary"}, content=sink.getvalue().to_pybytes(), headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW)
    read = pa.ipc.open_stream(answer.content).read_all()
    assert read.combine_chunks().to_batches()[0].equals(predictors[Task.BINARY].answer(table))
    assert read.schema.metadata[b"model"] == b"binary"


def test_health_and_metadata(client, predictors):
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["name"] == "shardwise"
    assert client.get("/v2/").json() == client.get("/v2").json()
    assert client.get("/v2/models/binary/ready").status_code == 200
    told = client.get("/v2/models/multiclass").json()
    assert [each["name"] for each in told["inputs"]] == list(predictors[Task.MULTICLASS].columns)
    assert {each["name"]: each["datatype"] for each in told["inputs"]} == {
        "x": "FP64", "z": "FP32", "town": "BYTES", "day": "BYTES"
    }  # fmt: skip
    assert told["outputs"][1]["parameters"]["classes"] == ["high", "low", "mid"]
    version = told["versions"][0]
    assert client.get(f"/v2/models/multiclass/versions/{version}").json() == told
    assert client.get("/v2/models/multiclass/versions/2").status_code == 404
    assert len(client.get("/v2/models").json()["models"]) == 3


@pytest.mark.parametrize("count", [1, 7, 300])
def test_infer_gives_the_same_answers(client, predictors, count):
    rows = rows_of(count)
    kinds = {"x": "FP64", "z": "FP32", "town": "BYTES", "day": "BYTES"}
    inputs = [{"name": name, "shape": [count, 1] if name == "x" else [count], "datatype": kind,
               "data": [row[name] for row in rows]} for name, kind in kinds.items()]  # fmt: skip
    told = client.post("/v2/models/binary/infer", json={"id": "mine", "inputs": inputs}).json()
    assert (told["id"], told["model_name"]) == ("mine", "binary")
    labels, shares = told["outputs"]
    expected = [predictors[Task.BINARY].predict_one(row) for row in rows]
    assert labels["data"] == [each["prediction"] for each in expected]
    assert shares["shape"] == [count, 2]
    assert shares["data"][1::2] == [each["probability_true"] for each in expected]


def test_tritonclient_infers_with_binary_tensors(server, client, predictors):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    rows = rows_of(20)
    with triton.InferenceServerClient(urlparse(server.url).netloc) as speaker:
        assert speaker.is_server_live()
        assert speaker.is_server_ready()
        assert speaker.is_model_ready("binary")
        inputs = []
        for name, kind, array in (
            ("x", "FP64", np.array([np.nan if row["x"] is None else row["x"] for row in rows])),
            ("z", "FP32", np.array([row["z"] for row in rows], np.float32)),
            ("town", "BYTES", np.array([row["town"] or "" for row in rows], object)),
            ("day", "BYTES", np.array([row["day"] for row in rows], object)),
        ):
            inputs.append(triton.InferInput(name, [len(rows)], kind))
            inputs[-1].set_data_from_numpy(array)
        wanted = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("prediction")]
        for outputs in (wanted, None):
            found = speaker.infer("binary", inputs, outputs=outputs)
            plain = [{**row, "town": row["town"] or ""} for row in rows]
            expected = [predictors[Task.BINARY].predict_one(row) for row in plain]
            np.testing.assert_array_equal(found.as_numpy("probabilities")[:, 1],
                                          [each["probability_true"] for each in expected])  # fmt: skip
            assert found.as_numpy("prediction").tolist() == [each["prediction"] for each in expected]


DEEP = b"[" * 100_000 + b"]" * 100_000
BAD = {
    "no JSON": (b"{", 400, "malformed_json"),
    "empty": (b"", 400, "malformed_json"),
    "NaN": (json.dumps({**ROW, "x": float("nan")}).encode(), 400, "malformed_json"),
    "deep": (DEEP, 400, "malformed_json"),
    "a number": (b"3", 422, "not_rows"),
    "a list of numbers": (b"[1, 2]", 422, "not_rows"),
    "a missing column": (json.dumps({key: ROW[key] for key in ("x", "z", "town")}).encode(), 422, "missing_column"),
    "no column": (b"{}", 422, "missing_column"),
    "an unknown column": (json.dumps({**ROW, "twon": "Ulm"}).encode(), 422, "unknown_column"),
    "a text for a number": (json.dumps({**ROW, "x": "many"}).encode(), 422, "invalid_row"),
    "a text for a date": (json.dumps({**ROW, "day": "soon"}).encode(), 422, "invalid_row"),
    "a number for a date": (json.dumps({**ROW, "day": 19_000}).encode(), 422, "wrong_type"),
    "a list for a number": (json.dumps({**ROW, "x": [1]}).encode(), 422, "wrong_type"),
    "an object for a text": (json.dumps({**ROW, "town": {"name": "Ulm"}}).encode(), 422, "wrong_type"),
    "a number beyond all": (json.dumps({**ROW, "x": 10**400}).encode(), None, None),
    "too many rows": (json.dumps([1] * 601).encode(), 413, "too_many_rows"),
    "too many bytes": (json.dumps({**ROW, "town": "u" * 500_000}).encode(), 413, "body_too_large"),
    "no UTF-8": (b'{"town": "\xff"}', 400, "malformed_json"),
    "half a surrogate": (b'{"town": "\\ud800"}', 400, "malformed_json"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies_are_told_with_a_code_a_message_and_a_hint(client, name):
    content, status, code = BAD[name]
    answer = client.post("/predict", params={"model": "binary"}, content=content)
    if status is None:
        assert answer.status_code < 500
        return
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code)
    assert told["message"] == told["error"]
    assert told["hint"]
    assert len(answer.content) < 2000
    assert told["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v2/models/binary/infer", "/feedback"])
def test_deep_nesting_is_refused_everywhere(client, path):
    answer = client.post(path, content=DEEP, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


def test_ten_megabytes_whose_length_is_not_told_are_not_kept(client):
    part = b'{"town": "' + b"u" * 1_000_000
    answer = client.post("/predict", params={"model": "binary"}, content=(part for _ in range(10)))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert client.post("/predict", params={"model": "binary"}, json=ROW).status_code == 200


def test_a_million_rows_of_json_and_long_texts_are_refused(predictors):
    with pytest.raises(Problem) as told:
        rows_of_json([{}] * 1_000_000, ServeConfig())
    assert (told.value.status, told.value.code) == (413, "too_many_rows")
    served, long = Served("m", "1", "1", predictors[Task.BINARY]), {**ROW, "town": "u" * 10_000_000}
    tensors = [{"name": name, "shape": [1], "datatype": kind, "data": [long[name]]}
               for name, kind in (("x", "FP64"), ("z", "FP32"), ("town", "BYTES"), ("day", "BYTES"))]  # fmt: skip
    for check in (lambda: check_rows([long], served, ServeConfig()),
                  lambda: Infer({"inputs": tensors}, b"", ServeConfig(), served)):  # fmt: skip
        with pytest.raises(Problem) as told:
            check()
        assert (told.value.status, told.value.code, told.value.where["column"]) == (413, "text_too_long", "town")


def test_a_body_that_does_not_come_is_given_up(server, client):
    place = urlparse(server.url)
    head = b"POST /predict?model=binary HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nx-deadline-ms: 200\r\n\r\n{"
    with socket.create_connection((place.hostname, place.port), timeout=60) as slow:
        slow.sendall(head)
        told = b"".join(iter(lambda: slow.recv(10_000), b""))  # to the end: the connection is closed
    assert told.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in told
    assert client.post("/predict", params={"model": "binary"}, json=ROW).status_code == 200


def test_a_bad_row_among_others_is_named(client):
    rows = rows_of(30)
    rows[17]["town"] = ["Ulm"]
    told = client.post("/predict", params={"model": "binary"}, json=rows).json()
    assert (told["code"], told["column"], told["row"]) == ("wrong_type", "town", 17)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/predict", {}, 400, "model_not_named"),
        ("POST", "/predict?model=binry", {}, 404, "model_not_found"),
        ("POST", "/predict?model=binary&version=9", {}, 404, "version_not_found"),
        ("POST", "/predict?model=binary", {"content-type": "text/html"}, 415, "unsupported_type"),
        ("POST", "/predict?model=binary", {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
        ("POST", "/predict?model=binary", {"x-deadline-ms": "soon"}, 400, "bad_header"),
        ("POST", "/predict?model=binary", {"content-type": ARROW}, 400, "malformed_arrow"),
        ("GET", "/predict", {}, 405, "method_not_allowed"),
        ("POST", "/v2/models/binary", {}, 405, "method_not_allowed"),
        ("POST", "/v2/models/binary/explain", {}, 404, "not_found"),
        ("POST", "/v2/models/other/infer", {}, 404, "model_not_found"),
        ("GET", "/", {}, 404, "not_found"),
    ],
)
def test_requests_that_cannot_be_answered_are_told_why(client, method, path, headers, *, status, code):
    content = json.dumps(ROW).encode() if method == "POST" else None
    answer = client.request(method, path, headers=headers, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]


def tensor(**other) -> dict:
    return {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0], **other}


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({}, 400, "bad_tensor"),
        ([], 422, "not_rows"),
        ({"inputs": [{}]}, 400, "bad_tensor"),
        ({"inputs": [tensor(shape=[2])]}, 400, "bad_tensor"),
        ({"inputs": [tensor(shape=[1, 2])]}, 400, "bad_tensor"),
        ({"inputs": [tensor(datatype="DOUBLE")]}, 400, "bad_tensor"),
        ({"inputs": [tensor(data=["1"])]}, 422, "wrong_type"),
        ({"inputs": [tensor(datatype="INT8", data=[300])]}, 422, "wrong_type"),
        ({"inputs": [tensor(), tensor()]}, 400, "bad_tensor"),
        ({"inputs": [tensor()]}, 422, "missing_column"),
        ({"inputs": [tensor(name=name) for name in ROW]}, 422, "wrong_type"),
        ({"inputs": [tensor(parameters={"binary_data_size": 8})]}, 400, "bad_tensor"),
    ],
)
def test_bad_tensors_are_told(client, content, status, code):
    answer = client.post("/v2/models/binary/infer", json=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_document_names_the_columns(client, predictors):
    told = client.get("/openapi.json").json()
    row = told["components"]["schemas"]["Row_binary"]
    assert row["required"] == list(predictors[Task.BINARY].columns) == list(row["properties"])
    assert row["properties"]["town"]["type"] == ["string", "number", "boolean", "null"]
    assert "/predict" in told["paths"]


def samples(client) -> dict[tuple, float]:
    families = parser.text_string_to_metric_families(client.get("/metrics").text)
    return {(each.name, *sorted(each.labels.items())): each.value for family in families for each in family.samples}


def test_metrics_count_what_happens(client):
    before = samples(client)
    client.post("/predict", params={"model": "binary"}, json=rows_of(3))
    client.post("/predict", params={"model": "binary"}, content=b"{")
    after = samples(client)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0.0)

    assert grown("shardwise_requests_total", endpoint="predict", status="200") == 1
    assert grown("shardwise_requests_total", endpoint="predict", status="400") == 1
    assert grown("shardwise_request_seconds_count", endpoint="predict") == 2
    assert grown("shardwise_group_rows_sum") == 3
    assert grown("shardwise_stage_seconds_count", stage="predict") == 1
    assert sum(value for key, value in after.items() if key[0] == "shardwise_live") == 3


def test_no_request_is_shorter_than_its_prediction(client):
    before = samples(client)
    for row in rows_of(50):  # each in less than a millisecond, which is what the clock of some event loops has
        client.post("/predict", params={"model": "binary"}, json=row)
    after = samples(client)

    def within(le, what, *label):
        key = (f"shardwise_{what}_seconds_bucket", *sorted([("le", le), label]))
        return after[key] - before.get(key, 0.0)

    ends = sorted({dict(key[1:])["le"] for key in after if key[0] == "shardwise_stage_seconds_bucket"}, key=float)
    assert within(ends[-1], "request", "endpoint", "predict") == within(ends[-1], "stage", "stage", "predict") == 50
    for le in ends:
        assert within(le, "request", "endpoint", "predict") <= within(le, "stage", "stage", "predict")


def test_many_at_once_get_their_own_answers(server, predictors):
    rows = rows_of(200)
    found: dict[int, dict] = {}

    def ask(start: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as own:
            for number in range(start, len(rows), 8):
                found[number] = own.post("/predict", params={"model": "binary"}, json=rows[number]).json()

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer_of(found[number]) for number in range(len(rows))] == [
        predictors[Task.BINARY].predict_one(row) for row in rows
    ]


def test_a_request_that_is_broken_off_harms_nobody(server, client):
    place = urlparse(server.url)
    for said in (b"POST /predict HTTP/1.1\r\ncontent-length: 100\r\n\r\n{", b"\x00\xff\r\n\r\n", b"GET / HT"):
        with socket.create_connection((place.hostname, place.port), timeout=10) as raw:
            raw.sendall(said)
    assert client.post("/predict", params={"model": "binary"}, json=ROW).status_code == 200


def test_what_is_under_way_is_answered_before_the_end(packages):
    table = make_table(150_000).drop_columns(["y", "row"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with serving(str(packages[Task.BINARY])) as running:
        answers = []

        def ask() -> None:
            content, headers = sink.getvalue().to_pybytes(), {"content-type": ARROW}
            answers.append(httpx.post(f"{running.url}/predict", content=content, headers=headers, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        with httpx.Client(base_url=running.url) as client:
            while not any(key[0] == "shardwise_bulk_waiting" and value for key, value in samples(client).items()):
                assert asking.is_alive()
        assert running.end() == 0
        asking.join()
        assert answers[0].status_code == 200
        assert len(pa.ipc.open_stream(answers[0].content).read_all()) == len(table)
        assert running.wait_for("ended")


def test_columns_more_than_needed_are_ignored_where_that_is_asked_for(packages):
    words = (f"m={packages[Task.BINARY]}", "--extra", "ignore", "--cache", "memory:1MB")
    with serving(*words) as running, httpx.Client(base_url=running.url) as client:
        first = client.post("/predict", json={**ROW, "more": [1]})
        again = client.post("/predict", json=ROW)
        assert first.status_code == 200
        assert first.json() == again.json()
        assert samples(client)["shardwise_cache_hits_total",] == 1


def test_a_server_that_ends_says_so_first_and_a_second_signal_ends_it_at_once(packages):
    with serving(f"m={packages[Task.BINARY]}", "--drain-delay", "1h") as running:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            assert client.get("/v2/health/ready").status_code == 200
            running.process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/v2/health/ready").status_code == 503, "it says that it is ready")
            assert client.get("/v2/health/live").status_code == 200
            assert client.post("/predict", json=ROW).status_code == 200
        assert running.end() == 0

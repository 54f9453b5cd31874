"""The Open Inference Protocol over gRPC: Triton's own client speaks to it, and a plain channel where that is polite."""

import json

import numpy as np
import pytest
from tests.serve.online.servers import PATIENCE_S, serving
from tests.serve.online.test_server import rows_of, samples

from shardwise.core.target import Task

grpc = pytest.importorskip("grpc", reason="the extra `serve-grpc` is not installed")
httpx = pytest.importorskip("httpx")
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def server(packages):
    places = [f"{task}={packages[task]}" for task in (Task.BINARY, Task.REGRESSION)]
    with serving(*places, "--grpc-port", "0", "--max-json", "400KB") as running:
        yield running


@pytest.fixture(scope="module")
def place(server):
    return server.wait_for("serving")["grpc"]


@pytest.fixture(scope="module")
def triton():
    return pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")


@pytest.fixture(scope="module")
def speaker(triton, place):
    with triton.InferenceServerClient(place) as opened:
        yield opened


def tensors(triton, rows: list[dict]) -> list:
    columns = (
        ("x", "FP64", np.array([np.nan if row["x"] is None else row["x"] for row in rows])),
        ("z", "FP32", np.array([row["z"] for row in rows], np.float32)),
        ("town", "BYTES", np.array([row["town"] or "" for row in rows], object)),
        ("day", "BYTES", np.array([row["day"] for row in rows], object)),
    )
    made = [triton.InferInput(name, [len(rows)], kind) for name, kind, _ in columns]
    for tensor, (_, _, array) in zip(made, columns, strict=True):
        tensor.set_data_from_numpy(array)
    return made


@pytest.mark.parametrize("count", [1, 20, 300])
def test_tritonclient_gets_the_answers_of_the_predictor_to_the_bit(triton, speaker, predictors, count):
    rows = rows_of(count)
    wanted = [triton.InferRequestedOutput("probabilities"), triton.InferRequestedOutput("prediction")]
    expected = [predictors[Task.BINARY].predict_one({**row, "town": row["town"] or ""}) for row in rows]
    for outputs in (wanted, None):
        found = speaker.infer("binary", tensors(triton, rows), outputs=outputs, request_id="mine")
        assert found.get_response().id == "mine"
        shares = found.as_numpy("probabilities")
        np.testing.assert_array_equal(shares[:, 1], [each["probability_true"] for each in expected])
        assert found.as_numpy("prediction").tolist() == [each["prediction"] for each in expected]


def test_health_and_metadata_are_those_of_http(server, speaker, predictors):
    assert speaker.is_server_live()
    assert speaker.is_server_ready()
    assert speaker.is_model_ready("binary")
    assert speaker.get_server_metadata().name == "shardwise"
    told = speaker.get_model_metadata("binary", as_json=True)
    other = httpx.get(f"{server.url}/v2/models/binary", timeout=PATIENCE_S).json()
    assert (told["versions"], told["platform"]) == (other["versions"], "shardwise")
    assert [(each["name"], each["datatype"]) for each in told["inputs"]] == [
        (each["name"], each["datatype"]) for each in other["inputs"]
    ]
    assert speaker.is_model_ready("binary", told["versions"][0])


def test_what_is_answered_is_counted_where_all_is(server, triton, speaker):
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        before = samples(client)
        speaker.infer("regression", tensors(triton, rows_of(3)))
        after = samples(client)
    key = "shardwise_requests_total", ("endpoint", "grpc_infer"), ("status", "200")
    assert after[key] - before.get(key, 0) == 1
    assert after["shardwise_group_rows_sum",] - before.get(("shardwise_group_rows_sum",), 0) == 3


def message(**other) -> bytes:
    from shardwise.serve.online.rpc_messages import MESSAGES

    return MESSAGES["ModelInferRequest"](model_name="binary", **other).SerializeToString()


X = {"name": "x", "datatype": "FP64", "shape": [1], "contents": {"fp64_contents": [1.0]}}
BAD = {
    "no protocol buffer": (b"\xff\xff", "INVALID_ARGUMENT", "malformed_message"),
    "no inputs": (message(), "INVALID_ARGUMENT", "bad_tensor"),
    "a missing column": (message(inputs=[X]), "INVALID_ARGUMENT", "missing_column"),
    "another shape": (message(inputs=[{**X, "shape": [2]}]), "INVALID_ARGUMENT", "bad_tensor"),
    "no datatype": (message(inputs=[{**X, "datatype": "DOUBLE"}]), "INVALID_ARGUMENT", "bad_tensor"),
    "no UTF-8": (message(inputs=[{"name": "town", "datatype": "BYTES", "shape": [1],
                                  "contents": {"bytes_contents": [b"\xff"]}}]), "INVALID_ARGUMENT", "bad_tensor"),
    "too few raw": (message(inputs=[X, X], raw_input_contents=[b"12345678"]), "INVALID_ARGUMENT", "bad_tensor"),
    "raw too short": (message(inputs=[X], raw_input_contents=[b"1234567"]), "INVALID_ARGUMENT", "bad_tensor"),
    "another model": (message()[:2] + b"other_" + message()[8:], "NOT_FOUND", "model_not_found"),
    "another version": (message(model_version="9"), "NOT_FOUND", "version_not_found"),
}  # fmt: skip


@pytest.fixture(scope="module")
def infer(place):
    with grpc.insecure_channel(place) as channel:
        yield channel.unary_unary(INFER)


@pytest.mark.parametrize("name", BAD)
def test_bad_messages_are_told_with_a_code_a_message_and_a_hint(infer, name):
    content, status, code = BAD[name]
    with pytest.raises(grpc.RpcError) as raised:
        infer(content, timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode[status]
    trailing = dict(raised.value.trailing_metadata())
    told = json.loads(trailing["x-problem-bin"])
    assert (told["code"], told["request_id"]) == (code, trailing["x-request-id"])
    assert told["message"] in raised.value.details()
    assert told["hint"] in raised.value.details()


def test_too_many_bytes_are_not_read(infer):
    with pytest.raises(grpc.RpcError) as raised:
        infer(b"\0" * 500_000, timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_that_does_not_come_is_not_waited_for(place):
    """The client gives no deadline: that of the header holds."""
    with grpc.insecure_channel(place) as channel:
        call = channel.stream_unary(INFER).future(iter(_never()), metadata=[("x-deadline-ms", "200")])
        assert call.exception(PATIENCE_S).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _never():
    import threading

    threading.Event().wait(5)
    yield b""


def test_a_deadline_that_is_over_is_told(infer):
    with pytest.raises(grpc.RpcError) as raised:
        infer(message(), metadata=[("x-deadline-ms", "soon")], timeout=PATIENCE_S)
    assert json.loads(dict(raised.value.trailing_metadata())["x-problem-bin"])["code"] == "bad_header"

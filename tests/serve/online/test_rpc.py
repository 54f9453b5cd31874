"""The Open Inference Protocol over gRPC: Triton's own client speaks to it, and a plain channel where that is polite."""

import asyncio
import dataclasses
import json
import socket
import threading

import numpy as np
import pytest
from tests.serve.online.servers import PATIENCE_S, serving
from tests.serve.online.test_server import rows_of, samples

from shardwise.core.errors import ConfigError
from shardwise.core.target import Task
from shardwise.serve.online.canary import Turn
from shardwise.serve.online.costs import Costs
from shardwise.serve.online.front import Front
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.live import FolderSource, Models, Slot
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.predictor import Predictor

grpc = pytest.importorskip("grpc", reason="the extra `serve-grpc` is not installed")
httpx = pytest.importorskip("httpx")
rpc = pytest.importorskip("shardwise.serve.online.rpc")
rpc_messages = pytest.importorskip("shardwise.serve.online.rpc_messages")
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


def test_grpcs_own_client_is_told_the_health(place):
    pb2 = pytest.importorskip("grpc_health.v1.health_pb2", reason="grpcio-health-checking is not installed")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    with grpc.insecure_channel(place) as channel:
        health = stubs.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "binary"):
            found = health.Check(pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
            assert found.status == pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            health.Check(pb2.HealthCheckRequest(service="nobody"), timeout=PATIENCE_S)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        watched = health.Watch(pb2.HealthCheckRequest(service="nobody"), timeout=PATIENCE_S)
        assert next(watched).status == pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watched.cancel()


def test_texts_and_times_that_are_missing_are_said_by_a_tensor_beside_them(triton, speaker, predictors):
    rows = rows_of(40)
    gone = np.array([number % 3 == 0 for number in range(len(rows))])
    sent = tensors(triton, rows)
    for name in ("town", "day"):
        sent.append(triton.InferInput(f"{name}:missing", [len(rows)], "BOOL"))
        sent[-1].set_data_from_numpy(gone)
    found = speaker.infer("binary", sent).as_numpy("probabilities")
    none = [{**row, "town": None, "day": None} if lost else {**row, "town": row["town"] or ""}
            for row, lost in zip(rows, gone, strict=True)]  # fmt: skip
    expected = [predictors[Task.BINARY].predict_one(row)["probability_true"] for row in none]
    np.testing.assert_array_equal(found[:, 1], expected)


def test_what_is_answered_is_counted_where_all_is(server, triton, speaker):
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        before = samples(client)
        speaker.infer("regression", tensors(triton, rows_of(3)))
        after = samples(client)
    key = "shardwise_requests_total", ("endpoint", "grpc_infer"), ("status", "200")
    assert after[key] - before.get(key, 0) == 1
    assert after["shardwise_group_rows_sum",] - before.get(("shardwise_group_rows_sum",), 0) == 3


def message(**other) -> bytes:
    return rpc_messages.MESSAGES["ModelInferRequest"](**{"model_name": "binary", **other}).SerializeToString()


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
    "FP16 without raw": (message(inputs=[{"name": "x", "datatype": "FP16", "shape": [1]}]), "INVALID_ARGUMENT",
                         "bad_tensor"),
    "another model": (message(model_name="other"), "NOT_FOUND", "model_not_found"),
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


@pytest.mark.parametrize("letter", ["x", "漢", "\U0001f600", "\n"])
@pytest.mark.parametrize("letters", [200, 500, 20_000])
def test_long_texts_of_a_client_do_not_take_the_room_of_the_problem(infer, letter, letters):
    name, x = letter * letters, b"12345678"
    inputs = [X, *({**X, "name": name} for name in ("z", "town", "day", name))]
    for content, code in (
        (message(model_name=name), "model_not_found"),
        (message(inputs=inputs), "unknown_column"),
        (message(inputs=[{**X, "name": name, "contents": {}}], raw_input_contents=[x[1:]]), "bad_tensor"),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            infer(content, timeout=PATIENCE_S, metadata=[("x-request-id", "i" * 128)])
        told = dict(raised.value.trailing_metadata())
        assert json.loads(told["x-problem-bin"])["code"] == code, raised.value.details()
        sizes = {"words": 3 * len(raised.value.details().encode()), "base64": 4 * len(told["x-problem-bin"]) // 3}
        assert sum(sizes.values()) < 7_500, sizes


def test_too_many_bytes_are_not_read(infer):
    with pytest.raises(grpc.RpcError) as raised:
        infer(b"\0" * 500_000, timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_message_that_does_not_come_is_not_waited_for(place):
    """The client gives no deadline: that of the header holds."""
    given_up = threading.Event()

    def never():
        given_up.wait(PATIENCE_S)
        yield b""

    with grpc.insecure_channel(place) as channel:
        call = channel.stream_unary(INFER).future(never(), metadata=[("x-deadline-ms", "200")])
        assert call.exception(PATIENCE_S).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        given_up.set()


def test_a_header_that_is_no_time_is_told(infer):
    with pytest.raises(grpc.RpcError) as raised:
        infer(message(), metadata=[("x-deadline-ms", "soon")], timeout=PATIENCE_S)
    assert json.loads(dict(raised.value.trailing_metadata())["x-problem-bin"])["code"] == "bad_header"


def test_the_table_of_fields_says_what_tritonclient_has():
    """Names, numbers, types: what a client nobody here wrote was generated from."""
    theirs = pytest.importorskip("tritonclient.grpc.service_pb2").DESCRIPTOR.message_types_by_name
    for name, made in rpc_messages.MESSAGES.items():
        outer, *inner = name.split(".")
        other = theirs[outer].nested_types_by_name[inner[0]] if inner else theirs[outer]
        own = {field.name: (field.number, field.type, field.is_repeated) for field in made.DESCRIPTOR.fields}
        known = {field.name: (field.number, field.type, field.is_repeated) for field in other.fields}
        assert own.items() <= known.items(), name
        assert known.keys() - own.keys() <= {"parameters", "contents"}, name


# -- under load: a server in this process, whose model waits to be let go ----------------------------------------------


class Gated(Predictor):
    gate: threading.Event

    def scores_of_rows(self, rows):
        assert self.gate.wait(PATIENCE_S)
        return super().scores_of_rows(rows)


def row_of(name: str = "m") -> bytes:
    kinds = {"x": "fp64", "z": "fp32", "town": "bytes", "day": "bytes"}
    values = {"x": 0.25, "z": 0.5, "town": b"Ulm", "day": b"2024-05-06"}
    inputs = [{"name": column, "datatype": kind.upper(), "shape": [1],
               "contents": {f"{kind}_contents": [values[column]]}}
              for column, kind in kinds.items()]  # fmt: skip
    return message(model_name=name, inputs=inputs)


def loaded(package, main, **config):
    """`await main(ask, gate, door, routes)`; `ask(**)` calls `infer` with one row."""
    slot = Slot(FolderSource("m", package), Gated)
    slot.live = dataclasses.replace(
        slot.live, costs=Costs()
    )  # nothing is known, so that the loop does not answer itself
    gate = slot.live.predictor.gate = threading.Event()
    routes = Routes(Models([slot]), ServeConfig(**config), Metrics())

    async def both():
        door = rpc.Rpc(Front(routes, Journal()), 0)
        async with grpc.aio.insecure_channel(await door.start()) as channel:
            infer = channel.unary_unary(INFER)
            try:
                await asyncio.wait_for(main(infer, gate, door, routes), PATIENCE_S)
            finally:
                gate.set()
                await door.stop(0)

    asyncio.run(both())
    routes.close()


async def status_of(call):
    """The code that a call ended with, and its trailing metadata."""
    return await call.code(), dict(await call.trailing_metadata())


async def until_it_waits(routes, rows):
    while f"shardwise_waiting_rows {rows}.0" not in routes.metrics.text().decode():
        await asyncio.sleep(0.01)


def test_more_than_the_queue_holds_is_refused_and_the_rest_is_answered(packages):
    async def main(infer, gate, door, routes):
        waiting = [infer(row_of()) for _ in range(2)]
        await until_it_waits(routes, 2)
        code, told = await status_of(infer(row_of()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(told["retry-after"]) >= 1
        gate.set()
        assert [await call.code() for call in waiting] == [grpc.StatusCode.OK] * 2

    loaded(packages[Task.BINARY], main, queue_rows=2)


def test_deadlines_of_the_server_of_the_header_and_of_the_client_hold(packages):
    async def main(infer, gate, door, routes):
        header = {"metadata": [("x-deadline-ms", "50")]}
        for words in ({}, header, {"timeout": 0.1}):
            code, _ = await status_of(infer(row_of(), **words))
            assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        gate.set()
        while "shardwise_waiting_rows 0.0" not in routes.metrics.text().decode():
            await asyncio.sleep(0.01)
        assert (await status_of(infer(row_of())))[0] is grpc.StatusCode.OK
        assert 'endpoint="grpc_infer",status="504"} 3.0' in routes.metrics.text().decode()

    loaded(packages[Task.BINARY], main, deadline_s=0.3)


def test_a_port_that_is_taken_is_told(packages):
    async def main(infer, gate, door, routes):
        refused = pytest.raises(ConfigError, match="cannot be listened at for gRPC")
        with socket.create_server(("127.0.0.1", 0)) as other, refused:
            await rpc.Rpc(Front(routes, Journal()), other.getsockname()[1]).start()

    loaded(packages[Task.BINARY], main)


def test_what_is_under_way_is_answered_before_the_end(packages):
    async def main(infer, gate, door, routes):
        call = infer(row_of())
        await until_it_waits(routes, 1)
        ending = asyncio.ensure_future(door.stop(PATIENCE_S))
        code, _ = await status_of(infer(row_of()))
        assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # the latter before it knows of the end
        gate.set()
        assert await call.code() is grpc.StatusCode.OK
        await ending

    loaded(packages[Task.BINARY], main)


def test_who_watches_is_told_of_the_drain_and_holds_no_end(packages):
    routes = Routes(Models([Slot(FolderSource("m", packages[Task.BINARY]), Predictor)]), ServeConfig(), Metrics())

    async def main():
        door = rpc.Rpc(Front(routes, Journal()), 0)
        async with grpc.aio.insecure_channel(await door.start()) as channel:
            call = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            assert await call.read() == bytes([8, 1])  # the field 1 of a message: SERVING
            routes.ready = False
            assert await call.read() == bytes([8, 2])
            await asyncio.wait_for(door.stop(10 * PATIENCE_S), PATIENCE_S)
            assert await call.read() is grpc.aio.EOF

    asyncio.run(main())
    routes.close()


class Halved:
    """A rollout that answers the key `new` by the candidate, and notes what became of it."""

    def __init__(self, slot, candidate):
        self.slot, self.candidate, self.seen = slot, candidate, []

    def turn(self, key):
        return Turn(self, key == "new")

    def answered(self, rows, scores):
        self.seen.append(len(rows))

    def ended(self, is_candidate, status, seconds):
        self.seen.append((is_candidate, status))


def test_rollouts_choose_and_count_as_over_http_and_a_swap_is_followed(packages):
    async def main(infer, gate, door, routes):
        (slot,) = routes.models.slots
        gate.set()
        candidate = dataclasses.replace(slot.live, version="candidate")
        routes.canaries.running["m"] = rollout = Halved(slot, candidate)
        answers = [await infer(row_of(), metadata=[("x-rollout-key", key)]) for key in ("new", "old")]
        told = [rpc_messages.MESSAGES["ModelInferResponse"].FromString(answer) for answer in answers]
        assert [each.model_version for each in told] == ["candidate", slot.live.version]
        assert rollout.seen == [1, (True, 200), 1, (False, 200)]
        bad = infer(message(model_name="m", inputs=[X]), metadata=[("x-rollout-key", "new")])
        assert await bad.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rollout.seen[4:] == [(True, 422)]
        routes.models.beside["m"] = candidate
        asked = rpc_messages.MESSAGES["ModelMetadataRequest"](name="m", version="candidate")
        told = await rpc.Endpoints(routes).model(asked, None)
        assert list(told.versions) == [slot.live.version, "candidate"]
        del routes.canaries.running["m"]
        slot.live = dataclasses.replace(slot.live, version="next")
        assert rpc_messages.MESSAGES["ModelInferResponse"].FromString(await infer(row_of())).model_version == "next"

    loaded(packages[Task.BINARY], main)

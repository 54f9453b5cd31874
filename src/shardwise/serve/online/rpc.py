"""The Open Inference Protocol over gRPC: another door to the same rooms.

A call becomes what a request over HTTP is: the same versions, lanes, limits, cache, watching and rollouts answer it. It
is read as a stream of one message, which is the same on the wire, so that its head can be refused before its body is
read, and a client that sends half of it is given up.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shardwise.core.errors import ConfigError
from shardwise.serve.online.call import Call
from shardwise.serve.online.front import GONE, Front
from shardwise.serve.online.inference import Infer, model_metadata, server_metadata
from shardwise.serve.online.problems import Problem, too_late
from shardwise.serve.online.routes import Routes
from shardwise.serve.online.rpc_health import HEALTH, Health
from shardwise.serve.online.rpc_messages import MESSAGES, SERVICE
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.tensors import to_bytes

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED, 413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT, 429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_HANDSHAKE_S = 10
_ROOM_BYTES = 1_500  # of a problem: in the end of a call, where clients read 8 KB, it is there as words and as base64
_BRIEF = 150  # characters of each text of one that is longer
Answer = Callable[[Any, Call], Awaitable[Any]]


@dataclass(frozen=True)
class _Method:
    """One that can be called. `is_open`: without a key. `message`: what it is asked with, else that of its name."""

    name: str
    endpoint: str
    answer: Answer
    is_open: bool = False
    message: Any = None

    @property
    def request(self) -> Any:
        return self.message or MESSAGES[f"{self.name}Request"]


class Rpc:
    """A gRPC server in the loop of the HTTP server."""

    def __init__(self, front: Front, port: int) -> None:
        self._front, self._port = front, port
        self._server: Any = None
        endpoints = Endpoints(front.routes)
        self._methods = (
            _Method("ServerLive", "grpc_live", endpoints.live, is_open=True),
            _Method("ServerReady", "grpc_ready", endpoints.ready, is_open=True),
            _Method("ServerMetadata", "grpc_server", endpoints.server),
            _Method("ModelReady", "grpc_model_ready", endpoints.model_ready),
            _Method("ModelMetadata", "grpc_model", endpoints.model),
            _Method("ModelInfer", "grpc_infer", endpoints.infer),
        )
        self._health = Health(front.routes)
        self._check = _Method("Check", "grpc_health", self._health.check, is_open=True, message=Health.request)

    async def start(self) -> str:
        """Listen; `host:port`. Raises `ConfigError` when the port cannot be had, or the certificate not be read."""
        config = self._front.routes.config
        server = grpc.aio.server(options=_options(config), maximum_concurrent_rpcs=config.most_connections)
        handlers = {method.name: grpc.stream_unary_rpc_method_handler(partial(self._called, method))
                    for method in self._methods}  # fmt: skip
        health = {"Check": grpc.stream_unary_rpc_method_handler(partial(self._called, self._check)),
                  "Watch": grpc.unary_stream_rpc_method_handler(self._watched)}  # fmt: skip
        served = ((SERVICE, handlers), (HEALTH, health))
        server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(*each) for each in served))
        host = f"[{config.host}]" if ":" in config.host else config.host
        place = f"{host}:{self._port}"
        try:
            port = server.add_insecure_port(place) if config.tls_cert is None else _secure_port(server, place, config)
        except RuntimeError:
            port = 0
        if port == 0:
            hint = "Another process may have it: give another --grpc-port."
            raise ConfigError(f"{place} cannot be listened at for gRPC", hint=hint)
        await server.start()
        self._server = server
        return f"{host}:{port}"

    async def stop(self, grace_s: float) -> None:
        """Take no more calls; those that are under way have so long, and watchers are told."""
        self._health.ended = True
        await self._server.stop(grace_s)

    async def _called(self, method: _Method, messages: AsyncIterator[bytes], context: Any) -> bytes:
        came_s = time.perf_counter()
        headers = _headers(context)
        call_id, call, status = self._front.id_of(headers), None, 200
        try:
            call = self._call(headers, call_id, came_s, context.time_remaining())
            if not method.is_open:
                self._front.check_key(headers)
            response = await method.answer(await _message(method, messages, call), call)
            context.set_trailing_metadata((("x-request-id", call_id),))
            return bytes(response.SerializeToString())
        except asyncio.CancelledError:
            left_s = context.time_remaining()
            status = 504 if left_s is not None and left_s <= 0 else GONE
            raise
        except Exception as error:
            problem = self._front.problem(error, method.endpoint, call_id)
            status = problem.status
        finally:
            self._front.ended(method.endpoint, call, status, time.perf_counter() - came_s)
        await _abort(context, problem, call_id)
        raise AssertionError  # aborting raises

    async def _watched(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        """A client that watches takes no lane and no deadline of ours, and is not counted: it may stay for days."""
        try:
            message = Health.request.FromString(raw)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the message is no HealthCheckRequest")
        async for response in self._health.watch(message, context.done):
            yield bytes(response.SerializeToString())

    def _call(self, headers: Mapping[bytes, bytes], call_id: str, came_s: float, left_s: float | None) -> Call:
        deadline_s = self._front.deadline_s(headers)
        if left_s is not None:
            deadline_s = min(deadline_s, max(left_s, 0.0))
        return Call(id=call_id, headers=headers, came_s=came_s, deadline_s=deadline_s, trace=self._front.trace())


class Endpoints:
    """What each method answers, from a message to a message."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def live(self, message: Any, call: Call) -> Any:  # noqa: ARG002 - as all methods
        return MESSAGES["ServerLiveResponse"](live=True)

    async def ready(self, message: Any, call: Call) -> Any:  # noqa: ARG002
        return MESSAGES["ServerReadyResponse"](ready=self._routes.ready)

    async def server(self, message: Any, call: Call) -> Any:  # noqa: ARG002
        return MESSAGES["ServerMetadataResponse"](**server_metadata(binary=False))

    async def model_ready(self, message: Any, call: Call) -> Any:  # noqa: ARG002
        self._routes.models.find(message.name, message.version or None)
        return MESSAGES["ModelReadyResponse"](ready=self._routes.ready)

    async def model(self, message: Any, call: Call) -> Any:  # noqa: ARG002
        models = self._routes.models
        told = model_metadata(models.find(message.name, message.version or None), models.versions(message.name))
        tensors = {side: [{key: each[key] for key in ("name", "datatype", "shape")} for each in told[side]]
                   for side in ("inputs", "outputs")}  # fmt: skip
        return MESSAGES["ModelMetadataResponse"](
            name=told["name"], versions=told["versions"], platform=told["platform"], **tensors
        )

    async def infer(self, message: Any, call: Call) -> Any:
        started = time.perf_counter()
        served = self._routes.chosen(call, message.model_name, message.model_version or None)
        infer = Infer(*_as_json(message), self._routes.config, served)
        scores = await self._routes.inferred(infer, served, call, started)
        started = time.perf_counter()
        outputs = infer.outputs(served, scores)
        response = MESSAGES["ModelInferResponse"](
            model_name=served.name, model_version=served.version, id=message.id,
            outputs=[{"name": tensor.name, "datatype": tensor.datatype, "shape": shape} for tensor, shape in outputs],
            raw_output_contents=[to_bytes(tensor) for tensor, _ in outputs],
        )  # fmt: skip
        self._routes.staged("write", started, call)
        return response


def _as_json(message: Any) -> tuple[dict[str, Any], bytes]:
    """A `ModelInferRequest` as the body of an `infer` request over HTTP: its JSON, and the bytes that follow."""
    raws = list(message.raw_input_contents)
    if raws and len(raws) != len(message.inputs):
        raise Problem(400, "bad_tensor", f"there are {len(message.inputs)} inputs and {len(raws)} raw_input_contents",
                      hint="Give the bytes of each input, in their order, or none.")  # fmt: skip
    inputs = []
    for number, tensor in enumerate(message.inputs):
        told = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if raws:
            told["parameters"] = {"binary_data_size": len(raws[number])}
        elif tensor.datatype == "FP16":
            raise Problem(400, "bad_tensor", f"input {tensor.name!r} is FP16, for which contents have no field",
                          hint="Give raw_input_contents, or send FP32.", column=tensor.name)  # fmt: skip
        elif tensor.datatype in _CONTENTS:  # which others there are is told by who reads it
            told["data"] = _values(tensor)
        inputs.append(told)
    content: dict[str, Any] = {"inputs": inputs}
    if len(message.outputs):
        content["outputs"] = [{"name": wanted.name} for wanted in message.outputs]
    return content, b"".join(raws)


def _values(tensor: Any) -> list[Any]:
    values = list(getattr(tensor.contents, _CONTENTS[tensor.datatype]))
    if tensor.datatype != "BYTES":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise Problem(400, "bad_tensor", f"the texts of input {tensor.name!r} cannot be read", hint="Send UTF-8.",
                      column=tensor.name) from None  # fmt: skip


async def _message(method: _Method, messages: AsyncIterator[bytes], call: Call) -> Any:
    """The one message of a call; raises `Problem` when it does not come in time, or is none."""
    try:
        raw = await asyncio.wait_for(anext(messages), call.left_s)
    except TimeoutError:
        raise too_late(call.deadline_s) from None
    except StopAsyncIteration:
        raise Problem(400, "no_message", f"{method.name} came without a message", hint="Send one.") from None
    try:
        return method.request.FromString(raw)
    except DecodeError:
        raise Problem(400, "malformed_message", f"the message is no {method.name}Request",
                      hint="Send the messages of the Open Inference Protocol, version 2.") from None  # fmt: skip


def _headers(context: Any) -> dict[bytes, bytes]:
    found = context.invocation_metadata() or ()
    return {key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in found}


async def _abort(context: Any, problem: Problem, call_id: str) -> None:
    """End a call with what went wrong: words in the status, and all of it as JSON in `x-problem-bin`."""
    if len(problem.body(call_id)) > _ROOM_BYTES:
        problem = problem.brief(_BRIEF)
    told = [("x-request-id", call_id), ("x-problem-bin", problem.body(call_id))]
    told += [(name, value) for name, value in problem.headers.items() if name == "retry-after"]
    details = f"{problem.message}. {problem.hint}" if problem.hint else problem.message
    await context.abort(_CODES.get(problem.status, grpc.StatusCode.INTERNAL), details, tuple(told))


def _options(config: ServeConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(config.workers > 1)),
        ("grpc.max_receive_message_length", config.max_json_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.server_handshake_timeout_ms", 1000 * _HANDSHAKE_S),
    ]


def _secure_port(server: Any, place: str, config: ServeConfig) -> int:
    assert config.tls_cert is not None
    assert config.tls_key is not None
    pair = Path(config.tls_key).read_bytes(), Path(config.tls_cert).read_bytes()
    return int(server.add_secure_port(place, grpc.ssl_server_credentials([pair])))

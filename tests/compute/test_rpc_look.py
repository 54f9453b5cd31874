"""What surely is not Ray is told from what may be, by one call."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from shardwise.compute.endpoints import check_ray
from shardwise.compute.rpc_look import PREFACE, SETTINGS, frame, may_be_ray
from shardwise.core.errors import ConfigError

PATH = "/ray.rpc.NodeInfoGcsService/GetClusterId"


@contextmanager
def serving(answer: Callable[[Any], bytes] | None) -> Iterator[str]:
    """The address of a server of gRPC that knows the call, or none at all."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
        def service(self, details: Any) -> Any:
            if answer is None or details.method != PATH:
                return None
            return grpc.unary_unary_rpc_method_handler(lambda _request, context: answer(context))

    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def looked_at(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        return may_be_ray(connection, address, 30.0)


def test_who_answers_the_call_may_be_ray() -> None:
    with serving(lambda _context: b"\x12\x02ab") as address:
        assert looked_at(address)
        check_ray(address)


def test_who_asks_for_a_token_may_be_ray() -> None:
    def refuse(context: Any) -> bytes:
        import grpc

        return bytes(context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token"))

    with serving(refuse) as address:
        assert looked_at(address)


def test_who_does_not_know_the_call_is_not_ray() -> None:
    with serving(None) as address:
        assert not looked_at(address)
        with pytest.raises(ConfigError, match=f"what listens at {address} is not ray"):
            check_ray(address)


ANSWERS = {
    "a page that is not there": (frame(1, 4, 1, b"\x8d") + frame(0, 1, 1, b"Not found"), False),
    "a page": (frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"<html>"), False),
    "the end": (frame(7, 0, 0, bytes(8)), False),
    "a refusal": (frame(3, 0, 1, bytes(4)), False),
    "a call that is not known": (frame(1, 5, 1, b"\x20\x88\x00\x0bgrpc-status\x0212"), False),
    "another error": (frame(1, 5, 1, b"\x20\x88\x00\x0bgrpc-status\x0216"), True),
    "a padded answer": (frame(1, 4 | 8, 1, b"\x02\x88ab") + frame(0, 0, 1, bytes(5)), True),
    "nothing": (b"", True),
}


@pytest.mark.parametrize(("said", "may_be"), ANSWERS.values(), ids=ANSWERS)
def test_what_is_answered(said: bytes, may_be: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer() -> None:
            link, _ = door.accept()
            with link:
                heard = b""
                while len(heard) < len(PREFACE) + 9:
                    heard += link.recv(2**14)
                link.sendall(frame(SETTINGS, 0, 0) + said)
                link.shutdown(socket.SHUT_WR)
                while link.recv(2**14):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        assert looked_at(f"127.0.0.1:{door.getsockname()[1]}") == may_be
        thread.join()

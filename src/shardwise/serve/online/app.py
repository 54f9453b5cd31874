"""The ASGI application: the head of a request, its answer or its problem, and what is told of both.

There is no framework: a dict of paths and one of headers are all that is needed, and cost a microsecond. What routing
costs otherwise is in docs/decisions/0017-online.md.
"""

import asyncio
import itertools
import re
import secrets
import sys
import traceback
from collections.abc import Mapping

from shardwise.core.errors import ShardwiseError
from shardwise.serve.online.http import Disconnected, Receive, Request, Response, Scope, Send
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.problems import Problem, overloaded, problem_of
from shardwise.serve.online.routes import PREDICTIONS, Routes

DEADLINE_HEADER = b"x-deadline-ms"
ID_HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_START = "http.response.start"
_BODY = "http.response.body"


class App:
    """What the server calls for each request. `connections` counts those that are open now."""

    def __init__(self, routes: Routes, journal: Journal) -> None:
        self.routes, self._journal = routes, journal
        self.connections = 0
        self._ids = (f"{prefix}-{number:x}" for prefix in [secrets.token_hex(4)] for number in itertools.count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # neither web sockets nor a lifespan are offered
        now = asyncio.get_running_loop().time
        came_s = now()
        headers = dict(scope["headers"])
        request_id = self._id(headers)
        endpoint, response, request = "none", None, None
        try:
            request = self._request(scope, headers, receive, request_id, came_s)
            endpoint, handler = self.routes.find(request.method, request.path)
            if self.connections > self.routes.config.most_connections and request.method == "POST":
                self.routes.metrics.refused("connections")
                raise overloaded(f"{self.connections} connections", 1.0)
            response = await handler(request)
        except Problem as problem:
            response = _of_problem(problem, request_id)
        except ShardwiseError as error:
            response = _of_problem(problem_of(error), request_id)
        except Disconnected:
            self.routes.metrics.request(endpoint, 499, now() - came_s)
            return
        except Exception as error:
            response = self._failed(error, endpoint, request_id)
        await _send(send, response, request_id)
        self.routes.metrics.request(endpoint, response.status, now() - came_s)
        if endpoint in PREDICTIONS:
            if self.routes.watching is not None:
                self.routes.watching.request(response.status, now() - came_s)
            if request is not None and request.turn is not None:
                request.turn.ended(response.status, now() - came_s)

    def _id(self, headers: Mapping[bytes, bytes]) -> str:
        """That of the client, if it is a plain word, else one of ours."""
        given = headers.get(ID_HEADER)
        return given.decode() if given is not None and _ID.fullmatch(given) else next(self._ids)

    def _request(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, request_id: str, came_s: float
    ) -> Request:
        return Request(
            method=scope["method"], path=scope["path"], query=scope["query_string"], headers=headers, receive=receive,
            id=request_id, came_s=came_s, deadline_s=_deadline_s(headers, self.routes.config.deadline_s),
        )  # fmt: skip

    def _failed(self, error: Exception, endpoint: str, request_id: str) -> Response:
        """A defect of ours: told whole in the log, and by its number to the client."""
        traceback.print_exc(file=sys.stderr)
        self._journal.tell("request_failed", endpoint=endpoint, request_id=request_id, error=repr(error))
        hint = "This is a defect of the server; its log has more under the request_id."
        return _of_problem(Problem(500, "internal", "the request failed in the server", hint=hint), request_id)


def _deadline_s(headers: Mapping[bytes, bytes], most_s: float) -> float:
    """Seconds that the client gives, at most those of the server."""
    told = headers.get(DEADLINE_HEADER)
    if told is None:
        return most_s
    if not told.isdigit() or int(told) == 0:
        raise Problem(400, "bad_header", f"{DEADLINE_HEADER.decode()} is {told.decode('latin1')[:50]!r}",
                      hint="Give whole milliseconds, at least 1.")  # fmt: skip
    return min(most_s, int(told) / 1000)


def _of_problem(problem: Problem, request_id: str) -> Response:
    return Response(problem.body(request_id), status=problem.status, headers=problem.headers)


async def _send(send: Send, response: Response, request_id: str) -> None:
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"content-length", b"%d" % len(response.body)),
        (ID_HEADER, request_id.encode()),
    ]
    headers += [(name.encode(), value.encode()) for name, value in response.headers.items()]
    await send({"type": _START, "status": response.status, "headers": headers})
    await send({"type": _BODY, "body": response.body})

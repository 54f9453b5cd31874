"""The ASGI application: the head of a request, its answer or its problem, and what is told of both.

There is no framework: a dict of paths and one of headers are all that is needed, and cost a microsecond. What routing
costs otherwise is in docs/decisions/0017-online.md.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import NoReturn

from shardwise.serve.online.front import GONE, ID_HEADER, Front
from shardwise.serve.online.http import Disconnected, Receive, Request, Response, Scope, Send
from shardwise.serve.online.problems import Problem, overloaded
from shardwise.serve.online.ui.page import OPEN

OPEN_PATHS = frozenset(("/v2/health/live", "/v2/health/ready", *OPEN))  # which ask for no key, and tell of no model
OVER = "shardwise.over"  # in a scope: its connection came when there were too many already
REFUSED_S = 0.5  # until it is told so
_START = "http.response.start"
_BODY = "http.response.body"


class App:
    """What the server calls for each request. `connections` counts those that are open now."""

    def __init__(self, front: Front) -> None:
        self._front, self._routes = front, front.routes
        self.connections = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # neither web sockets nor a lifespan are offered
        came_s = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._front.id_of(headers)
        endpoint, request = "none", None
        try:
            request = self._request(scope, headers, receive, request_id, came_s)
            if request.path not in OPEN_PATHS:
                self._front.check_key(headers)
            endpoint, handler = self._routes.find(request.method, request.path)
            if scope.get(OVER) and self.is_crowded and request.method == "POST":
                await self._refuse()
            response = await handler(request)
        except Disconnected:
            self._front.ended(endpoint, request, GONE, time.perf_counter() - came_s)
            return
        except Exception as error:
            response = _of_problem(self._front.problem(error, endpoint, request_id), request_id)
        await _send(send, response, request_id)
        self._front.ended(endpoint, request, response.status, time.perf_counter() - came_s)

    @property
    def is_crowded(self) -> bool:
        """Whether there are more connections than allowed: requests of those that came last are refused."""
        return self.connections > self._routes.config.most_connections

    def unreadable(self, problem: Problem) -> tuple[str, bytes]:
        """The id and the body of the answer to what is no request; it is counted as the others are."""
        request_id = self._front.id_of({})
        self._front.ended("none", None, problem.status, 0.0)
        return request_id, problem.body(request_id)

    async def _refuse(self) -> NoReturn:
        """Not at once: who asks again and again would take the time that the others need."""
        self._routes.metrics.refused("connections")
        await asyncio.sleep(REFUSED_S)
        raise overloaded(f"{self.connections} connections", 1.0)

    def _request(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, request_id: str, came_s: float
    ) -> Request:
        return Request(
            method=scope["method"], path=scope["path"], query=scope["query_string"], headers=headers, receive=receive,
            id=request_id, came_s=came_s, deadline_s=self._front.deadline_s(headers), trace=self._front.trace(),
        )  # fmt: skip


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

"""What calls over HTTP and over gRPC have in common: who may ask, how long it may take, what is told of the answer."""

import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Protocol

from shardwise.core.errors import ShardwiseError
from shardwise.serve.online.call import Call, Trace, whole_header
from shardwise.serve.online.journal import Journal
from shardwise.serve.online.keys import Keys
from shardwise.serve.online.metrics import PREDICTIONS
from shardwise.serve.online.problems import Problem, problem_of
from shardwise.serve.online.routes import Routes

DEADLINE_HEADER = b"x-deadline-ms"
ID_HEADER = b"x-request-id"
GONE = 499  # as a status: the client has not waited for the answer
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Tracing(Protocol):
    """Makes spans of calls that have ended: `tracing.Spans`."""

    def ended(self, call: Call, endpoint: str, status: int) -> None: ...

    def close(self) -> None: ...


class Front:
    """Where calls come in; used by the thread of the event loop alone."""

    def __init__(
        self, routes: Routes, journal: Journal, *, keys: Keys | None = None, tracing: Tracing | None = None
    ) -> None:
        self.routes, self.keys, self._journal, self._tracing = routes, keys, journal, tracing
        self._ids = (f"{prefix}-{number:x}" for prefix in [secrets.token_hex(4)] for number in itertools.count(1))

    def id_of(self, headers: Mapping[bytes, bytes]) -> str:
        """That of the client, if it is a plain word, else one of ours."""
        given = headers.get(ID_HEADER)
        return given.decode() if given is not None and _ID.fullmatch(given) else next(self._ids)

    def deadline_s(self, headers: Mapping[bytes, bytes]) -> float:
        """Seconds that the client gives, at most those of the server; raises `Problem` for what is no time."""
        most_s = self.routes.config.deadline_s
        hint = "Give whole milliseconds, at least 1."
        told = whole_header(headers, DEADLINE_HEADER, hint)
        if told == 0:
            raise Problem(400, "bad_header", f"{DEADLINE_HEADER.decode()} is 0", hint=hint)
        return most_s if told is None else min(most_s, told / 1000)

    def trace(self) -> Trace | None:
        """For a call that has come; None where nothing is traced."""
        return None if self._tracing is None else Trace()

    def check_key(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise `Problem` 401 where keys are asked for, and none that is known is given; a key of decisions will do."""
        admin = self.routes.decisions.keys
        if self.keys is not None and not (admin is not None and admin.knows(headers)):
            self.keys.check(headers)

    def problem(self, error: Exception, endpoint: str, call_id: str) -> Problem:
        """What the client is told of an error. A defect of ours is told whole in the log alone."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, ShardwiseError):
            return problem_of(error)
        self._journal.trace(error)
        self._journal.tell("request_failed", endpoint=endpoint, request_id=call_id, error=repr(error))
        hint = "This is a defect of the server; its log has more under the request_id."
        return Problem(500, "internal", "the request failed in the server", hint=hint)

    def ended(self, endpoint: str, call: Call | None, status: int, seconds: float) -> None:
        """Count an answer. `call` is None where its head could not be read."""
        self.routes.metrics.request(endpoint, status, seconds)
        if endpoint not in PREDICTIONS:
            return
        if call is not None and call.trace is not None and self._tracing is not None:
            self._tracing.ended(call, endpoint, status)
        if status == GONE:
            return
        if self.routes.watching is not None:
            self.routes.watching.request(status, seconds)
        if call is not None and call.turn is not None:
            call.turn.ended(status, seconds)

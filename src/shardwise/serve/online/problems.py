"""What goes wrong with a request: a status, a code for programs, a message and a hint for people."""

import json
import math
from collections.abc import Mapping
from typing import Any

from shardwise.core.errors import BadInput, CeilingReached, ShardwiseError

_SHOWN = 500  # characters of a message: a client's own values may be in it


class Problem(Exception):
    """The answer to a request that cannot be answered otherwise."""

    def __init__(
        self, status: int, code: str, message: str, *, hint: str = "", headers: Mapping[str, str] | None = None,
        **where: Any,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, _short(message), _short(hint)
        self.headers = dict(headers or {})
        self.where = where

    def brief(self, most: int) -> "Problem":
        """With texts of at most `most` characters, for where there is little room."""
        where = {name: _short(value, most) if isinstance(value, str) else value for name, value in self.where.items()}
        message, hint = _short(self.message, most), _short(self.hint, most)
        return Problem(self.status, self.code, message, hint=hint, headers=self.headers, **where)

    def body(self, request_id: str) -> bytes:
        """JSON; `error` is where clients of the Open Inference Protocol look for the message."""
        told = {"code": self.code, "message": self.message, "hint": self.hint, "error": self.message}
        where = {name: _short(value) if isinstance(value, str) else value for name, value in self.where.items()}
        return json.dumps({**told, **where, "request_id": request_id}, ensure_ascii=False, default=str).encode(
            "utf-8", "backslashreplace"
        )


def problem_of(error: ShardwiseError) -> Problem:
    """An error of the predictor as the answer to the request that caused it."""
    where: dict[str, Any] = {key: error.context[key] for key in ("column", "row") if key in error.context}
    if isinstance(error, BadInput):
        return Problem(422, "invalid_row", error.message, hint=error.hint, **where)
    if isinstance(error, CeilingReached):
        return Problem(413, "too_large", error.message, hint="Send fewer rows at a time.", **where)
    return Problem(500, "failed", error.message, hint=error.hint, **where)


def overloaded(what: str, wait_s: float) -> Problem:
    """429; the client is told when to come again."""
    seconds = max(1, math.ceil(wait_s))
    message = f"the server has {what} waiting already"
    hint = f"Try again in {seconds} s, or send fewer requests at a time."
    return Problem(429, "overloaded", message, hint=hint, headers={"retry-after": str(seconds)})


def too_late(deadline_s: float) -> Problem:
    return Problem(504, "deadline_exceeded", f"the answer would take longer than {deadline_s:g} s",
                   hint="Give it more time, or send fewer rows at a time.")  # fmt: skip


def _short(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."

"""The page: a shell that holds no data, and what its script asks for, which a key guards as all else.

The shell is open to all, because a browser sends no key when it goes to an address; it is the same for every server.
Its script asks for a key where one is needed, keeps it in memory alone, and puts texts of users into text nodes. The
Content-Security-Policy allows nothing but the page's own files, and no other page may show it in a frame.
"""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

import orjson

from shardwise.serve.online.bulk import Bulk
from shardwise.serve.online.http import JSON, Request, Response
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import check_rows, read_json, rows_of
from shardwise.serve.online.ui.decisions import MOST_BYTES
from shardwise.serve.online.ui.forms import explained_json, form_of
from shardwise.serve.online.ui.history import History
from shardwise.serve.online.ui.state import Registered, Shown, state_of

_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")  # fmt: skip
_SHELL_HEADERS = {
    "content-security-policy": _POLICY, "x-content-type-options": "nosniff", "x-frame-options": "DENY",
    "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin", "cache-control": "no-cache",
}  # fmt: skip
_DATA_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_FORMS = 10  # that are kept
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
SHELL = {"/ui": "page.html", **{f"/ui/{name}": name for name in ("page.css", "page.js", "charts.js", "parts.js")}}
SLASH = "/ui/"
OPEN = (*SHELL, SLASH)  # what asks for no key


class Page:
    """The endpoints of the page. A thread of its own waits for registries and explanations."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.history = History(shown.metrics)
        self._registered = Registered(shown.models)
        self._forms: dict[tuple[str, str, str], bytes] = {}  # by names: a version itself would stay loaded
        self._thread = Bulk(None, "page")
        folder = files("shardwise.serve.online.ui")
        self._shell = {path: _file(name, (folder / name).read_bytes()) for path, name in SHELL.items()}
        self._shell[SLASH] = Response(b"", status=308, headers={"location": "../ui"})

    def close(self) -> None:
        self._thread.close()

    async def shell(self, request: Request) -> Response:
        return self._shell[request.path]

    async def state(self, request: Request) -> Response:
        """All but forms; `decisions` is about the key of this request."""
        registered = await self._thread.run(self._registered.read, request.left_s)
        may = self._shown.decisions.may(request.headers)
        return _data(state_of(self._shown, self.history, registered, may))

    async def form(self, request: Request, served: Served) -> Response:
        found = await self._thread.run(partial(self._form, served), request.left_s)
        return Response(found, JSON, headers=_DATA_HEADERS)

    async def explain(self, request: Request, served: Served) -> Response:
        """A row, its answer and why; it counts neither as traffic nor for a rollout."""
        if request.content_type not in ("", JSON):
            raise Problem(415, "unsupported_type", f"the content-type {request.content_type!r} is not understood",
                          hint=f"Send {JSON}.")  # fmt: skip
        config = self._shown.config
        rows, single = rows_of(read_json(await request.body(config.max_json_bytes)), config)
        if not single:
            raise Problem(422, "not_a_row", "an answer is explained for one row", hint="Send an object, not a list.")
        check_rows(rows, served, config)
        found = await self._thread.run(partial(explained_json, served, rows[0]), request.left_s)
        return Response(found, JSON, headers={**_DATA_HEADERS, "x-model-version": served.version})

    async def decide(self, request: Request) -> Response:
        decisions = self._shown.decisions
        decisions.check(request.headers, request.content_type)
        content = read_json(await request.body(MOST_BYTES))
        return _data(await self._thread.run(partial(decisions.decide, content, request.id), request.left_s))

    def _form(self, served: Served) -> bytes:
        """Made once for each of the versions that were asked for last."""
        key = served.name, served.version, served.identity
        if key not in self._forms:
            newest = list(self._forms.items())[: _FORMS - 1]
            self._forms = {key: orjson.dumps(form_of(served)), **dict(newest)}
        return self._forms[key]


def _file(name: str, content: bytes) -> Response:
    return Response(content, f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8", headers=_SHELL_HEADERS)


def _data(content: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(content, default=str), JSON, headers=_DATA_HEADERS)

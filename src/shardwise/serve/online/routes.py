"""What each path answers."""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from shardwise.serve.cache.base import Cache
from shardwise.serve.online.arrow import ARROW_FILE, answer_arrow, check_columns, read_arrow
from shardwise.serve.online.bulk import Bulk
from shardwise.serve.online.call import Call
from shardwise.serve.online.canary import KEY_HEADER, Canaries, Compared
from shardwise.serve.online.feedback import Memory, check_sender, read_feedback
from shardwise.serve.online.http import ARROW_STREAM, JSON, OCTETS, Request, Response, too_large
from shardwise.serve.online.inference import Infer, head_length, model_metadata, server_metadata
from shardwise.serve.online.lane import GROUP_ROWS, Lane
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.metrics import CONTENT_TYPE, Metrics
from shardwise.serve.online.openapi import document
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.rows import answer_json, check_rows, confidence_level, read_json, rows_of
from shardwise.serve.online.settings import ServeConfig
from shardwise.serve.online.ui.decisions import Decisions
from shardwise.serve.online.ui.page import OPEN, Page
from shardwise.serve.online.watch import Watching

Handler = Callable[[Request], Awaitable[Response]]
_JSON_TYPES = ("", JSON, "application/x-www-form-urlencoded")  # the last is what curl says without being asked


class Routes:
    """The endpoints of a server."""

    def __init__(self, models: Models, config: ServeConfig, metrics: Metrics, cache: Cache | None = None) -> None:
        self.models, self.config, self.metrics, self.cache = models, config, metrics, cache
        self.ready = True
        self.secured = False  # whether clients need a key, for the document
        self.watching: Watching | None = None
        self.canaries = Canaries(models, config)
        self.decisions = Decisions(models)
        self.memory = Memory()
        remote = cache is not None and any(not name.startswith("memory") for name in config.cache)
        self._lanes = {name: Lane(config, metrics, inline=not remote) for name in models.names}
        self._bulk = Bulk(metrics)
        self.page = Page(self)
        self._fixed: Mapping[tuple[str, str], tuple[str, Handler]] = {
            ("GET", "/v2/health/live"): ("live", self.live),
            ("GET", "/v2/health/ready"): ("ready", self.is_ready),
            ("GET", "/v2"): ("server", self.server),
            ("GET", "/v2/models"): ("models", self.list_models),
            ("POST", "/predict"): ("predict", self.predict),
            ("POST", "/feedback"): ("feedback", self.feedback),
            ("GET", "/rollout"): ("rollout", self.show_rollout),
            ("GET", "/monitor"): ("monitor", self.show_monitor),
            ("GET", "/metrics"): ("metrics", self.show_metrics),
            ("GET", "/openapi.json"): ("openapi", self.show_openapi),
            ("POST", "/explain"): ("explain", self.explain),
            ("POST", "/rollout"): ("decide", self.page.decide),
            ("GET", "/ui/state"): ("ui", self.page.state),
            ("GET", "/ui/form"): ("ui", self.show_form),
            **{("GET", path): ("ui", self.page.shell) for path in OPEN},
        }

    def close(self) -> None:
        """End the threads; nothing is under way any more."""
        for lane in self._lanes.values():
            lane.close()
        self._bulk.close()
        self.page.close()

    def find(self, method: str, path: str) -> tuple[str, Handler]:
        """The name of an endpoint, and what answers it; raises `Problem` 404 or 405."""
        method = "GET" if method == "HEAD" else method
        path = path.rstrip("/") if path == "/v2/" else path
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        if path.startswith("/v2/models/"):
            return self._of_model(method, path)
        allowed = [verb for verb, known in self._fixed if known == path.rstrip("/")]
        if allowed and path not in ("", "/"):
            raise _not_allowed(method, path, allowed)
        places = ", ".join(dict.fromkeys(known for _, known in self._fixed if not known.startswith("/ui/")))
        raise Problem(404, "not_found", f"there is nothing at {path!r}",
                      hint=f"There are: {places}, /v2/models/NAME, /v2/models/NAME/infer.")  # fmt: skip

    def _of_model(self, method: str, path: str) -> tuple[str, Handler]:
        """`/v2/models/NAME[/versions/VERSION][/ready|/infer]`."""
        parts = path.removeprefix("/v2/models/").split("/")
        name, version, rest = parts[0], None, parts[1:]
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        actions: Mapping[tuple[str, ...], tuple[str, str, Callable[[Request, str, str | None], Awaitable[Response]]]]
        actions = {
            (): ("GET", "model", self.model),
            ("ready",): ("GET", "model_ready", self.model_ready),
            ("infer",): ("POST", "infer", self.infer),
        }
        if tuple(rest) not in actions:
            raise Problem(404, "not_found", f"there is nothing at {path!r}", hint="There are ready and infer.")
        verb, endpoint, action = actions[tuple(rest)]
        if method != verb:
            raise _not_allowed(method, path, [verb])
        return endpoint, partial(_named, action, name, version)

    # -- health and metadata ---------------------------------------------------------------------------------------

    async def live(self, request: Request) -> Response:  # noqa: ARG002 - as all handlers
        return _json({"live": True})

    async def is_ready(self, request: Request) -> Response:  # noqa: ARG002
        return _json({"ready": self.ready}, 200 if self.ready else 503)

    async def server(self, request: Request) -> Response:  # noqa: ARG002
        return _json(server_metadata())

    async def list_models(self, request: Request) -> Response:  # noqa: ARG002
        listed = [{"name": slot.name, "version": slot.live.version, "package": slot.live.predictor.package.hash}
                  for slot in self.models.slots]  # fmt: skip
        return _json({"models": listed})

    async def model(self, request: Request, name: str, version: str | None) -> Response:  # noqa: ARG002
        return _json(model_metadata(self.models.find(name, version), self.models.versions(name)))

    async def model_ready(self, request: Request, name: str, version: str | None) -> Response:  # noqa: ARG002
        self.models.find(name, version)
        return _json({"name": name, "ready": self.ready}, 200 if self.ready else 503)

    async def show_metrics(self, request: Request) -> Response:  # noqa: ARG002
        if self.cache is not None:
            self.metrics.count_cache(self.cache.counters)
        return Response(self.metrics.text(), CONTENT_TYPE)

    async def show_monitor(self, request: Request) -> Response:  # noqa: ARG002
        if self.watching is None:
            raise Problem(404, "not_watched", "this server does not watch its traffic",
                          hint="Start it with --monitor.")  # fmt: skip
        return _json(self.watching.to_json())

    async def show_rollout(self, request: Request) -> Response:  # noqa: ARG002
        return _json(self.canaries.to_json())

    async def show_form(self, request: Request) -> Response:
        return await self.page.form(request, self._named(request))

    async def explain(self, request: Request) -> Response:
        return await self.page.explain(request, self._named(request))

    def _named(self, request: Request) -> Served:
        """As `_asked`, but that without a version it is always the champion."""
        return self.models.find(request.parameter("model"), request.parameter("version"))

    async def feedback(self, request: Request) -> Response:
        check_sender(request.headers, request.content_type)
        content = read_json(await request.body(self.config.max_json_bytes))
        compared, unknown = await self._bulk.run(partial(self._compared, content), request.left_s)
        count = partial(self._count, compared, unknown)
        return _json(await self._bulk.run(count, request.left_s, finish=True))

    def _compared(self, content: Any) -> tuple[list[Compared], list[str]]:
        """All that counting labels needs, while none counts yet: until then a request may be refused or given up."""
        labelled, unknown = read_feedback(content, self.memory, self.models, self.config)
        return self.canaries.compared(labelled), unknown

    def _count(self, compared: list[Compared], unknown: list[str]) -> dict[str, Any]:
        """Count all labels, but those that another request has brought meanwhile."""
        counted, gone = [], []
        for each in compared:
            known = each[0].id
            if known is None or self.memory.take(known):
                counted.append(each)
            else:
                gone.append(known)
        self.canaries.label(counted)
        if self.watching is not None:
            for served in dict.fromkeys(each.served for each, *_ in counted):
                own = [each for each, *_ in counted if each.served is served]
                y, scores = (np.concatenate([getattr(each, name) for each in own]) for name in ("y", "scores"))
                self.watching.label(served, y, scores)
        return {"accepted": len(counted), "unknown": unknown + gone}

    async def show_openapi(self, request: Request) -> Response:  # noqa: ARG002
        return _json(document(self.models, self.config, secured=self.secured))

    # -- predictions ---------------------------------------------------------------------------------------------------

    async def predict(self, request: Request) -> Response:
        kind = request.content_type
        if kind in (ARROW_STREAM, ARROW_FILE):
            return await self._predict_arrow(request)
        if kind not in _JSON_TYPES and not kind.endswith("+json"):
            raise Problem(415, "unsupported_type", f"the content-type {kind!r} is not understood",
                          hint=f"Send {JSON} or {ARROW_STREAM}.")  # fmt: skip
        started = time.perf_counter()
        named = self.models.find(request.parameter("model"))
        self._lanes[named.name].check_room(named)
        content = read_json(await request.body(self.config.max_json_bytes))
        served = self._asked(request)
        level = confidence_level(request.parameter("confidence_level"), served)
        rows, single = rows_of(content, self.config)
        check_rows(rows, served, self.config)
        self.staged("read", started, request)
        scores = await self._scores(served, rows, request) if rows else served.predictor.no_scores()
        started = time.perf_counter()
        response = Response(answer_json(served, scores, single=single, level=level), headers=_told(served))
        self.staged("write", started, request)
        return response

    async def infer(self, request: Request, name: str, version: str | None) -> Response:
        served = self.chosen(request, name, version)
        self._lanes[served.name].check_room(served)
        started = time.perf_counter()
        length = head_length(request.headers)
        if length is None and request.content_type not in (*_JSON_TYPES, OCTETS):
            raise Problem(415, "unsupported_type", f"the content-type {request.content_type!r} is not understood",
                          hint=f"Send {JSON}, or binary tensors with inference-header-content-length.")  # fmt: skip
        infer = await self._read_infer(request, served, length)
        scores = await self.inferred(infer, served, request, started)
        started = time.perf_counter()
        response = infer.answer(served, scores)
        self.staged("write", started, request)
        return response

    async def _read_infer(self, request: Request, served: Served, length: int | None) -> Infer:
        """The request of a body; a large one of binary tensors is read beside the others, as what it is."""
        config = self.config
        body = await request.body(config.max_json_bytes if length is None else config.max_arrow_bytes)
        if length is not None and min(length, len(body)) > config.max_json_bytes:
            raise too_large(config.max_json_bytes, "the JSON before the tensors")
        read = partial(Infer.read, body, length, config, served)
        return read() if len(body) <= config.max_json_bytes else await self._bulk.run(read, request.left_s)

    async def inferred(self, infer: Infer, served: Served, call: Call, started_s: float) -> np.ndarray:
        """Scores `(rows, outputs)` of an `infer` request, whatever it came over; its reading began at `started_s`."""
        self.staged("read", started_s, call)
        if infer.rows <= GROUP_ROWS:
            rows = infer.as_rows()
            return await self._scores(served, rows, call) if rows else served.predictor.no_scores()

        def work() -> np.ndarray:
            return self._watched_table(pa.Table.from_batches([infer.as_batch()]), served, call)

        scores: np.ndarray = await self._bulk.run(work, call.left_s)
        return scores

    def _watched_table(self, table: pa.Table, served: Served, call: Call) -> np.ndarray:
        """Scores of many rows; in the thread for large requests, where what is watched of them is cut out too."""
        scores: np.ndarray = self._timed(partial(served.predictor.predict, table), table.num_rows, call)()
        if self.watching is not None:
            self.watching.record_table(served, table, scores)
        return scores

    async def _predict_arrow(self, request: Request) -> Response:
        body = await request.body(self.config.max_arrow_bytes)
        served = self._asked(request)
        level = confidence_level(request.parameter("confidence_level"), served)

        def work() -> Response:
            table = read_arrow(body)
            check_columns(table, served, extra=self.config.extra)
            scores = self._watched_table(table, served, request)
            return answer_arrow(served.predictor.answer_of(scores, level), served)

        return await self._bulk.run(work, request.left_s)

    async def _scores(self, served: Served, rows: list[dict[str, Any]], call: Call) -> np.ndarray:
        """Few rows by the lane, many by the thread for large requests."""
        if len(rows) <= GROUP_ROWS:
            if call.trace is not None:
                call.trace.rows = len(rows)
            scores = await self._lanes[served.name].scores(served, rows, call.left_s, call.trace)
            self._note(served, rows, scores, call)
            return scores
        work = self._timed(partial(served.predictor.scores_of_rows, rows), len(rows), call)

        def noted() -> np.ndarray:
            found: np.ndarray = work()
            self._note(served, rows, found, call)
            return found

        return await self._bulk.run(noted, call.left_s)

    def _note(self, served: Served, rows: list[dict[str, Any]], scores: np.ndarray, call: Call) -> None:
        """Hand an answer to all who look at traffic; takes some microseconds a row."""
        if self.watching is not None:
            self.watching.record(served, rows, scores)
        if call.turn is not None:
            call.turn.canary.answered(rows, scores)
        if self.watching is not None or call.turn is not None:
            self.memory.remember(call.id, served, rows, scores)

    def staged(self, stage: str, started_s: float, call: Call) -> None:
        """A stage of a call ends now."""
        ended_s = time.perf_counter()
        self.metrics.stage(stage, ended_s - started_s)
        if call.trace is not None:
            call.trace.stages.append((stage, started_s, ended_s))

    def _timed(self, work: Callable[[], Any], rows: int, call: Call) -> Callable[[], Any]:
        asked_s = time.perf_counter()

        def timed() -> Any:
            started_s = time.perf_counter()
            try:
                return work()
            finally:
                ended_s = time.perf_counter()
                self.metrics.predicted(rows, ended_s - started_s)
                if call.trace is not None:
                    call.trace.rows = rows
                    call.trace.stages += [("wait", asked_s, started_s), ("predict", started_s, ended_s)]

        return timed

    def _asked(self, request: Request) -> Served:
        return self.chosen(request, request.parameter("model"), request.parameter("version"))

    def chosen(self, call: Call, name: str | None, version: str | None) -> Served:
        """The version that is asked for; without one the champion or, for its share, the candidate of a rollout."""
        served = self.models.find(name, version)
        if version is None and self.canaries.running:
            key = call.headers.get(KEY_HEADER)
            served, call.turn = self.canaries.turn(served, call.id if key is None else key.decode("latin1"))
        if call.trace is not None:
            call.trace.served = served
        return served


async def _named(
    action: Callable[[Request, str, str | None], Awaitable[Response]], name: str, version: str | None, request: Request
) -> Response:
    return await action(request, name, version)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), JSON, status)


def _told(served: Served) -> dict[str, str]:
    return {"x-model-version": served.version}


def _not_allowed(method: str, path: str, allowed: list[str]) -> Problem:
    return Problem(405, "method_not_allowed", f"{method} does not go with {path!r}",
                   hint=f"Use {' or '.join(allowed)}.", headers={"allow": ", ".join(allowed)})  # fmt: skip

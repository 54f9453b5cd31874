"""Labels that arrive later: what was answered is remembered by the request's id, for a while."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ShardwiseError
from shardwise.core.names import nearest
from shardwise.serve.online.http import JSON, check_origin
from shardwise.serve.online.kept import plain, size_of
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.problems import Problem, problem_of
from shardwise.serve.online.rows import Row, check_rows
from shardwise.serve.online.settings import ServeConfig

MOST = 50_000  # requests that are remembered
MOST_BYTES = 128_000_000  # of them: so many rows of 30 columns, and fewer where rows are longer
_ENTRY_BYTES = 500  # of an id, arrays and tuples
MOST_ROWS = 100  # of a request: more are no single decisions
_KNOWN = ("id", "row", "label", "labels", "model", "version")
_EXAMPLE = 'Send {"id": "<x-request-id>", "label": true}, or {"row": {...}, "label": true}, or a list of such.'
Answered = tuple[Served, Sequence[Row], np.ndarray]


@dataclass(frozen=True)
class Labelled:
    """Rows that were answered by a version, their scores `(rows, outputs)` and labels as `Target.encode` gives them.

    `id` is that of the answer; None where the row came along.
    """

    served: Served
    rows: Sequence[Row]
    scores: np.ndarray
    y: np.ndarray
    id: str | None = None


class Memory:
    """Answers by request id; the oldest go. May be used by any thread."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._answers: OrderedDict[str, tuple[Answered, int]] = OrderedDict()
        self._versions: set[Served] = set()
        self._lock = threading.Lock()
        self.bytes = 0  # about

    def remember(self, request_id: str, served: Served, rows: Sequence[Row], scores: np.ndarray) -> None:
        if len(rows) > MOST_ROWS:
            return
        rows = plain(rows, served.predictor.known)
        size = _ENTRY_BYTES + size_of(rows) + scores.nbytes
        with self._lock:
            self._forget(request_id)
            self._answers[request_id] = (served, rows, scores.copy()), size  # a group's scores are one array
            self._versions.add(served)
            self.bytes += size
            while len(self._answers) > self._most or self.bytes > self._most_bytes:
                self._forget(next(iter(self._answers)))

    def find(self, request_id: str) -> Answered | None:
        """What was answered."""
        with self._lock:
            found = self._answers.get(request_id)
            return None if found is None else found[0]

    def take(self, request_id: str) -> bool:
        """Forget an answer; whether it was there: labels that are sent twice count once."""
        with self._lock:
            return self._forget(request_id)

    def _forget(self, request_id: str) -> bool:
        found = self._answers.pop(request_id, None)
        if found is not None:
            self.bytes -= found[1]
        return found is not None

    def keep(self, versions: Sequence[Served]) -> None:
        """Forget the answers of all other versions, whose models would stay loaded; a candidate that was loaded anew as
        champion has them as its own."""
        anew = {(served.name, served.identity): served for served in versions}
        with self._lock:
            gone = self._versions - set(versions)
            if not gone:
                return
            for request_id, ((served, rows, scores), size) in list(self._answers.items()):
                if served not in gone:
                    continue
                now = anew.get((served.name, served.identity))
                if now is None:
                    self._forget(request_id)
                else:
                    self._answers[request_id] = (now, rows, scores), size
            self._versions = set(versions)


def check_sender(headers: Mapping[bytes, bytes], content_type: str) -> None:
    """Raise `Problem` for labels that a page of a stranger may have sent: a browser lets it send texts, forms and what
    has no type to any address without asking, but no JSON. They would end rollouts."""
    check_origin(headers)
    if content_type != JSON and not content_type.endswith("+json"):
        hint = f"Send the header content-type: {JSON}, which curl does with -H or --json."
        raise Problem(415, "unsupported_type", f"the content-type of labels is {content_type!r}", hint=hint)


def read_feedback(
    content: Any, memory: Memory, models: Models, config: ServeConfig
) -> tuple[list[Labelled], list[str]]:
    """What the body of `POST /feedback` says, and ids that are not known; raises `Problem` for other content.

    All of it is understood before anything counts: nothing is taken from `memory`. May take long: for a thread.
    """
    items = content if isinstance(content, list) else [content]
    if len(items) > config.max_rows:
        raise Problem(413, "too_many_rows", f"{len(items):,} labels, at most {config.max_rows:,} are read",
                      hint="Send them in several requests.")  # fmt: skip
    for number, item in enumerate(items):
        _check_item(item, number)
    again = dict(_asked_again(items, models, config))
    labelled, unknown = [], []
    for number, item in enumerate(items):
        found = memory.find(item["id"]) if "id" in item else again[number]
        if found is None:
            unknown.append(item["id"])
            continue
        labels = item["labels"] if "labels" in item else [item["label"]]
        with _about(number, items):
            y = _encoded(found[0], labels, len(found[1]))
        labelled.append(Labelled(*found, y, item.get("id")))
    return labelled, unknown


@contextmanager
def _about(number: int, items: Sequence[Any]) -> Iterator[None]:
    """Problems tell which item they are about, where there are several."""
    try:
        yield
    except Problem as problem:
        if len(items) > 1:
            problem.where["item"] = number
        raise


def _check_item(item: Any, number: int) -> None:
    if not isinstance(item, Mapping) or ("id" in item) == ("row" in item) or ("label" in item) == ("labels" in item):
        raise Problem(422, "not_feedback", f"item {number} is no feedback", hint=_EXAMPLE)
    strange = next((name for name in item if name not in _KNOWN), None)
    if strange is not None:
        raise Problem(422, "not_feedback", f"item {number} has {strange!r}", hint=nearest(strange, _KNOWN))
    labels = item["labels"] if "labels" in item else [item["label"]]
    if not isinstance(labels, list) or any(isinstance(label, list | dict) for label in labels):
        raise Problem(422, "wrong_labels", f"item {number} has no plain labels", hint=_EXAMPLE)
    for name in ("id", "model", "version"):
        if not isinstance(item.get(name, ""), str):
            raise Problem(422, "not_feedback", f"{name} of item {number} is no text", hint=_EXAMPLE)


def _asked_again(items: Sequence[Any], models: Models, config: ServeConfig) -> Iterator[tuple[int, Answered]]:
    """Rows that another process may have answered: each version's answers to its rows are computed again, together."""
    groups: dict[Served, list[int]] = {}
    for number, item in enumerate(items):
        if "row" not in item:
            continue
        with _about(number, items):
            if not isinstance(item["row"], dict):
                raise Problem(422, "not_feedback", "row is no object", hint=_EXAMPLE)
            served = models.find(item.get("model"), item.get("version"))
            check_rows([item["row"]], served, config)
            groups.setdefault(served, []).append(number)
    for served, numbers in groups.items():
        rows = [items[number]["row"] for number in numbers]
        try:
            scores = served.predictor.computed(rows)
        except ShardwiseError as error:
            place = error.context.pop("row", 0 if len(rows) == 1 else None)
            if not isinstance(place, int):
                raise problem_of(error) from error
            with _about(numbers[place], items):
                raise problem_of(error) from error
        for place, number in enumerate(numbers):
            yield number, (served, rows[place : place + 1], scores[place : place + 1])


def _encoded(served: Served, labels: list[Any], rows: int) -> np.ndarray:
    if len(labels) != rows:
        raise Problem(422, "wrong_labels", f"{rows} label(s) are expected", hint="Give a label for each row, in order.")
    target = served.predictor.target
    try:
        y = target.encode(pa.array(labels))
    except (pa.ArrowException, OverflowError) as error:
        raise Problem(422, "wrong_labels", f"the labels cannot be read: {error}", hint=_EXAMPLE) from error
    strange = [label for label, code in zip(labels, y.tolist(), strict=True) if label is not None and code != code]
    if strange:
        shown = ", ".join(served.predictor.class_names[:10]) or "numbers"
        raise Problem(
            422, "wrong_labels", f"{strange[0]!r} is no label of {served.name!r}", hint=f"There are: {shown}."
        )
    return y

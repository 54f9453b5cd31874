"""Labels that arrive later: what was answered is remembered by the request's id, for a while."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ShardwiseError
from shardwise.core.names import nearest
from shardwise.serve.online.live import Models, Served
from shardwise.serve.online.problems import Problem, problem_of
from shardwise.serve.online.rows import check_rows
from shardwise.serve.online.settings import ServeConfig

MOST = 50_000  # requests that are remembered
MOST_ROWS = 100  # of a request: more are no single decisions
_KNOWN = ("id", "row", "label", "labels", "model", "version")
_EXAMPLE = 'Send {"id": "<x-request-id>", "label": true}, or {"row": {...}, "label": true}, or a list of such.'
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labelled:
    """Rows that were answered by a version, their scores `(rows, outputs)` and labels as `Target.encode` gives them."""

    served: Served
    rows: Sequence[Row]
    scores: np.ndarray
    y: np.ndarray


class Memory:
    """Answers by request id; the oldest go. May be used by any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._answers: OrderedDict[str, tuple[Served, Sequence[Row], np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, request_id: str, served: Served, rows: Sequence[Row], scores: np.ndarray) -> None:
        if len(rows) > MOST_ROWS:
            return
        with self._lock:
            self._answers[request_id] = served, rows, scores
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)

    def take(self, request_id: str) -> tuple[Served, Sequence[Row], np.ndarray] | None:
        """What was answered; once: labels that are sent twice count once."""
        with self._lock:
            return self._answers.pop(request_id, None)


def read_feedback(
    content: Any, memory: Memory, models: Models, config: ServeConfig
) -> tuple[list[Labelled], list[str]]:
    """What the body of `POST /feedback` says, and ids that are not known; raises `Problem` for other content."""
    items = content if isinstance(content, list) else [content]
    if len(items) > config.max_rows:
        raise Problem(413, "too_many_rows", f"{len(items):,} labels, at most {config.max_rows:,} are read",
                      hint="Send them in several requests.")  # fmt: skip
    for number, item in enumerate(items):
        _check_item(item, number)
    labelled, unknown = [], []
    for item in items:
        found = memory.take(item["id"]) if "id" in item else _asked_again(item, models, config)
        if found is None:
            unknown.append(item["id"])
            continue
        labels = item["labels"] if "labels" in item else [item["label"]]
        labelled.append(Labelled(*found, _encoded(found[0], labels, len(found[1]))))
    return labelled, unknown


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


def _asked_again(
    item: Mapping[str, Any], models: Models, config: ServeConfig
) -> tuple[Served, Sequence[Row], np.ndarray]:
    """A row that another process may have answered: the version's answer is computed again."""
    if not isinstance(item["row"], dict):
        raise Problem(422, "not_feedback", "row is no object", hint=_EXAMPLE)
    served = models.find(item.get("model"), item.get("version"))
    check_rows([item["row"]], served, config)
    try:
        return served, [item["row"]], served.predictor.computed([item["row"]])
    except ShardwiseError as error:
        raise problem_of(error) from error


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

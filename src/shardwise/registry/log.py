"""The log of a name: numbered entries, each created once; what a name is, is what its log tells.

A writer reads the log, decides, and creates the entry after the last one. Where another was faster, the entry stands,
and the writer reads and decides again: no lock, no lost entry, no two with one number, and a writer that is killed
leaves either its whole entry or none. An entry carries a seal over itself and the entry before. Every `CHECKPOINT`
entries one carries the state as well, so that few have to be read.
"""

import hashlib
import json
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shardwise.core.errors import PackageError, context
from shardwise.registry.shelf import Shelf
from shardwise.registry.versions import Event, NameState

CHECKPOINT = 32
FORMAT_VERSION = 1
_SUFFIX = ".json"
_PAUSE_S = 0.02  # at first, after another writer was faster
_MOST_PAUSE_S = 1.0


@dataclass(frozen=True)
class Head:
    """The state after entry `number` (0: there is none yet), and the seal of that entry."""

    state: NameState = field(default_factory=NameState)
    number: int = 0
    seal: str = ""


Decide = Callable[[NameState], Event | None]


@dataclass(frozen=True)
class Log:
    """The log of a name on a shelf, below `folder`. Picklable if the shelf is; any number may write at once."""

    shelf: Shelf
    folder: str

    def head(self) -> Head:
        """The state now; raises `PackageError` where an entry is missing or damaged."""
        last = self.last_number()
        head = self._checkpoint(last)
        for number in range(head.number + 1, last + 1):
            head = self._after(head, self.entry(number))
        return head

    def last_number(self) -> int:
        """The number of the last entry; 0 where there is none."""
        names = [name.removesuffix(_SUFFIX) for name in self.shelf.names(self.folder)]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def entry(self, number: int) -> dict[str, Any]:
        """An entry: `time`, `by`, `event` and more; raises `PackageError` where it is missing or damaged."""
        with context(path=f"{self.shelf.place}/{self._path(number)}"):
            try:
                content: dict[str, Any] = json.loads(self.shelf.read(self._path(number)))
                seal, newer = content.pop("seal"), content["format"] > FORMAT_VERSION
            except KeyError as error:
                raise _damaged("an entry of the log is missing") from error
            except (ValueError, TypeError, AttributeError) as error:
                raise _damaged("an entry of the log is damaged") from error
            if newer:
                raise PackageError("a newer shardwise has written this registry", hint="Upgrade shardwise.")
            if seal != _seal(content):
                raise _damaged("an entry of the log has been changed or damaged")
        return {**content, "seal": seal}

    def commit(self, decide: Decide, facts: Mapping[str, Any]) -> NameState:
        """Append the event that `decide` makes of the state, and return the state after it.

        `decide` is called again whenever another writer was faster; it may raise, and None appends nothing. `facts`
        are told with the event.
        """
        token, pause_s = secrets.token_hex(8), _PAUSE_S
        while True:
            head = self.head()
            event = decide(head.state)
            if event is None:
                return head.state
            state, number = head.state.apply(event), head.number + 1
            content = {**facts, "format": FORMAT_VERSION, "number": number, "token": token, "event": event,
                       "previous": head.seal}  # fmt: skip
            if number % CHECKPOINT == 0:
                content["state"] = state.to_json()
            if self._create(number, content):
                return state
            time.sleep(pause_s * random.random())  # noqa: S311 - so that writers do not march in step
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)

    def _create(self, number: int, content: Mapping[str, Any]) -> bool:
        """Whether the entry is ours: also where a store wrote it, lost its answer, and was asked once more."""
        text = json.dumps({**content, "seal": _seal(content)}, ensure_ascii=False, indent=1)
        if self.shelf.create(self._path(number), text.encode()):
            return True
        try:
            return bool(json.loads(self.shelf.read(self._path(number)))["token"] == content["token"])
        except KeyError:
            return False  # S3 refused both of two at once

    def _checkpoint(self, last: int) -> Head:
        number = last - last % CHECKPOINT
        if number == 0:
            return Head()
        entry = self.entry(number)
        return Head(NameState.from_json(entry["state"]), number, entry["seal"])

    def _after(self, head: Head, entry: Mapping[str, Any]) -> Head:
        if entry["previous"] != head.seal or entry["number"] != head.number + 1:
            raise _damaged(f"entry {entry['number']} of the log does not follow the one before")
        return Head(head.state.apply(entry["event"]), entry["number"], entry["seal"])

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:08d}{_SUFFIX}"


def _seal(content: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _damaged(message: str) -> PackageError:
    return PackageError(message, hint="Restore the registry from a copy.")

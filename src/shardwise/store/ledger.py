"""Work that is done once: results of work units in a journal and a blob store.

The blob is written before its record, under the hash of its content: a record never points to something that is not
there, and a kill between the two loses one unit of work and nothing else.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from shardwise.core.errors import DataError
from shardwise.store.base import BlobStore, Journal, Record
from shardwise.store.records import encode

_KIND = "unit"


def unit_key(*parts: Any) -> str:
    """The key of a work unit: a hash of its inputs, its config and the version of what computes it.

    Parts are JSON values (tuples count as lists, the order of keys does not matter); anything else is a `TypeError`.

    >>> unit_key("profile", {"a": 1, "b": 2}, 1) == unit_key("profile", {"b": 2, "a": 1}, 1)
    True
    """
    return hashlib.blake2b(encode(parts, sort=True).encode(), digest_size=16).hexdigest()


class Ledger:
    """Results of work units, indexed by replaying the journal once.

    `reused` counts the units that `once` found done, `worked` those that it had to do. A unit whose blob has been
    removed counts as not done.
    """

    def __init__(self, journal: Journal, blobs: BlobStore) -> None:
        self.journal = journal
        self.blobs = blobs
        self.reused = 0
        self.worked = 0
        self._units: dict[str, Record] = {}
        stored = set(blobs.keys())
        for entry in journal.read():
            if entry["kind"] == _KIND and (entry["blob"] is None or entry["blob"] in stored):
                self._units[entry["unit"]] = entry

    def get(self, unit: str) -> Record | None:
        """The record of a unit, None when it is not done."""
        return self._record(unit) if unit in self._units else None

    def content(self, unit: str) -> bytes:
        """The bytes that were put with a unit; raises `KeyError` when there are none, `DataError` when damaged."""
        key = self._units[unit]["blob"]
        if key is None:
            raise KeyError(unit)
        content = self.blobs.read(key)
        if _content_key(content) != key:
            hint = "Remove it: the work is then done again."
            raise DataError("a stored result does not match its hash", hint=hint, blob=key)
        return content

    def put(self, unit: str, record: Record, content: bytes | None = None) -> None:
        """Record a unit as done, durably; a later put of the same unit takes the place of the earlier one."""
        key = None if content is None else _content_key(content)
        if key is not None and content is not None:
            self.blobs.write(key, content)
        entry = {"kind": _KIND, "unit": unit, "record": record, "blob": key}
        self.journal.append([entry])
        self._units[unit] = json.loads(encode(entry))  # what a resumed run will read, to the letter

    def once(self, unit: str, work: Callable[[], tuple[Record, bytes | None]]) -> Record:
        """The record of a unit, from the journal or by doing the work now; `content(unit)` has the bytes."""
        if unit in self._units:
            self.reused += 1
        else:
            self.put(unit, *work())
            self.worked += 1
        return self._record(unit)

    def _record(self, unit: str) -> Record:
        record: Record = self._units[unit]["record"]
        return record


def _content_key(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"{digest[:2]}/{digest[2:]}"

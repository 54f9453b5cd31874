"""Rows of numbers under keys: from a cache, from somebody who computes them just now, or computed.

A value is `V` and the numbers, or `N` and why the row was refused; then a checksum, also over version and key. What is
damaged counts as missing, and so does the value of another key: nodes and connections may mix up what they were asked.
"""

import json
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from shardwise.core.errors import BadInput, DataError, SchemaError, ShardwiseError
from shardwise.serve.cache.base import Cache
from shardwise.serve.cache.flight import SingleFlight

REFUSED_S = 60.0  # how long a refusal is remembered
_VALUE, _REFUSAL = b"V", b"N"
_SUM_BYTES = 4
_KINDS: dict[str, type[ShardwiseError]] = {kind.__name__: kind for kind in (SchemaError, DataError, BadInput)}
Compute = Callable[[np.ndarray], np.ndarray]


class Answers:
    """Rows of `width` numbers of a type, of one version. May be shared by threads."""

    def __init__(self, cache: Cache, version: str, width: int, dtype: str = "<f8") -> None:
        self.cache = cache
        self.version = version
        self.width, self.dtype = width, np.dtype(dtype)
        self._flight = SingleFlight()

    def rows(self, keys: Sequence[bytes], compute: Compute, *, refusals: bool = False) -> np.ndarray:
        """The rows of `keys`, `(keys, width)`; `compute(places)` gives `(places, width)` for those that are missing.

        Each key is computed once. With `refusals` a row that `compute` refuses (`BadInput`) is remembered for a
        while; then `keys` has one key.
        """
        found = self._found(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            places = {key: place for place, key in reversed(list(enumerate(keys)))}
            self._fill(found, missing, lambda few: compute(np.array([places[key] for key in few])), refusals)
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.width), self.dtype)

    def _fill(self, found: dict[bytes, np.ndarray], missing: list[bytes],
              compute: Callable[[Sequence[bytes]], np.ndarray], refusals: bool) -> None:  # fmt: skip
        mine, others = self._flight.take(missing)
        try:
            if mine:
                found |= self._computed(mine, compute, refusals)
        finally:
            self._flight.fail(mine, RuntimeError("not computed"))
        failed = []
        for key, flight in others.items():
            error = flight.exception()
            if isinstance(error, BadInput) and refusals:
                raise error
            if error is None:
                found[key] = flight.result()
            else:
                failed.append(key)
        if failed:
            found |= dict(zip(failed, self._checked(compute(failed), failed), strict=True))

    def _computed(
        self, mine: list[bytes], compute: Callable[[Sequence[bytes]], np.ndarray], refusals: bool
    ) -> dict[bytes, np.ndarray]:
        try:
            rows = self._checked(compute(mine), mine)
        except BadInput as error:
            if refusals:
                self.cache.put(self.version, {mine[0]: self._sealed(mine[0], _refusal(error))}, REFUSED_S)
            self._flight.fail(mine, error)
            raise
        new = dict(zip(mine, rows, strict=True))
        self.cache.put(self.version, {key: self._sealed(key, _VALUE + row.tobytes()) for key, row in new.items()})
        for key, row in new.items():
            self._flight.land(key, row)
        return new

    def _checked(self, rows: np.ndarray, keys: Sequence[bytes]) -> np.ndarray:
        return np.ascontiguousarray(rows, self.dtype).reshape(len(keys), self.width)

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        found = {}
        for key, value in self.cache.get(self.version, list(dict.fromkeys(keys))).items():
            try:
                row = self._read(key, value)
            except BadInput as error:
                error.context |= {"row": keys.index(key)} if len(keys) > 1 else {}
                raise
            if row is not None:
                found[key] = row
        return found

    def _read(self, key: bytes, value: bytes) -> np.ndarray | None:
        """The row; raises what is remembered of a row that was refused; None for damage."""
        kind, content = value[:1], value[1:-_SUM_BYTES]
        if value != self._sealed(key, value[:-_SUM_BYTES]):
            self.cache.counters.add(errors=1)
            return None
        if kind == _REFUSAL:
            told = json.loads(content)
            raise _KINDS[told["kind"]](told["message"], hint=told["hint"], **told["context"])
        if kind != _VALUE or len(content) != self.width * self.dtype.itemsize:
            self.cache.counters.add(errors=1)
            return None
        return np.frombuffer(content, self.dtype)

    def _sealed(self, key: bytes, content: bytes) -> bytes:
        whole = zlib.crc32(content, zlib.crc32(key, zlib.crc32(self.version.encode())))
        return content + whole.to_bytes(_SUM_BYTES, "big")


def _refusal(error: BadInput) -> bytes:
    kind = type(error).__name__ if type(error).__name__ in _KINDS else BadInput.__name__
    told = {"kind": kind, "message": error.message, "hint": error.hint, "context": error.context}
    return _REFUSAL + json.dumps(told, default=str).encode()

"""Keys of clients: who has none is answered with 401.

Only hashes of keys are kept, and all of them are compared, in constant time, whichever is given.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from shardwise.core.errors import ConfigError
from shardwise.serve.online.problems import Problem

VARIABLE, ADMIN_VARIABLE = "SHARDWISE_API_KEYS", "SHARDWISE_ADMIN_KEYS"
_HINT = "Send `authorization: Bearer KEY` or `x-api-key: KEY`."
_CHALLENGE = {"www-authenticate": "Bearer"}
_LEAST = 16  # characters


class Keys:
    """The keys that are known. `look` follows the file that they came from."""

    def __init__(self, texts: Iterable[str], file: Path | None = None, variable: str = VARIABLE) -> None:
        self._variable = variable
        self._hashes = [_hash(text.encode()) for text in texts]
        self._file = file
        self._seen = _stamp(file)

    @classmethod
    def open(cls, file: str | None, variable: str = VARIABLE) -> "Keys | None":
        """Those of a file, and of a variable of the environment; None where there is neither.

        A key a line; an empty line, and one that begins with `#`, is none. Raises `ConfigError` for what is no key.
        """
        told = os.environ.get(variable)
        if file is None and told is None:
            return None
        texts = [] if told is None else _keys_of(told, f"the variable {variable}")
        place = None if file is None else Path(file)
        return cls([*texts, *([] if place is None else _read(place))], place, variable)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise `Problem` 401 unless one of the keys is given."""
        given = _given(headers)
        if given is None:
            raise Problem(401, "key_missing", "this server asks for a key", hint=_HINT, headers=_CHALLENGE)
        if not self._holds(given):
            raise Problem(401, "key_unknown", "the key that was given is not known", hint=_HINT, headers=_CHALLENGE)

    def knows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether one of the keys is given."""
        given = _given(headers)
        return given is not None and self._holds(given)

    def _holds(self, given: bytes) -> bool:
        found = _hash(given)
        known = False
        for each in self._hashes:
            known |= hmac.compare_digest(found, each)
        return known

    def look(self) -> bool:
        """Take over the file if it has changed, and say whether it had; raises `ConfigError`, and the old keys hold."""
        now = _stamp(self._file)
        if self._file is None or now == self._seen:
            return False
        self._seen = now
        told = os.environ.get(self._variable)
        own = _keys_of(told, self._variable) if told else []
        self._hashes = [_hash(text.encode()) for text in [*own, *_read(self._file)]]
        return True


def _given(headers: Mapping[bytes, bytes]) -> bytes | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key")


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is written anew, or a link (as a mounted secret is) points elsewhere."""
    try:
        found = None if file is None else file.stat()
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _read(file: Path) -> list[str]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"the keys in {str(file)!r} cannot be read: {reason}", hint="A key a line.") from error
    return _keys_of(text, repr(str(file)))


def _keys_of(text: str, where: str) -> list[str]:
    """The keys of a text; they are not repeated in messages."""
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    hint = f"A key a line, of at least {_LEAST} characters of ASCII without spaces; `openssl rand -hex 32` makes one."
    if not keys:
        raise ConfigError(f"there is no key in {where}", hint=hint)
    for number, key in enumerate(keys, 1):
        if len(key) < _LEAST or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(f"key {number} in {where} is none: it is too short, or has other characters", hint=hint)
    return keys

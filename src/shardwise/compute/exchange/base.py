"""What an exchange is, and how errors come back through engines that carry nothing but text."""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from shardwise.compute.engines import Asked
from shardwise.compute.messages import error_answer, read_answer

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_ERROR = re.compile(r"shardwise-error\(([A-Za-z0-9+/=]+)\)")


@dataclass(frozen=True)
class Parcel:
    """Bytes on their way to the task that gathers `key`, where parcels come in rising `order`; no two have the same."""

    key: int
    order: int
    content: bytes


class Spread(Protocol):
    """Makes parcels of an item, and the same ones whenever it is done again: engines repeat what is lost."""

    def __call__(self, item: Any) -> Iterator[Parcel]: ...


class Gather(Protocol[R_co]):
    """Takes the parcels of a key in their order; the result is small. May be done twice, even at once."""

    def __call__(self, key: int, contents: Iterator[bytes]) -> R_co: ...


@dataclass(frozen=True, kw_only=True)
class ExchangeJob(Generic[R]):
    """`spread` makes parcels of each item for keys in [0, `keys`); `gather` takes those of a key.

    Both are pickled by reference to their modules. `scratch` is an empty folder that the workers see too, of which
    nothing is needed afterwards; `passed(item)` is called for each item in turn, when its parcels are made or later.
    """

    items: Sequence[Any]
    spread: Spread
    gather: Gather[R]
    keys: int
    scratch: Path
    passed: Callable[[Any], None] = field(default=lambda _item: None)


Exchange = Callable[[ExchangeJob[Any], Asked], list[Any]]
"""Results of all keys that have parcels, in rising order of the keys. Raises what `spread` and `gather` raise."""


@contextmanager
def errors_as_text() -> Iterator[None]:
    """On a worker: an error leaves as text in which it is found again by `error_in`."""
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        raise RuntimeError(f"shardwise-error({base64.b64encode(error_answer(error, error)).decode()})") from None


def error_in(text: str) -> BaseException | None:
    """The worker's error, with its traceback as a note; None where the text has none."""
    found = _ERROR.search(text)
    if found is None:
        return None
    try:
        read_answer(base64.b64decode(found[1]))
    except Exception as error:
        return error
    raise AssertionError("an answer with an error raises it")

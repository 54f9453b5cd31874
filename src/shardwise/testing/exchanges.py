"""Conformance kit for exchanges.

Subclass `ExchangeConformance` in a test module, with a fixture `exchange` that takes a job and gives the results:

    class TestFiles(ExchangeConformance):
        @pytest.fixture
        def exchange(self):
            with ProcessExecutor(2) as executor:
                yield partial(over_files, executor=executor)
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.compute.exchange.base import ExchangeJob, Gather, Parcel, Spread
from shardwise.core.errors import SchemaError, ShardwiseError
from shardwise.testing.tables import people

KEYS = 5
_MEGABYTE = 1_000_000

Run = Callable[[ExchangeJob[Any]], list[Any]]


# -- what spreads and gathers: at the top of a module, so that workers can import it ---------------------------------


def deal(item: int) -> Iterator[Parcel]:
    """Ten parcels, to the keys 0, 1 and 3 in turn."""
    for number in range(10):
        yield Parcel((0, 1, 3)[number % 3], item << 32 | number, f"{item}.{number}".encode())


def words(key: int, contents: Iterator[bytes]) -> tuple[int, list[str]]:
    return key, [content.decode() for content in contents]


def refuse(item: int) -> Iterator[Parcel]:
    yield Parcel(0, item, b"")
    if item == 1:
        raise SchemaError("item 1 is odd", hint="Give an even one.", partition=item)


def refuse_words(key: int, contents: Iterator[bytes]) -> None:
    raise SchemaError(f"key {key} is refused", hint=f"It had {len(list(contents))} parcels.")


def heavy(item: int) -> Iterator[Parcel]:
    for number in range(8):
        yield Parcel(number % KEYS, item << 32 | number, bytes([item]) * _MEGABYTE)


def weigh(key: int, contents: Iterator[bytes]) -> tuple[int, int]:
    return key, sum(len(content) for content in contents)


def _die_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DealsOnce:
    """Dies in the middle of its first item."""

    marker: Path

    def __call__(self, item: int) -> Iterator[Parcel]:
        for parcel in deal(item):
            if parcel.order & 0xFF == 5 and item == 1:
                _die_once(self.marker)
            yield parcel


@dataclass(frozen=True)
class ReadsOnce:
    """Dies when it has read half of what is there for key 1."""

    marker: Path

    def __call__(self, key: int, contents: Iterator[bytes]) -> tuple[int, list[str]]:
        first = [next(contents)]
        if key == 1:
            _die_once(self.marker)
        return words(key, iter([*first, *contents]))


def assert_same_files(engine: str, folder: Path) -> None:
    """A table that an engine partitions, in two levels, comes out byte by byte as one process writes it."""
    pq.write_table(people(3_000), folder / "people.parquet", row_group_size=700)
    files = []
    for name in ("local", engine):
        by = ["range:age:2", "hash:city:3"]
        workers = {} if name == "local" else {"workers": 2}
        shardwise.partition(folder / "people.parquet", folder / name, by, engine=name, **workers)
        files.append({path.name: path.read_bytes() for path in (folder / name).iterdir()})
    assert files[0] == files[1]


# -- laws ------------------------------------------------------------------------------------------------------------


class ExchangeConformance:
    """Laws of an exchange."""

    @pytest.fixture
    def run(self, exchange: Run, tmp_path: Path) -> Callable[..., list[Any]]:
        scratch = tmp_path / "scratch"
        scratch.mkdir()

        def of(spread: Spread, gather: Gather[Any], items: int = 4) -> list[Any]:
            return exchange(ExchangeJob(items=range(items), spread=spread, gather=gather, keys=KEYS, scratch=scratch))

        return of

    def expected(self, items: int = 4) -> list[tuple[int, list[str]]]:
        parcels = [parcel for item in range(items) for parcel in deal(item)]
        return [(key, [each.content.decode() for each in parcels if each.key == key]) for key in (0, 1, 3)]

    def test_parcels_reach_their_keys_in_their_order(self, run: Callable[..., list[Any]]) -> None:
        """Results come in the order of the keys, and none for a key that has no parcels."""
        assert run(deal, words) == self.expected()

    def test_more_bytes_than_one_message_takes(self, run: Callable[..., list[Any]]) -> None:
        assert run(heavy, weigh, items=10) == [(key, (20 if key < 3 else 10) * _MEGABYTE) for key in range(KEYS)]

    def test_an_error_keeps_its_type_and_its_hint(self, run: Callable[..., list[Any]]) -> None:
        with pytest.raises(SchemaError, match="item 1 is odd") as caught:
            run(refuse, words)
        assert caught.value.hint == "Give an even one."
        assert "refuse" in "".join(caught.value.__notes__)

    def test_an_error_of_gathering_too(self, run: Callable[..., list[Any]]) -> None:
        with pytest.raises(SchemaError, match=r"key \d is refused"):
            run(deal, refuse_words)

    def test_what_cannot_be_pickled_is_an_error(self, run: Callable[..., list[Any]]) -> None:
        with pytest.raises(ShardwiseError, match="cannot be pickled"):
            run(lambda item: deal(item), words)

    def test_a_worker_that_dies_while_it_spreads(self, run: Callable[..., list[Any]], tmp_path: Path) -> None:
        assert run(DealsOnce(tmp_path / "died"), words) == self.expected()
        assert (tmp_path / "died").exists()

    def test_a_worker_that_dies_while_it_gathers(self, run: Callable[..., list[Any]], tmp_path: Path) -> None:
        assert run(deal, ReadsOnce(tmp_path / "died")) == self.expected()
        assert (tmp_path / "died").exists()

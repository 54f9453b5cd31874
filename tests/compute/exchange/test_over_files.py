from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from shardwise.compute.exchange.base import ExchangeJob
from shardwise.compute.exchange.over_files import over_files
from shardwise.compute.local import InlineExecutor, ProcessExecutor
from shardwise.core.errors import TaskFailed
from shardwise.testing.exchanges import KEYS, ExchangeConformance, Run, deal, words


class TestFiles(ExchangeConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def exchange(cls) -> Iterator[Run]:
        with ProcessExecutor(2) as executor:
            yield partial(over_files, executor=executor)


def test_files_are_whole_and_nothing_lies_beside_them(tmp_path: Path) -> None:
    passed: list[int] = []
    job = ExchangeJob(items=range(3), spread=deal, gather=words, keys=KEYS, scratch=tmp_path, passed=passed.append)
    over_files(job, InlineExecutor())
    assert passed == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parcels-0", "parcels-1", "parcels-2"]


class Elsewhere(InlineExecutor):
    """Like a machine that does not see the folder: what a task writes is gone when the next one runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def submit(self, task, item):
        future = super().submit(task, item)
        for path in self.folder.iterdir():
            path.unlink()
        return future


def test_a_folder_that_is_not_shared_is_said(tmp_path: Path) -> None:
    job = ExchangeJob(items=range(2), spread=deal, gather=words, keys=KEYS, scratch=tmp_path)
    with pytest.raises(TaskFailed, match="that all workers share"):
        over_files(job, Elsewhere(tmp_path))

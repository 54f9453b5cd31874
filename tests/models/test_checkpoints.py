"""Checkpoints of all families that have some: what a killed writer left does not stand in the way of the end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shardwise.models import sgd_resume, trees_resume
from shardwise.models.neural import checkpoint


@pytest.mark.parametrize(
    "drop",
    [trees_resume.drop_progress, sgd_resume.drop_progress, checkpoint.drop_progress],
    ids=["trees", "sgd", "net"],
)
def test_the_end_of_a_fit_removes_what_a_killed_writer_left(drop: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    drop(folder)  # nothing was written
    folder.mkdir()
    (folder / ".half-written").write_bytes(b"half")
    drop(folder)
    assert not folder.exists()

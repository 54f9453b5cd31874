"""A look counts once for each model and each set of rows."""

from pathlib import Path

from shardwise.store.looks import Looks


def test_the_same_model_again_is_no_further_look(tmp_path: Path) -> None:
    assert Looks(tmp_path).count(["data", 1], "a") == 1
    assert Looks(tmp_path).count(["data", 1], "b") == 2
    assert Looks(tmp_path).count(["data", 1], "a") == 2
    assert Looks(tmp_path).count(["data", 2], "a") == 1

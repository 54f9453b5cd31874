import json
import os
from pathlib import Path
from typing import Any

import pytest

from shardwise.cli.last_resort import LastResort


@pytest.mark.parametrize(
    ("test", "words"),
    [({}, "not scored on sealed rows"), ({"roc_auc": {"value": 0.9}}, "that of the run so far")],
)
def test_nothing_is_said_of_a_test_that_there_may_not_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    test: dict[str, Any],
    words: str,
) -> None:
    manifest = {
        "target": {"task": "binary"}, "metrics": {"valid": {"roc_auc": 0.9}, "test": test},
        "lineage": {"candidate": {"family": "trees"}},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    LastResort(None, as_json=False)._end(tmp_path)
    assert capsys.readouterr().out == f"time was up; the best package so far is {tmp_path} ({words})\n"
    assert codes == [0]

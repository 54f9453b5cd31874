"""Every benchmark can be imported and tells what it measures; to run them is for people (`make bench`)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shardwise.models import sgd

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("bench_*.py"))


def test_each_benchmark_is_in_the_readme() -> None:
    text = (FOLDER / "README.md").read_text()
    assert SCRIPTS
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in text] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_help_says_what_is_measured_and_names_no_place(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    for option in ("--data", "--only", "--repeat", "--results"):
        assert option in done.stdout
    assert str(FOLDER.parent) not in done.stdout


def test_what_counts_rows_is_a_descent_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from gang_counts import Count, write_rows

    for name in ("ROUND_ROWS", "KEEP_S"):
        monkeypatch.setattr(sgd, name, getattr(sgd, name))
    write_rows(tmp_path / "rows", 1000)
    counts = Count(tmp_path / "rows", tmp_path / "kept", 2)(None)  # type: ignore[arg-type]  # alone
    np.testing.assert_array_equal(counts, 2)

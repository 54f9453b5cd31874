"""Every benchmark can be imported and tells what it measures; to run them is for people (`make bench`)."""

import subprocess
import sys
from pathlib import Path

import pytest

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

"""shardwise monitor on the command line."""

import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_table
from tests.serve.profiled import make_profiled

from shardwise.cli import run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitor")
    make_profiled(folder)
    table = make_table(1500, seed=9)
    pq.write_table(table, folder / "same.parquet")
    pq.write_table(table.set_column(1, "x", pc.add(table["x"], 3.0)), folder / "moved.parquet")
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def test_what_is_found_is_told_and_strict_says_no(capsys):
    words = ["monitor", "package", "--window", "500", "--data"]
    assert run([*words, "same.parquet", "--strict"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing was found."
    assert run([*words, "moved.parquet"]) == 0
    assert "! column 'x' is distributed differently" in capsys.readouterr().out
    assert run([*words, "moved.parquet", "--strict", "--json", "--alert", "log"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert "moved.parquet" in told["suggestion"]
    assert "alert" in captured.err


def test_rows_that_are_too_few_are_not_called_unsuspicious(place, capsys):
    pq.write_table(make_table(99, seed=9), place / "few.parquet")
    assert run(["monitor", "package", "--data", "few.parquet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Nothing was judged."
    assert lines[-2] == "99 rows are in windows too small to be judged, which need 100."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "5"], "window of 5 rows"),
        (["--detector", "adwim"], "Did you mean 'adwin'"),
        (["--alert", "nowhere"], "no webhook"),
        (["--false-alarms", "2"], "false_alarms"),
    ],
)
def test_bad_input_is_2_and_says_what(words, message, capsys):
    assert run(["monitor", "package", "--data", "same.parquet", *words]) == 2
    assert message in capsys.readouterr().err

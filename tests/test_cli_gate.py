"""shardwise gate on the command line."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from tests.deploy.conftest import profiled_parts
from tests.registry.parts import make_package, make_table

from shardwise.cli import run
from shardwise.registry.package import write_package

CHEAP = ["--no-costs"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    write_package(folder / "good", **profiled_parts(folder / "rows"))
    make_package(folder / "weak", families=("baseline",))
    pq.write_table(make_table(600, seed=4), folder / "new.parquet")
    return folder


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def test_yes_is_0_and_no_is_1_with_the_reasons(capsys):
    assert run(["gate", "good", "--against", "weak/package", "--data", "new.parquet", "--require", "better", *CHEAP,
                "--new-columns", "--calibration-margin", "1", "--slices", "town"]) == 0  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1].startswith("Yes: good may take the place")
    told = ["--junit", "gate.xml", "--out", "gate.json", "--json"]
    assert run(["gate", "weak/package", "--against", "good", "--data", "new.parquet", *CHEAP, *told]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["passed"] is False
    assert json.loads(Path("gate.json").read_text()) == verdict
    root = ElementTree.parse("gate.xml").getroot()
    assert sum(int(suite.get("failures")) for suite in root) == sum(c["status"] == "fail" for c in verdict["checks"])


def test_the_config_has_options_and_tests_and_words_win_over_it(capsys, place):
    (place / "gate.yaml").write_text(
        "metric: accuracy\nslices: town\nmargin: 50%\nlatency-ratio: 1000\nmemory-ratio: 1000\n"
        "tests: [{name: the id is not read, kind: invariance, change: {z: '+0'}}]\n"
    )
    assert run(["gate", "good", "--against", "good", "--data", "new.parquet", "--config", "gate.yaml", "--metric",
                "log_loss", "--json"]) == 0  # fmt: skip
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert checks[0]["name"] == "log_loss"
    assert {check["name"] for check in checks} >= {"town = Ulm", "the id is not read"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "none.yaml"], "no such file"),
        (["--margin", "lots"], "no margin"),
        (["--slices", "twon"], "Did you mean 'town'"),
        (["--metric", "rmse"], "does not fit"),
        (["--require", "best"], "not-worse"),
    ],
)
def test_bad_input_is_2_and_says_what(words, message, capsys):
    assert run(["gate", "good", "--against", "good", "--data", "new.parquet", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_package_that_is_not_there_is_2(capsys):
    assert run(["gate", "good", "--against", "nothing", "--data", "new.parquet"]) == 2
    assert "nothing" in capsys.readouterr().err

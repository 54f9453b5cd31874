"""The workflow for GitHub Actions does what it says: its steps are run as a runner does, on small data."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from tests.registry.parts import make_table

from shardwise.deploy.gate import read_gate
from shardwise.registry.registry import Registry

FOLDER = Path(__file__).parents[1] / "examples" / "github"
WORKFLOW = yaml.safe_load((FOLDER / "train-gate-promote.yml").read_text())
STEPS = WORKFLOW["jobs"]["train-gate-promote"]["steps"]
GATE = "margin: 60%\nlatency-ratio: 1000\nmemory-ratio: 1000\nsize-ratio: 1000\nnew-columns: true\n"


@pytest.fixture
def step(tmp_path):
    """Runs a step by its id; its exit code and what it said."""
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "MODEL": "m", "TARGET": "y",
        "TRAIN_DATA": "train.parquet", "NEW_DATA": "new.parquet",
        "BUDGET": "--trials 1 --families linear", "GITHUB_RUN_ID": "7",
        "SHARDWISE_REGISTRY": "registry", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }  # fmt: skip

    def run(name):
        found = next(each for each in STEPS if each.get("id") == name)
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", found["run"]], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_the_first_model_becomes_champion_and_the_next_passes_the_gate(step, tmp_path):
    pq.write_table(make_table(600, seed=40), tmp_path / "new.parquet")
    (tmp_path / "gate.yaml").write_text(GATE)
    for number in (1, 2):
        pq.write_table(make_table(400 + 200 * number, seed=number), tmp_path / "train.parquet")
        for name in ("train", "gate", "promote"):
            code, told = step(name)
            assert code == 0, f"{name}: {told}"
        shutil.rmtree(tmp_path / "runs")
        assert Registry(tmp_path / "registry").aliases("m")["champion"] == number
    assert (tmp_path / "summary.md").read_text().splitlines()[-1].startswith("Yes")
    (tmp_path / "gate.yaml").write_text(GATE + "require: better\n")
    Registry(tmp_path / "registry").promote("m@1", "challenger")
    assert step("gate")[0] == 1


def test_the_config_beside_it_can_be_read():
    config, tests = read_gate(yaml.safe_load((FOLDER / "gate.yaml").read_text()))
    assert config.slices == ("carrier", "origin")
    assert [test.kind for test in tests] == ["invariance", "minimum"]

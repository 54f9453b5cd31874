"""Packages of each task, made once."""

import pytest
from tests.registry.parts import make_answers, make_package

from shardwise.core.target import Task
from shardwise.serve.predictor import Predictor


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    return {task: make_package(tmp_path_factory.mktemp(task), task, ("trees", "linear")) for task in Task}


@pytest.fixture(scope="session")
def predictors(packages):
    return {task: Predictor.load(folder) for task, folder in packages.items()}


@pytest.fixture
def predictor(predictors):
    return predictors[Task.BINARY]


@pytest.fixture(scope="session")
def promising(tmp_path_factory):
    """Predictors of packages with calibration, a decision and conformal scores."""
    folders = {task: tmp_path_factory.mktemp(f"promising-{task}") for task in Task}
    return {task: Predictor.load(make_package(folder, task, **make_answers(task))) for task, folder in folders.items()}

"""Packages of each task, made once."""

import pytest
from tests.registry.parts import make_package

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

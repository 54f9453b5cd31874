"""Models that differ in a way that is known: the same package, with noise or a shift on its answers."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_package, make_parts, make_table

from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.data.profile import Profile
from shardwise.registry.package import write_package
from shardwise.serve.predictor import Predictor


def profiled_parts(folder, task=Task.BINARY, rows=400):
    """Parts with a real profile of their rows."""
    table = make_table(rows, task)
    profile = Profile(table.schema)
    profile.update(table.combine_chunks().to_batches()[0])
    return {**make_parts(folder, task, rows=rows), "profile_state": profile.state()}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A package of each task."""
    made = {}
    for task in Task:
        place = tmp_path_factory.mktemp(task)
        write_package(place / "package", **profiled_parts(place / "rows", task))
        made[task] = place / "package"
    return made


@pytest.fixture(scope="session")
def weak_folder(tmp_path_factory):
    """A package that has learned nothing."""
    return make_package(tmp_path_factory.mktemp("weak"), families=("baseline",))


@pytest.fixture
def save(tmp_path):
    def written(table, name="data.parquet"):
        pq.write_table(table, tmp_path / name, row_group_size=200)
        return open_dataset([str(tmp_path / name)], target_bytes=5_000)

    return written


class Changed(Predictor):
    """Answers as a package does, with a change that depends on the row alone."""

    def __init__(self, folder, change):
        super().__init__(Predictor.load(folder).package)
        self.change = change

    def predict(self, batch):
        return self.change(super().predict(batch), batch)


@pytest.fixture
def changed(folders):
    def make(change, task=Task.BINARY):
        return Changed(folders[task], change)

    return make


def noisy(size):
    """Adds noise to the logit (or the number), the same for a row whatever the batch is."""

    def change(scores, batch):
        seeds = np.abs(batch.column("z").to_numpy(zero_copy_only=False).astype(np.float64) * 1e6).astype(int)
        noise = size * np.array([np.random.default_rng(seed).normal() for seed in seeds])
        if scores.ndim == 1:
            return scores + noise
        odds = np.exp(np.log(scores[:, 1] / scores[:, 0]) + noise)
        return np.column_stack([1 / (1 + odds), odds / (1 + odds)])

    return change


def renamed(predictor, **fields):
    """The predictor with another target."""
    package = predictor.package
    manifest = replace(package.manifest, target=replace(package.target, **fields))
    return Predictor(replace(package, manifest=manifest))

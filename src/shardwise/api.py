"""What `import shardwise` offers in Python; the command line calls the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise.compute.base import stream
from shardwise.compute.local import make_executor
from shardwise.core.config import RunConfig
from shardwise.core.events import Events, Listener
from shardwise.core.state import dump_state, load_state
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset, ReadOptions, TypeConflict, from_table, open_dataset
from shardwise.data.profile import Profile
from shardwise.registry.package import load_package
from shardwise.serve.predictor import Predictor
from shardwise.workflow import TrainResult
from shardwise.workflow import train as run_workflow


def train(data: Any, target: str, *, listen: Listener | None = None, **options: Any) -> TrainResult:
    """Train on `data` to predict the column `target`.

    `data` is a path, glob, folder or URL, a list of them, or a table (pandas, polars, Arrow), which is written once as
    Arrow IPC into the runs folder. `options` are the fields of `core.config.RunConfig`, named as on the command line:
    `time="5m"`, `memory="2GB"`, `trials=8`, `workers=2` ... `listen` is called with each event of the run.

    Raises `ShardwiseError`: `BadInput` for what cannot be used, `CeilingReached` with nothing to show.
    """
    paths = _paths(data, str(options.get("runs_folder", "runs")))
    config = RunConfig.from_mapping({"data": paths, "target": target, **options})
    return run_workflow(config, Events([listen] if listen else []))


def load(package: str | Path) -> Predictor:
    """A package, checked (hashes, format version, golden rows) and ready to predict; raises `PackageError`."""
    return Predictor(load_package(Path(package)))


def profile(data: Any, *, options: ReadOptions | None = None, workers: int = 1, runs_folder: str = "runs") -> Profile:
    """Mergeable statistics of a dataset, in one pass, partition by partition."""
    dataset = open_dataset(_paths(data, runs_folder), options=options or ReadOptions())
    while True:
        try:
            return _profile(dataset, workers)
        except TypeConflict as conflict:  # each time one column gets a wider type, until the widest
            dataset = dataset.widened(conflict.column)


@dataclass(frozen=True)
class _ProfileTask:
    dataset: Dataset

    def __call__(self, partition: Partition) -> bytes:
        found = Profile(self.dataset.schema)
        for batch in self.dataset.read(partition):
            found.update(batch)
        return dump_state(found.state())


def _profile(dataset: Dataset, workers: int) -> Profile:
    whole = Profile(dataset.schema)
    executor = make_executor("local", workers)
    try:
        for outcome in stream(executor, _ProfileTask(dataset), dataset.partitions, ordered=True, retries=2):
            whole.merge(Profile.from_state(load_state(outcome.unwrap())))
    finally:
        executor.close()
    return whole


def _paths(data: Any, runs_folder: str) -> tuple[str, ...]:
    """Paths as they are; a table becomes a file."""
    if isinstance(data, str | Path):
        return (str(data),)
    if isinstance(data, Sequence) and data and all(isinstance(item, str | Path) for item in data):
        return tuple(str(item) for item in data)
    return tuple(map(str, from_table(data, str(Path(runs_folder) / "tables")).sources))

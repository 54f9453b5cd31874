"""What `import shardwise` offers in Python; the command line calls the same."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise.compute.bandwidth import disk_bandwidth
from shardwise.compute.base import stream
from shardwise.compute.ceiling import available_bytes, cpu_quota
from shardwise.compute.engines import make_executor
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError, context
from shardwise.core.events import Events, Listener
from shardwise.core.state import dump_state, load_state
from shardwise.core.units import parse_size
from shardwise.core.windows import WindowSpec
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset, ReadOptions, TypeConflict, from_table, open_dataset
from shardwise.data.health import Health
from shardwise.data.partition import PartitionOptions, PartitionResult, create
from shardwise.data.places import is_url
from shardwise.data.profile import Profile
from shardwise.data.repartition import append as append_rows
from shardwise.data.repartition import compact as compact_files
from shardwise.data.survey import check_health, column_share, expansion
from shardwise.data.treatment import treat
from shardwise.data.windows import create_windows
from shardwise.plan.advice import Advice, Workload, advise
from shardwise.plan.answer import Plan
from shardwise.plan.past import accuracy, read_runs
from shardwise.registry.references import open_package
from shardwise.retraining import retrain_config
from shardwise.serve.batch import predict_files, workers_for
from shardwise.serve.forms import AnswerForm
from shardwise.serve.predictor import Predictor
from shardwise.serve.sinks import output_suffix
from shardwise.stats.metrics import check_metric
from shardwise.train.forecast import plan_run
from shardwise.tune.setup import check_search
from shardwise.tuning import tuned
from shardwise.workflow import TrainResult, open_data
from shardwise.workflow import train as run_workflow

NETWORK_BYTES_S = 100e6  # of object stores, which are not measured
ALL_RUNS = 1_000_000


def train(data: Any, target: str, *, listen: Listener | None = None, **options: Any) -> TrainResult:
    """Train on `data` to predict the column `target`.

    `data` is a path, glob, folder or URL, a list of them, or a table (pandas, polars, Arrow), which is written once as
    Arrow IPC into the runs folder. `options` are the fields of `core.config.RunConfig`, named as on the command line:
    `time="5m"`, `memory="2GB"`, `trials=8`, `workers=2` ... `listen` is called with each event of the run. The first
    Ctrl-C or SIGTERM ends it with what there is (`cut`), and SIGTERM then goes on to the handler of the process.

    Raises `ShardwiseError`: `BadInput` for what cannot be used, `CeilingReached` with nothing to show.
    """
    paths = _paths(data, str(options.get("runs_folder", "runs")))
    config = RunConfig.from_mapping({"data": paths, "target": target, **options})
    return run_workflow(config, Events([listen] if listen else []))


def tune(data: Any, target: str, *, listen: Listener | None = None, **options: Any) -> TrainResult:
    """Search for the best candidate, and seal it as `train` does; 50 trials if neither `trials` nor `time` is given.

    The arguments are those of `train`, and what is searched how: `sampler="gp"`, `pruner="asha"`,
    `space={"trees": {"num_leaves": [16, 64]}}`, `per_second=True`, `archive="shipped"`. Raises `ShardwiseError`.
    """
    return train(data, target, listen=listen, **tuned(options))


def retrain(
    source: str | Path, data: Any = None, *, listen: Listener | None = None, registry: str | None = None, **options: Any
) -> TrainResult:  # fmt: skip
    """Train again as the run `source` did (its name or folder, its package, or `NAME@3`), on old and new data together.

    `data` are paths or globs, old and new; None: the run's own sources, which may hold more by now. `options` bound and
    place the run (`time=`, `trials=`, `out=`, `workers=` ...); `refit=True` plans the features anew in any case. What
    was counted of unchanged partitions is taken over; a finding `retrained` tells what is new. Raises `ShardwiseError`.
    """
    given = [data] if isinstance(data, str | Path) else data or ()
    config = retrain_config(str(source), [str(each) for each in given], options, registry=registry)
    return run_workflow(config, Events([listen] if listen else []))


def plan(data: Any, target: str, **options: Any) -> Plan:
    """Whether training on `data` fits, how long it takes, and how much memory and disk; nothing is trained.

    The arguments are those of `train`. A few seconds of calibration on a slice of the data; the run that is asked
    for the same journals the prediction. Raises `ShardwiseError` as `train` does.
    """
    paths = _paths(data, str(options.get("runs_folder", "runs")))
    return plan_config(RunConfig.from_mapping({"data": paths, "target": target, **options}))


def plan_config(config: RunConfig) -> Plan:
    """The plan of a run that is described by a config; raises `ConfigError` for what `train` would refuse at once."""
    check_search(config)
    check_metric(config.metric, config.task)
    with context(stage="data"):
        dataset = open_data(config)
    return plan_run(config, dataset)


def prediction_accuracy(runs_folder: str = "runs") -> dict[str, Any]:
    """Predicted over actual time and memory of all finished runs in a folder, each and in all, as JSON values."""
    runs, refused = read_runs(Path(runs_folder), ALL_RUNS)
    return {"folder": runs_folder, **accuracy(runs), "refused": refused}


def load(package: str | Path, *, registry: str | Path | None = None) -> Predictor:
    """A package, checked (hashes, format version, golden rows) and ready to predict; raises `PackageError`.

    `package` is a folder, or `NAME@3` or `NAME@champion` in a registry: see `registry.references`.
    """
    return Predictor(open_package(package, registry))


def predict(
    package: str | Path, data: Any, out: str | Path, *, keep: Sequence[str] = (), workers: int | None = None,
    engine: str = "local", address: str | None = None, registry: str | Path | None = None,
    options: ReadOptions | None = None, listen: Listener | None = None, **form: Any,
) -> int:  # fmt: skip
    """Predict `data` of any size into the file or folder `out`, in input order; the number of rows that are written.

    A folder gets a Parquet file for each partition, by `workers` of an `engine` if these are given; the same call goes
    on after a kill. Both may be at a URL, reached with the storage of `options`; a folder there is read by its manifest
    (`serve.part_objects`). `form`: `top_k=`, `min_probability=`, `dtype=`, `confidence_level=` (`serve.forms`). A table
    is written to disk until the call ends: for a folder beside it, else where the system has temporary files.
    """
    predictor = load(package, registry=registry)
    beside = None if output_suffix(str(out).removeprefix("file://")) else out
    with workers_for(engine, workers, address) as executor, _read(data, beside) as paths:
        return predict_files(
            predictor, open_dataset(paths, options=options), out, keep=keep, form=AnswerForm(**form),
            storage=options.storage if options else None, executor=executor,
            events=Events([listen] if listen else []),
        )  # fmt: skip


def profile(data: Any, *, options: ReadOptions | None = None, workers: int = 1, runs_folder: str = "runs") -> Profile:
    """Mergeable statistics of a dataset, in one pass, partition by partition."""
    dataset = open_dataset(_paths(data, runs_folder), options=options or ReadOptions())
    while True:
        try:
            return _profile(dataset, workers)
        except TypeConflict as conflict:  # each time one column gets a wider type, until the widest
            dataset = dataset.widened(conflict.column)


def partition(
    data: Any, out: str | Path | None = None, by: str | Sequence[str] = (), *, append: bool = False,
    compact: bool = False, remedy: str | None = None, key: str | Sequence[str] = (), memory: str | int | None = None,
    window: str | None = None, options: ReadOptions | None = None, listen: Listener | None = None, **given: Any,
) -> PartitionResult:  # fmt: skip
    """Partition `data` into the folder `out`, by one or several levels such as `"hash:carrier:8"`.

    `append` adds rows to the dataset `out`; `compact` (of the dataset `data`) writes one file for each partition;
    `remedy` is one of salt, isolate, split, merge, rerange, in the place of the dataset `data`, or into `out`. With a
    `window` such as `"x,y by id over 128 step 64 of t"` stretches of rows become rows (`data.windows`). `given` are the
    fields of `data.partition.PartitionOptions`: `count=`, `seed=`, `threads=`, `overwrite=`, `wait_s=` ...

    Raises `BadInput` for what cannot be used, `CeilingReached` for memory and disk, `AnswerIsNo` where a remedy finds
    nothing to do.
    """
    levels = (by,) if isinstance(by, str) else tuple(by)
    memory_bytes = None if memory is None else parse_size(memory)
    chosen = PartitionOptions(by=levels, memory_bytes=memory_bytes, **given)
    events = Events([listen] if listen else [])
    with _read(data, None if chosen.engine == "local" else out) as sources:
        if compact:
            return compact_files(sources[0], chosen, events=events)
        if remedy is not None:
            keys = (key,) if isinstance(key, str) else tuple(key)
            return treat(sources[0], None if out is None else str(out), remedy, chosen, key=keys, events=events)
        if out is None:
            raise ConfigError("nothing says where to write", hint="Give the folder of the new dataset: out=...")
        if window is not None:
            spec = WindowSpec.read(window)
            return create_windows(sources, str(out), spec, chosen, reading=options, events=events)
        work = append_rows if append else create
        return work(sources, str(out), chosen, reading=options, events=events)


def health(data: Any, *, key: str | Sequence[str] = (), workers: int | None = None,
           options: ReadOptions | None = None) -> Health:  # fmt: skip
    """Judge the partitions of a dataset before training: skew, hot keys, stragglers of `workers`, overlaps."""
    keys = (key,) if isinstance(key, str) else tuple(key)
    with _read(data) as paths:
        dataset = open_dataset(paths, options=options or ReadOptions())
        return check_health(dataset, key=keys, workers=workers or cpu_quota())


def advise_partitions(
    data: Any, *, memory: str | int | None = None, workers: int | None = None, passes: int = 3, engine: str = "local",
    columns: Sequence[str] = (), options: ReadOptions | None = None,
) -> Advice:  # fmt: skip
    """How many partitions of which size, from the data's bytes, the ceilings, and the speed of the disk (measured)."""
    with _read(data) as paths:
        dataset = open_dataset(paths, options=options or ReadOptions())
        local = [part.path for part in dataset.partitions if "://" not in part.path]
        work = Workload(
            size_bytes=dataset.size_bytes, share=column_share(dataset, columns), expansion=expansion(dataset),
            memory_bytes=parse_size(memory) if memory is not None else available_bytes(),
            workers=workers or cpu_quota(), passes=passes, engine=engine,
            bandwidth_bytes_s=disk_bandwidth(local) if local else NETWORK_BYTES_S,
        )  # fmt: skip
        return advise(work)


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
    """Paths as they are; a table becomes a file in the runs folder, where a run finds it again."""
    return _named(data) or _written(data, Path(runs_folder) / "tables")


@contextmanager
def _read(data: Any, beside: str | Path | None = None) -> Iterator[tuple[str, ...]]:
    """Paths as they are; a table becomes a file until the end.

    It lies in a temporary folder, or `beside` what is written, under a name that is the same for each call: there
    workers on other machines see it, and after a kill the same call goes on.
    """
    if paths := _named(data):
        yield paths
    elif beside is None:
        with tempfile.TemporaryDirectory(prefix="shardwise-") as folder:
            yield _written(data, Path(folder), timeless=True)
    else:
        place = _hidden(beside)
        others, done = place.exists(), False  # of a call that was killed, or that is under way
        try:
            yield _written(data, place, timeless=True)
            done = True
        finally:
            if done or not others:
                shutil.rmtree(place, ignore_errors=True)


def _hidden(place: str | Path) -> Path:
    """The folder beside what is written; here, where that is at a URL."""
    place = str(place).removeprefix("file://").rstrip("/")
    name = f".{place.rpartition('/')[2]}.table"
    return Path(name) if is_url(place) else Path(place).absolute().parent / name


def _named(data: Any) -> tuple[str, ...]:
    """The paths that were given, if it is paths."""
    if isinstance(data, str | Path):
        return (str(data),)
    if isinstance(data, Sequence) and data and all(isinstance(item, str | Path) for item in data):
        return tuple(str(item) for item in data)
    return ()


def _written(table: Any, folder: Path, *, timeless: bool = False) -> tuple[str, ...]:
    """The file of a table, whose name tells its content; `timeless`: it is known again when it is written anew."""
    (path,) = map(str, from_table(table, str(folder)).sources)
    if timeless:
        os.utime(path, (0, 0))
    return (path,)

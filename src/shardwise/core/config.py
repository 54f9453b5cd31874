"""What was asked: one frozen config per run, from keywords or YAML; unknown keys are refused with the nearest name."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from shardwise.core.aggregates import AggregateSpec, read_aggregates
from shardwise.core.devices import DEVICES
from shardwise.core.errors import ConfigError, context
from shardwise.core.grids import GridSpec
from shardwise.core.joins import JoinSpec, read_joins
from shardwise.core.monotone import with_monotone
from shardwise.core.names import nearest
from shardwise.core.parallel import Parallel
from shardwise.core.target import Task
from shardwise.core.units import is_number, parse_duration, parse_size

SELECT = ("auto", "none", "strict")
ENGINEER = ("auto", "none")
MEDIAN = 0.5  # the quantile that is meant where none is given
RUNGS = ("rounds", "partitions")
MAX_SIZE = "50MB"  # of a package, where nothing else is asked for
_CUT = "neural"  # the family of models that can lie in parts
# What is chosen of the trials, whatever they are
SERVED = ("max_size", "max_latency", "min_throughput", "distill", "bag_seeds")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run was asked for. Fields have the names of the command line's options.

    `time` is working time over all restarts (`5m`), `+5m` adds to what a finished run has used. `trials` counts
    candidates. Without both, the default candidates are tried once. Shares are of all rows; with `test_share` 0 no row
    is sealed as a test. `fold_column` holds fold numbers of your own: 0 to `folds` - 1, and -1 for the sealed test.
    `params` holds params of a model family down for all its candidates: `{"trees": {"n_estimators": 100}}`. `disk` is a
    ceiling on what the run's folder takes. `kinds` fixes what a column is (number, category, text, date, ignore),
    `types` the Arrow type in which it is read from text files. `aggregates` are group features (`core.aggregates`),
    each a mapping or a line such as `mean,count(distance) by carrier over 7d of departure`.
    `engine` runs the tasks (local, ray, dask, spark), at `address` where a cluster is there already.
    `parallel` says whether one model is fitted by several workers: `data` (each has a share of the rows), `tensor`,
    `pipeline` or `embedding` (each has a part of a network, `core.parallel`; `tensor:2`: in two parts), `none`, or
    `auto`, which chooses by the size of a network, the number of rows and the engine, and says why.
    `image` and `sequence` say which columns are the cells of a grid (`core.grids`), for the families `cnn` and `rnn`.
    `joins` are further tables by key (`core.joins`). `select` says how features are dropped that tell nothing, and
    `engineer` whether features of two columns are tried and kept where they pay.
    `sampler` proposes what is tried after the default candidates (`pbt`: networks, trained as a population; those that
    learn keep at most ten workers busy, `random` and `sobol` any number), `pruner`
    says which trials are given up early, on `rungs` of boosting rounds or of partitions;
    `space` narrows or extends what a family searches (`tune.spaces`), `per_second` weighs improvement against what it
    costs, and `archive` names the earlier trials from which `meta` learns: auto (the shipped ones and those of the runs
    folder), shipped, none, or a file.
    The package takes at most `max_size`, a row alone at most `max_latency` (`1ms`), and two cores answer at least
    `min_throughput` rows a second in a batch; without it 100,000, unless slower ones lose half a percent less.
    `distill` trains one model on the ensemble's answers; `bag_seeds` trains members whose trees draw at random from so
    many seeds, as far as limits allow.
    `parent` is the folder of the run that `shardwise retrain` goes on from; with `refit` the features are planned anew
    all the same.
    """

    data: tuple[str, ...]
    target: str
    # budget
    time: str | None = None
    memory: str | None = None
    disk: str | None = None
    trials: int | None = None
    workers: int | None = None
    engine: str = "local"
    address: str | None = None
    device: str = "auto"
    parallel: str = "auto"
    seed: int = 0
    # the task
    task: str | None = None
    metric: str | None = None
    quantile: float = MEDIAN
    weight: str | None = None
    class_weight: str | Mapping[str, float] | None = None
    # the split
    key: tuple[str, ...] = ()
    group: str | None = None
    time_column: str | None = None
    fold_column: str | None = None
    folds: int | None = None
    test_share: float | None = None
    valid_share: float | None = None
    # columns and models
    drop: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    sequence: str | None = None
    families: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sampler: str = "rl"
    pruner: str = "none"
    rungs: str = "rounds"
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_second: bool = False
    archive: str = "auto"
    aggregates: tuple[AggregateSpec, ...] = ()
    joins: tuple[JoinSpec, ...] = ()
    select: str = "auto"
    engineer: str = "none"
    # what is served
    max_size: str = MAX_SIZE
    max_latency: str | None = None
    min_throughput: int | None = None
    distill: bool = False
    bag_seeds: int = 1
    # reading
    format: str | None = None
    encoding: str = "utf8"
    delimiter: str | None = None
    on_bad_row: str = "error"
    skip_corrupt: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    # the run
    parent: str | None = None
    refit: bool = False
    run: str | None = None
    runs_folder: str = "runs"
    out: str | None = None
    strict: bool = False
    report: bool = True

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Self:
        """From keywords or a YAML mapping; dashes in keys are taken as underscores.

        `monotone`, columns to 1 or -1, is short for that param of trees, and for trees as the only family.
        """
        names = {item.name for item in fields(cls)}
        plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in content.items()}
        given = with_monotone({str(key).replace("-", "_"): value for key, value in plain.items()})
        for key in given:
            if key not in names:
                raise ConfigError(f"there is no option {key!r}", hint=nearest(key, {*names, "monotone"}))
        for required in ("data", "target"):
            if not given.get(required):
                raise ConfigError(f"{required!r} is missing", hint="Say which data and which --target column.")
        listed: dict[str, Any] = {
            key: _as_tuple(given[key]) for key in ("data", "key", "drop", "families") if key in given
        }
        given.update(listed)
        given["joins"] = read_joins(given.get("joins"))
        given["aggregates"] = read_aggregates(given.get("aggregates"))
        return cls(**given)

    @property
    def extends(self) -> bool:
        """`time` is written as `+5m`: it is added to what the run has used."""
        return self.time is not None and str(self.time).startswith("+")

    @property
    def time_s(self) -> float | None:
        return None if self.time is None else parse_duration(str(self.time).removeprefix("+"))

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory is None else parse_size(self.memory)

    @property
    def max_size_bytes(self) -> int:
        return parse_size(self.max_size)

    @property
    def max_latency_s(self) -> float | None:
        return None if self.max_latency is None else parse_duration(str(self.max_latency))

    @property
    def disk_bytes(self) -> int | None:
        return None if self.disk is None else parse_size(self.disk)

    def to_json(self) -> dict[str, Any]:
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        content["joins"] = [spec.to_json() for spec in self.joins]
        content["aggregates"] = [spec.to_json() for spec in self.aggregates]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}

    @property
    def grids(self) -> tuple[GridSpec, ...]:
        """The grids that are asked for."""
        asked = {"image": self.image, "sequence": self.sequence}
        return tuple(GridSpec.read(kind, text) for kind, text in asked.items() if text is not None)

    def identity(self) -> str:
        """Hash of all that decides the result, and of nothing that only bounds, places or shows it."""
        bounds = ("time", "memory", "disk", "trials", "workers", "engine", "address", "device", "run", "runs_folder",
                  "out", "strict", "report", "storage", *SERVED)  # fmt: skip
        content = {key: value for key, value in self.to_json().items() if key not in bounds}
        return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=6).hexdigest()


def _as_tuple(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _check(config: RunConfig) -> None:
    """Refuse values that cannot be meant, before anything is read."""
    _ = config.time_s, config.memory_bytes, config.disk_bytes, config.max_size_bytes, config.max_latency_s
    _ = config.grids
    if config.task is not None and config.task not in {task.value for task in Task}:
        raise ConfigError(f"there is no task {config.task!r}", hint=nearest(config.task, [task.value for task in Task]))
    if not is_number(config.quantile) or not 0 < config.quantile < 1:
        raise ConfigError(f"quantile {config.quantile} is outside (0, 1)", hint="The median is 0.5.")
    if config.quantile != MEDIAN and config.task != Task.QUANTILE.value:
        raise ConfigError(f"quantile {config.quantile} is given for another task", hint="Give --task quantile too.")
    for name, low in (("trials", 1), ("workers", 1), ("folds", 2), ("min_throughput", 0), ("bag_seeds", 1)):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, int) or value < low):
            raise ConfigError(f"{name} is {value!r}", hint=f"Give a whole number of at least {low}.")
    for name in ("test_share", "valid_share"):
        share = getattr(config, name)
        if share is not None and not is_number(share):
            raise ConfigError(f"{name} is {share!r}", hint="Give a share between 0 and 0.9.")
        if share is not None and not (0 < share < 0.9 or (share == 0 and name == "test_share")):
            raise ConfigError(f"{name} is {share}", hint="Give a share between 0 and 0.9.")
    for name in ("params", "space"):
        _check_by_family(name, getattr(config, name))
    if config.device not in DEVICES:
        raise ConfigError(f"there is no device {config.device!r}", hint=nearest(config.device, DEVICES))
    if config.select not in SELECT:
        raise ConfigError(f"select is {config.select!r}", hint=nearest(config.select, SELECT))
    if config.engineer not in ENGINEER:
        raise ConfigError(f"engineer is {config.engineer!r}", hint=nearest(config.engineer, ENGINEER))
    _check_rungs(config)
    _check_parallel(config, Parallel.parse(config.parallel))
    if config.on_bad_row not in ("error", "skip"):
        raise ConfigError(f"on_bad_row is {config.on_bad_row!r}", hint="Allowed: error, skip.")
    _check_class_weight(config.class_weight)


def _check_rungs(config: RunConfig) -> None:
    if config.rungs not in RUNGS:
        raise ConfigError(f"there are no rungs of {config.rungs!r}", hint=nearest(config.rungs, RUNGS))
    if config.rungs != "partitions":
        return
    if config.pruner == "curve":
        raise ConfigError("the pruner 'curve' needs rungs of rounds", hint="Choose another pruner, or other rungs.")
    if config.sampler == "pbt" or config.pruner == "none":
        other = "--sampler pbt" if config.sampler == "pbt" else "--pruner none"
        hint = "Leave --rungs out, or tune with a pruner such as asha, and another sampler than pbt."
        raise ConfigError(f"--rungs partitions has no effect with {other}: no trial rests on a rung", hint=hint)


def _check_class_weight(given: Any) -> None:
    if given is None or given == "balanced":
        return
    if not isinstance(given, Mapping):
        raise ConfigError(f"class_weight is {given!r}", hint="Give balanced, or a weight for each class.")
    for label, weight in given.items():
        if not is_number(weight) or not 0 <= weight < float("inf"):
            raise ConfigError(f"the weight of class {label!r} is {weight!r}", hint="Give a number from 0 up.")


def _check_by_family(name: str, given: Any) -> None:
    if not isinstance(given, Mapping) or not all(isinstance(each, Mapping) for each in given.values()):
        raise ConfigError(f"{name} is {given!r}", hint="Write it by family, like {trees: {num_leaves: 31}}.")


def _check_parallel(config: RunConfig, asked: Parallel) -> None:
    """Refuse workers, engines and families with which one model cannot be shared as it was asked for."""
    if config.engine == "dask" and (asked.kind == "data" or asked.splits):
        hint = "Give --engine local, ray or spark, or --parallel none."
        raise ConfigError(f"--engine dask cannot start workers together, as --parallel {asked.kind} needs", hint=hint)
    if asked.splits and _CUT not in config.families:
        given = ", ".join(config.families) or "those that are tried by themselves"
        what = f"--parallel {asked.kind} cuts networks of the family {_CUT} into parts, and the families are {given}"
        raise ConfigError(what, hint=f"Give --families {_CUT}, alone or with others, or --parallel auto.")
    if asked.splits and config.workers is not None:
        asked.split(config.workers)


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but for numbers such as 1e-3, which are numbers as in YAML 1.2 and in Python."""


_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z"), [*"-+0123456789"])


def read_yaml(text: str) -> Any:
    """A value of YAML; raises `yaml.YAMLError`.

    >>> read_yaml("[1e-3, 10]")
    [0.001, 10]
    """
    return yaml.load(text, Loader=_Yaml)  # noqa: S506 - it is a safe one


def load_config(path: str | Path) -> dict[str, Any]:
    """The mapping of a YAML file; raises `ConfigError` when it is none."""
    with context(path=str(path)):
        text = Path(path).read_text(encoding="utf8")
        try:
            content = read_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of a 31st of February, and of deep nesting
            raise ConfigError(f"the config is not YAML: {error}".replace("\n", " ")) from error
        if not isinstance(content, dict):
            raise ConfigError("the config is no mapping", hint="Write lines like `target: price`.")
        return content


def dump_config(config: RunConfig) -> str:
    """YAML with every default made explicit."""
    return yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True)

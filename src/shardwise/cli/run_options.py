"""The options of a run, which `train` and `tune` share, and the config that they make."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import yaml

from shardwise.cli.options import pairs, skip_corrupt_option, words
from shardwise.core.config import RunConfig, load_config, read_yaml
from shardwise.core.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])

BY_FAMILY = ("params", "space")  # mappings of mappings


_BUDGET = (  # what bounds and places a run, whatever it does
    click.option("--out", help="Folder of the package; else inside the run's folder."),
    click.option("--time", "time", help="Ceiling on working time, like 5m; +5m goes on with a finished run."),
    click.option("--memory", help="Ceiling on memory, like 2GB."),
    click.option("--disk", help="Ceiling on what the run's folder takes, like 20GB."),
    click.option("--trials", type=int, help="Number of candidates: a budget in work, whose result is the same bytes."),
    click.option("--workers", type=int, help="Worker processes, or tasks at a time on a cluster."),
    click.option("--engine", help="local, ray, dask or spark: what runs the tasks."),
    click.option("--address", help="Where the engine's cluster listens; else its own default, else it runs here."),
    click.option("--device", help="Where neural models are trained: auto, cpu, cuda or mps."),
    click.option("--run", "run", help="Name of the run; else made from the target, the config and the data."),
    click.option("--runs-folder", help="Where runs lie; runs/ unless given."),
)
_OPTIONS = (
    click.option("--target", help="The column to predict."),
    *_BUDGET,
    click.option(
        "--parallel",
        help="How several workers fit one model: none, data (a share of the rows each), tensor, pipeline or embedding "
        "(a part of a network each; tensor:2: two parts), or auto.",
    ),
    click.option("--seed", type=int, help="Root of all seeds; 0 unless given."),
    click.option("--config", "config_file", help="YAML file with options; those given here win, each param by itself."),
    skip_corrupt_option,
    click.option("--strict", is_flag=True, default=None, help="A leak stops the run."),
    click.option("--task", help="binary, multiclass, regression, count or quantile; else told by the target."),
    click.option("--metric", help="What to optimise, by scikit-learn's name."),
    click.option("--quantile", type=float, help="Which quantile, for --task quantile."),
    click.option("--weight", help="Column of sample weights."),
    click.option("--class-weight", multiple=True, help="balanced, or CLASS=WEIGHT."),
    click.option("--key", multiple=True, help="Columns that identify a row; else its content."),
    click.option("--group", help="Column whose groups never straddle folds."),
    click.option("--time-column", help="Column by which the test lies in the future."),
    click.option("--folds", type=int, help="Number of folds; else by the number of rows."),
    click.option("--test-share", type=float, help="Share of the sealed test fold."),
    click.option("--drop", multiple=True, metavar="COL,...", help="Columns to leave out."),
    click.option("--kind", "kinds", multiple=True, metavar="COL=KIND", help="number, category, text, date or ignore."),
    click.option("--type", "types", multiple=True, metavar="COL=TYPE", help="Arrow type of a column of a text file."),
    click.option(
        "--families",
        multiple=True,
        help="Model families: baseline, linear, trees, catboost, forest, adaboost, svm, neural, cnn, rnn.",
    ),
    click.option("--image", metavar="COLUMNS:HxW", help="Columns that are an image, like 'pixel*:28x28'; for cnn."),
    click.option("--sequence", metavar="COLUMNS:N", help="Columns that are a sequence, like 'x_*,y_*:128'; for rnn."),
    click.option(
        "--param", "params", multiple=True, metavar="FAMILY.NAME=VALUE", help="Hold a param of a model family."
    ),
    click.option(
        "--monotone",
        "monotone",
        multiple=True,
        metavar="COL=+1",
        help="Answers never fall (+1) or rise (-1) with it.",
    ),
    click.option("--aggregate", "aggregates", multiple=True, metavar="LINE", help="'mean,count(X) by K over 7d of T'."),
    click.option("--join", "joins", multiple=True, metavar="LINE", help="'PATH on KEY [at TIME] [prefix P]'."),
    click.option("--max-size", help="Most that the package may take, like 50MB, which it is unless given."),
    click.option("--max-latency", help="Most time that a row alone may take, like 1ms."),
    click.option("--min-throughput", type=int, help="Least rows/s of two cores in a batch."),
    click.option("--distill", is_flag=True, default=None, help="One model that learns the ensemble's answers."),
    click.option("--bag-seeds", type=int, help="Train members whose trees draw at random from so many seeds."),
    click.option("--select", help="auto, none or strict: whether features that tell nothing are dropped."),
    click.option("--engineer", help="auto or none: whether features of two columns are added where they pay."),
)


def run_options(command: Command) -> Command:
    """What a run is asked for, but for the data and how they are read."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def budget_options(command: Command) -> Command:
    """What bounds and places a run."""
    for option in reversed(_BUDGET):
        command = option(command)
    return command


def make_config(
    config_file: str | None, given: dict[str, Any], usual: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> RunConfig:
    """Options of the command line over those of the file; `usual` fills in what neither of them says.

    Of kinds, types and the like each key is an option of its own, of params and spaces each param of a family. What was
    not given is None, or empty: options of a run have no defaults of their own.
    """
    content = load_config(config_file) if config_file else {}
    for name, option in (("kinds", "kind"), ("types", "type"), ("storage", "storage"), ("monotone", "monotone")):
        given[name] = pairs(given[name], option)
    for name in ("key", "drop", "families"):
        given[name] = words(given[name])
    given["params"] = _params(given["params"], "param")
    given["space"] = _params(given.get("space", ()), "space")
    weights = given.pop("class_weight")
    given["class_weight"] = _class_weight(weights)
    content = {str(key).replace("-", "_"): value for key, value in content.items()}
    asked = {key: value for key, value in given.items() if value not in (None, (), {})}
    over = {key: _over(content.get(key), value, 2 if key in BY_FAMILY else 1) for key, value in asked.items()}
    return RunConfig.from_mapping(usual({**content, **over}))


def _over(known: Any, given: Any, levels: int) -> Any:
    """What was given in the place of what is known, of mappings key by key, so many levels deep.

    >>> _over({"trees": {"num_leaves": 8, "subsample": 0.5}}, {"trees": {"subsample": 1.0}, "linear": {"l1": 0}}, 2)
    {'trees': {'num_leaves': 8, 'subsample': 1.0}, 'linear': {'l1': 0}}
    """
    if not levels or not isinstance(known, Mapping) or not isinstance(given, Mapping):
        return given
    merged = {str(key): value for key, value in known.items()}  # in YAML the label of a class may be a number
    return merged | {key: _over(merged.get(key), value, levels - 1) for key, value in given.items()}


def _params(given: tuple[str, ...], option: str) -> dict[str, dict[str, Any]]:
    """`trees.n_estimators=100` as `{"trees": {"n_estimators": 100}}`.

    >>> _params(("trees.num_leaves=[16, 64]",), "space")
    {'trees': {'num_leaves': [16, 64]}}
    """
    found: dict[str, dict[str, Any]] = {}
    for name, text in pairs(given, option).items():
        family, dot, param = name.partition(".")
        if not dot:
            hint = f"Write it like --{option} trees.n_estimators={'100' if option == 'param' else '[100, 500]'}."
            raise ConfigError(f"--{option} {name!r} names no family", hint=hint)
        try:
            found.setdefault(family, {})[param] = read_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"--{option} {name}={text!r} is no value", hint="Close what is open.") from error
    return found


def _class_weight(given: tuple[str, ...]) -> Any:
    if not given:
        return None
    if given == ("balanced",):
        return "balanced"
    return {label: read_yaml(weight) for label, weight in pairs(given, "class-weight").items()}

"""shardwise train DATA... --target COL"""

import sys
from typing import Any

import click
import yaml

from shardwise.cli import print_json
from shardwise.cli.last_resort import LastResort
from shardwise.cli.options import data_argument, json_option, pairs, reading_options, registry_option, words
from shardwise.compute.clock import process_age_s
from shardwise.core.config import RunConfig, load_config
from shardwise.core.errors import ConfigError
from shardwise.core.events import Events
from shardwise.core.units import format_duration, format_size
from shardwise.registry.references import open_registry
from shardwise.registry.versions import check_name
from shardwise.report.terminal import make_progress
from shardwise.workflow import TrainResult, train


@click.command("train")
@data_argument
@click.option("--target", help="The column to predict.")
@click.option("--out", help="Folder of the package; else inside the run's folder.")
@click.option("--time", "time", help="Ceiling on working time, like 5m; +5m goes on with a finished run.")
@click.option("--memory", help="Ceiling on memory, like 2GB.")
@click.option("--disk", help="Ceiling on what the run's folder takes, like 20GB.")
@click.option("--trials", type=int, help="Number of candidates: a budget in work, whose result is the same bytes.")
@click.option("--workers", type=int, help="Worker processes, or tasks at a time on a cluster.")
@click.option("--engine", help="local, ray, dask or spark: what runs the tasks.")
@click.option("--address", help="Where the engine's cluster listens; else its own default, else it runs here.")
@click.option("--device", help="Where neural models are trained: auto, cpu, cuda or mps.")
@click.option("--parallel", help="auto, none or data: whether several workers fit one model together.")
@click.option("--seed", type=int, help="Root of all seeds; 0 unless given.")
@click.option("--run", "run", help="Name of the run; else made from the target, the config and the data.")
@click.option("--runs-folder", help="Where runs lie; runs/ unless given.")
@click.option("--config", "config_file", help="YAML file with options; those given here win.")
@click.option("--strict", is_flag=True, default=None, help="A leak stops the run.")
@click.option("--task", help="binary, multiclass, regression, count or quantile; else told by the target.")
@click.option("--metric", help="What to optimise, by scikit-learn's name.")
@click.option("--quantile", type=float, help="Which quantile, for --task quantile.")
@click.option("--weight", help="Column of sample weights.")
@click.option("--class-weight", multiple=True, help="balanced, or CLASS=WEIGHT.")
@click.option("--key", multiple=True, help="Columns that identify a row; else its content.")
@click.option("--group", help="Column whose groups never straddle folds.")
@click.option("--time-column", help="Column by which the test lies in the future.")
@click.option("--folds", type=int, help="Number of folds; else by the number of rows.")
@click.option("--test-share", type=float, help="Share of the sealed test fold.")
@click.option("--drop", multiple=True, metavar="COL,...", help="Columns to leave out.")
@click.option("--kind", "kinds", multiple=True, metavar="COL=KIND", help="number, category, text, date or ignore.")
@click.option("--type", "types", multiple=True, metavar="COL=TYPE", help="Arrow type of a column of a text file.")
@click.option("--families", multiple=True, help="Model families to try: baseline, linear, trees, neural.")
@click.option("--param", "params", multiple=True, metavar="FAMILY.NAME=VALUE", help="Hold a param of a model family.")
@click.option("--aggregate", "aggregates", multiple=True, metavar="LINE", help="'mean,count(X) by K over 7d of T'.")
@click.option("--join", "joins", multiple=True, metavar="LINE", help="'PATH on KEY [at TIME] [prefix P]'.")
@click.option("--select", help="auto, none or strict: whether features that tell nothing are dropped.")
@click.option("--register", "name", metavar="NAME", help="Make the package a version of NAME in the registry.")
@registry_option
@reading_options
@json_option
def command(as_json: bool, config_file: str | None, name: str | None, registry: str | None, **given: Any) -> int:
    """Train on DATA (files, globs, folders or URLs) to predict a column.

    Everything is journalled: after a crash, the same command goes on. Ctrl-C once stops cleanly with the best model so
    far, twice at once.
    """
    if name is not None:
        check_name(name)
    config = make_config(config_file, given)
    progress = make_progress(sys.stderr)
    with progress, LastResort(config.out, as_json=as_json) as last_resort:
        result = train(config, Events([progress, last_resort]), spent_s=process_age_s())
    version = None if name is None else open_registry(registry).register(name, result.package)
    if as_json:
        print_json({**result.to_json(), **({} if version is None else {"version": version.reference})})
        return 0
    _print(result)
    if version is not None:
        print(f"version  {version.reference}, to promote with: shardwise models promote {version.reference}")
    return 0


def make_config(config_file: str | None, given: dict[str, Any]) -> RunConfig:
    """Options of the command line over those of the file."""
    content = load_config(config_file) if config_file else {}
    for name, option in (("kinds", "kind"), ("types", "type"), ("storage", "storage")):
        given[name] = pairs(given[name], option)
    for name in ("key", "drop", "families"):
        given[name] = words(given[name])
    given["params"] = _params(given["params"])
    weights = given.pop("class_weight")
    given["class_weight"] = _class_weight(weights)
    content = {str(key).replace("-", "_"): value for key, value in content.items()}
    defaults = {"encoding": "utf8", "on_bad_row": "error"}
    asked = {key: value for key, value in given.items() if value not in (None, (), {}) and value != defaults.get(key)}
    return RunConfig.from_mapping({**content, **asked})


def _params(given: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """`trees.n_estimators=100` as `{"trees": {"n_estimators": 100}}`."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in pairs(given, "param").items():
        family, dot, param = name.partition(".")
        if not dot:
            raise ConfigError(f"--param {name!r} names no family", hint="Write it like --param trees.n_estimators=100.")
        found.setdefault(family, {})[param] = yaml.safe_load(text)
    return found


def _class_weight(given: tuple[str, ...]) -> Any:
    if not given:
        return None
    if given == ("balanced",):
        return "balanced"
    return {label: float(weight) for label, weight in pairs(given, "class-weight").items()}


def _print(result: TrainResult) -> None:
    """The result for people, on standard output."""
    score = result.score
    interval = (
        f"{score['value']:.5g} (95 % interval {score['low']:.5g} to {score['high']:.5g})" if score else "not measured"
    )
    leaks = sum(finding["severity"] == "leak" for finding in result.findings)
    cut = ", ended by its ceiling" if result.cut else ""
    spent, peak = format_duration(result.seconds), format_size(result.peak_memory_bytes)
    lines = [
        f"test {result.metric}  {interval}, on sealed rows",
        f"valid {result.metric}  {result.valid_score:.5g}, out of fold",
        f"trials  {result.trials} in {spent}{cut}, peak memory {peak}",
        f"package  {result.package}  ({result.package_hash[:16]})",
        f"report  {result.report}",
    ]
    if leaks:
        lines.append(f"leaks  {leaks}: see the report before you trust the score")
    lines.append(f"next  shardwise predict {result.package} DATA --out predictions.parquet")
    print("\n".join(lines))

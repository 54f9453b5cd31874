"""shardwise train DATA... --target COL"""

import sys
from collections.abc import Mapping
from typing import Any

import click

from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.last_resort import LastResort
from shardwise.cli.options import data_or_config, json_option, reading_options, registry_option
from shardwise.cli.run_options import make_config, run_options
from shardwise.compute.clock import process_age_s
from shardwise.core.config import RunConfig
from shardwise.core.events import Events
from shardwise.core.units import format_duration, format_size
from shardwise.registry.references import open_registry
from shardwise.registry.versions import Version, check_name
from shardwise.report.ensemble import what_answers
from shardwise.report.terminal import make_progress
from shardwise.workflow import TrainResult, train


@click.command("train")
@data_or_config
@run_options
@click.option("--register", "name", metavar="NAME", help="Make the package a version of NAME in the registry.")
@registry_option
@reading_options
@json_option
def command(as_json: bool, config_file: str | None, name: str | None, registry: str | None, **given: Any) -> int:
    """Train on DATA (files, globs, folders or URLs; else those of --config) to predict a column.

    Everything is journalled: after a crash, the same command goes on. Ctrl-C once stops cleanly with the best model so
    far, twice at once; then too the same command goes on.
    """
    check_version_name(name)
    return train_and_tell(make_config(config_file, given), name=name, registry=registry, as_json=as_json)


def check_version_name(name: str | None) -> None:
    """Raise `ConfigError` for a name that the registry would refuse after the training."""
    if name is not None:
        check_name(name)


def train_and_tell(config: RunConfig, *, name: str | None, registry: str | None, as_json: bool) -> int:
    """Train with progress on standard error, register the package where a `name` is given, tell the result."""
    progress = make_progress(sys.stderr)
    late = LastResort(config.out, as_json=as_json, name=name, registry=registry)
    with progress, late as last_resort, chatter_to_stderr():
        result = train(config, Events([progress, last_resort]), spent_s=process_age_s())
    version = None if name is None else open_registry(registry).register(name, result.package)
    if as_json:
        print_json({**result.to_json(), **({} if version is None else {"version": version.reference})})
        return 0
    print_result(result, version)
    return 0


def print_result(result: TrainResult, version: Version | None = None) -> None:
    """The result for people, on standard output."""
    looked = f", for {result.looks} models by now: the interval is widened" if result.looks > 1 else ""
    leaks = sum(finding["severity"] == "leak" for finding in result.findings)
    cut = ", ended by its ceiling" if result.cut else ""
    spent, peak = format_duration(result.seconds), format_size(result.peak_memory_bytes)
    retrained = [finding["text"] for finding in result.findings if finding["code"] == "retrained"]
    lines = [
        *(f"since  {text}" for text in retrained),
        f"test {result.metric}  {_scored(result.score)}{looked}",
        f"valid {result.metric}  {result.valid_score:.5g}, out of fold",
        f"trials  {result.trials} in {spent}{cut}, peak memory {peak}",
        *([f"answers  {what_answers(result.ensemble)}"] if result.ensemble else []),
        f"package  {result.package}  ({result.package_hash[:16]})",
        f"report  {result.report}",
    ]
    if leaks:
        lines.append(f"leaks  {leaks}: see the report before you trust the score")
    lines.append(f"next  shardwise predict {result.package} DATA --out predictions.parquet")
    if version is not None:
        lines.append(f"version  {version.reference}, to promote with: shardwise models promote {version.reference}")
    print("\n".join(lines))


def _scored(score: Mapping[str, float | None]) -> str:
    """A score with its interval; few rows may leave either undefined."""
    value, low, high = (score.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "not defined on the sealed rows" if score else "not measured"
    ends = "no interval: too few rows" if low is None or high is None else f"95 % interval {low:.5g} to {high:.5g}"
    return f"{value:.5g} ({ends}), on sealed rows"

"""shardwise tune DATA... --target COL"""

import json
import sys
from pathlib import Path
from typing import Any

import click

from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.last_resort import LastResort
from shardwise.cli.options import data_or_config, json_option, reading_options
from shardwise.cli.run_options import make_config, run_options
from shardwise.cli.train import print_result
from shardwise.compute.clock import process_age_s
from shardwise.core.errors import ConfigError
from shardwise.core.events import Events
from shardwise.history import History, read_history
from shardwise.report.terminal import make_progress
from shardwise.report.trials import render_history
from shardwise.store.files import write_atomic
from shardwise.tune.archive import of_runs
from shardwise.tuning import tuned
from shardwise.workflow import train


@click.command("tune")
@data_or_config
@click.option(
    "--sampler", help="rl (default), random, grid, sobol, tpe, gp, cma, meta or pbt: what proposes candidates."
)
@click.option("--pruner", help="none, asha, hyperband, median or curve: which trials are given up early.")
@click.option(
    "--rungs",
    help="rounds or partitions: on what trials are compared before most are given up. Rounds unless given, as they "
    "cost less; partitions pay where a ninth of the rows tells candidates apart, and rounds on all rows take long.",
)
@click.option(
    "--space",
    multiple=True,
    metavar="FAMILY.NAME=RANGE",
    help="What is searched: 'trees.num_leaves=[16, 64]', from and to, or of a choice the values; of a param that is "
    "not searched by itself '{low: 3, high: 12}' or '{values: [3, 12]}'.",
)
@click.option("--per-second", is_flag=True, default=None, help="Weigh improvement against what it costs.")
@click.option("--archive", help="Earlier trials for --sampler meta: auto, shipped, none or a file.")
@click.option("--history", is_flag=True, help="Show the trials of a run (--run NAME, else the newest), and end.")
@click.option("--export", metavar="FILE", help="Write the trials of all runs as an archive, and end.")
@run_options
@reading_options
@json_option
def command(as_json: bool, config_file: str | None, history: bool, export: str | None, **given: Any) -> int:
    """Search for the best candidate on DATA, and seal it as train does.

    The default candidates come first, then what the sampler proposes. The same command goes on after a crash;
    --time +10m or more --trials extend a run that is finished.
    """
    folder = Path(given["runs_folder"] or "runs")
    if history:
        return _show(read_history(folder, given["run"]), as_json=as_json)
    if export is not None:
        return _export(folder, Path(export), as_json=as_json)
    config = make_config(config_file, given, tuned)
    progress = make_progress(sys.stderr)
    with progress, LastResort(config.out, as_json=as_json) as last_resort, chatter_to_stderr():
        result = train(config, Events([progress, last_resort]), spent_s=process_age_s())
    if as_json:
        print_json(result.to_json())
        return 0
    print_result(result)
    print(f"history  shardwise tune --history --run {result.run}")
    return 0


def _show(found: History, *, as_json: bool) -> int:
    if as_json:
        print_json(found.to_json())
        return 0
    print("\n".join(render_history(found.run, found.metric, found.trials)))
    return 0


def _export(folder: Path, path: Path, *, as_json: bool) -> int:
    """An archive of all runs below a folder, to be given to others: params and losses, and no data."""
    archive, refused = of_runs(folder, most=None)
    for reason in refused:
        print(f"left out: {reason}", file=sys.stderr)
    if not archive.tasks:
        raise ConfigError(f"no run below {folder} has trials", hint="Give another --runs-folder.")
    write_atomic(path, json.dumps(archive.to_json(), sort_keys=True).encode())
    told = {"path": str(path), "tasks": len(archive.tasks), "trials": sum(len(task.trials) for task in archive.tasks)}
    if as_json:
        print_json(told)
    else:
        print(f"{path}: {told['trials']} trials of {told['tasks']} tasks")
    return 0

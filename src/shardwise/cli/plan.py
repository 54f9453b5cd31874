"""shardwise plan DATA... --target COL"""

from pathlib import Path
from typing import Any

import click

from shardwise.api import plan_config, prediction_accuracy
from shardwise.cli import print_json
from shardwise.cli.options import json_option, reading_options
from shardwise.cli.train import make_config
from shardwise.core.units import format_duration, format_size
from shardwise.plan.answer import render, table


@click.command("plan")
@click.argument("data", nargs=-1, metavar="DATA...")
@click.option("--target", help="The column to predict.")
@click.option("--time", "time", help="Ceiling on working time, like 5m.")
@click.option("--memory", help="Ceiling on memory, like 2GB; else that of the machine or the container.")
@click.option("--disk", help="Ceiling on what the run's folder takes, like 20GB.")
@click.option("--trials", type=int, help="Number of candidates.")
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--seed", type=int, help="Root of all seeds; 0 unless given.")
@click.option("--runs-folder", help="Where runs lie, from which a plan learns; runs/ unless given.")
@click.option("--config", "config_file", help="YAML file with options; those given here win.")
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
@click.option("--families", multiple=True, help="Model families to try: baseline, linear, trees.")
@click.option("--param", "params", multiple=True, metavar="FAMILY.NAME=VALUE", help="Hold a param of a model family.")
@click.option("--accuracy", is_flag=True, help="Compare what was predicted with what past runs took; needs no DATA.")
@reading_options
@json_option
def command(as_json: bool, config_file: str | None, accuracy: bool, **given: Any) -> int:
    """Say whether training on DATA fits, how long it takes, and how much memory and disk; nothing is trained.

    A few seconds of calibration on a slice of the data. Give the options that you will give to train. Exit code 1 when
    it does not fit.
    """
    if accuracy:
        return _accuracy(given["runs_folder"] or "runs", as_json=as_json)
    found = plan_config(make_config(config_file, given))
    if as_json:
        print_json(found.to_json())
    else:
        print(render(found))
    return 0 if found.fits else 1


def _accuracy(folder: str, *, as_json: bool) -> int:
    found = prediction_accuracy(folder)
    if as_json:
        print_json(found)
        return 0
    rows = [("run", "rows", "time", "predicted", "ratio", "memory", "predicted", "ratio")]
    for run in found["runs"]:
        time_s, memory = run["time_s"], run["memory_bytes"]
        rows.append((
            run["run"], f"{run['rows']:,}", format_duration(time_s["actual"]), format_duration(time_s["predicted"]),
            f"{time_s['ratio']:.2f}", format_size(memory["actual"]), format_size(memory["predicted"]),
            f"{memory['ratio']:.2f}",
        ))  # fmt: skip
    print("\n".join([*table(rows), *_summaries(found), *(f"left out: {reason}" for reason in found["refused"])]))
    return 0


def _summaries(found: dict[str, Any]) -> list[str]:
    if not found["runs"]:
        return [f"no run with a prediction was finished in {Path(found['folder'])}: train one, or name --runs-folder"]
    return [
        f"{name}: median ratio {found[key]['median']:.2f}, within 20 % {found[key]['within']:.0%}, "
        f"predicted too little in {found[key]['under']} of {found[key]['runs']}"
        for name, key in (("time", "time_s"), ("memory", "memory_bytes"))
    ]

"""shardwise plan DATA... --target COL"""

from copy import copy
from pathlib import Path
from typing import Any

import click

from shardwise.api import plan_config, prediction_accuracy
from shardwise.cli import print_json
from shardwise.cli.run_options import make_config
from shardwise.cli.train import command as train_command
from shardwise.core.units import format_duration, format_size
from shardwise.plan.answer import render, table

NOT_ASKED = ("out", "run", "strict", "name", "registry")  # options of train on which no plan depends


def plan(as_json: bool, config_file: str | None, accuracy: bool, **given: Any) -> int:
    """Say whether training on DATA fits, how long it takes, and how much memory and disk; nothing is trained.

    A few seconds of calibration on a slice of the data. Give the options that you will give to train. Exit code 1 when
    it does not fit.
    """
    if accuracy:
        return _accuracy(given["runs_folder"] or "runs", as_json=as_json)
    found = plan_config(make_config(config_file, {key: value for key, value in given.items() if key not in NOT_ASKED}))
    if as_json:
        print_json(found.to_json())
    else:
        print(render(found))
    return 0 if found.fits else 1


def _params() -> list[click.Parameter]:
    """Those of train, so that what is planned is what will be run, and --accuracy, with which no DATA is needed. Those
    on which no plan depends are taken and not shown."""
    taken = [copy(param) for param in train_command.params]
    for param in taken:
        if isinstance(param, click.Option) and param.name in NOT_ASKED:
            param.hidden = True
    help_text = "Compare what was predicted with what past runs took; needs no DATA."
    return [*taken, click.Option(["--accuracy"], is_flag=True, help=help_text)]


command = click.Command("plan", callback=plan, params=_params(), help=plan.__doc__)


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

"""shardwise profile DATA..."""

import sys
from typing import Any

import click
from rich.console import Console

from shardwise.api import health, profile
from shardwise.cli import print_json
from shardwise.cli.options import data_argument, json_option, read_options, reading_options, words
from shardwise.core.errors import TargetError
from shardwise.core.names import nearest_column
from shardwise.data.health_view import render_health
from shardwise.data.profile_view import render_profile

WIDTH = 160  # characters, where no terminal tells its own


@click.command("profile")
@data_argument
@click.option("--target", help="Also show how each column relates to this one.")
@click.option("--workers", type=int, help="Worker processes, 1 unless given; for --partitions all cores unless given.")
@click.option("--partitions", is_flag=True, help="Judge the partitions for --workers: skew, hot keys, stragglers.")
@click.option("--key", multiple=True, metavar="COL,...", help="For --partitions: where to look for hot keys.")
@reading_options
@json_option
def command(
    *, data: tuple[str, ...], target: str | None, workers: int | None, partitions: bool, key: tuple[str, ...],
    as_json: bool, **reading: Any,
) -> int:  # fmt: skip
    """Describe DATA in one pass: types, nulls, ranges, quantiles, distinct and frequent values, duplicates."""
    if partitions:
        judged = health(data, key=words(key), workers=workers, options=read_options(reading))
        print_json(judged.to_json()) if as_json else print("\n".join(render_health(judged)))
        return 0
    found = profile(data, options=read_options(reading), workers=workers or 1)
    if target is not None and target not in found.columns:
        raise TargetError(f"the data has no column {target!r}", hint=nearest_column(target, found.columns))
    if as_json:
        print_json(found.to_json())
    else:
        Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH).print(
            render_profile(found, target=target)
        )
    return 0

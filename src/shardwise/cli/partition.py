"""shardwise partition DATA... OUT --by SPEC"""

import sys
from collections.abc import Mapping
from typing import Any

import click

from shardwise.api import advise_partitions, partition
from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.options import json_option, read_options, reading_options, skip_corrupt_option, words
from shardwise.core.errors import ConfigError
from shardwise.core.units import format_size, parse_duration
from shardwise.data.partition import PartitionResult, rows_of
from shardwise.data.remedies import REMEDY_NAMES
from shardwise.report.terminal import make_progress

HELP = """Write DATA anew as partitions in the folder OUT, in bounded memory.

A SPEC is KIND:COLUMNS:NUMBER. Give --by several times for levels: the first is cut by the second.

\b
  hash:carrier:8            equal keys together, 8 about even partitions
  hash:carrier,origin:8     several keys
  range:departure:16        16 even ranges of a date, a number or a string
  range:distance:at=500,1000,2000    ranges with given bounds
  value:carrier             a partition for each value
  year: month: day: hour:   for each period of a date, such as month:departure
  rows:100000  bytes:64MB   stretches of so many rows, or stored bytes
  roundrobin:8  random:8    in turn; drawn by --seed
  similar:distance,carrier:16   clusters of alike rows (similar:*:16: by all columns)
  minhash:description:16    texts that share most of their words
  balanced:carrier:8        whole keys, packed so that all 8 have as many rows
  balanced:8:cost=seconds   as much of a cost for each (also with a key)
  balanced:speeds=2,1,1     by the speeds of three workers

Without a NUMBER there are as many partitions as --count says, or such that each has about 64 MB. Null keys: with hash,
where their hash falls; with range and value, last (in several partitions, where they would fill a range). A column with
: or , in its name is written in double quotes.

\b
Examples:
  shardwise partition flights/*.parquet out --by month:departure --by hash:carrier:8
  shardwise partition new.parquet out --append
  shardwise partition out --compact
  shardwise partition out --remedy salt
  shardwise partition flights/ --advise --memory 4GB --workers 8
  shardwise partition steps.parquet windows --window 'x,y,z by recording over 128 step 64 of t'
"""


@click.command("partition", help=HELP)
@click.argument("places", nargs=-1, required=True, metavar="DATA... OUT")
@click.option("--by", multiple=True, metavar="SPEC", help="How to partition: see above.")
@click.option("--window", metavar="LINE", help="Stretches of rows become rows: 'x,y by id over 128 step 64 of t'.")
@click.option("--count", type=int, help="Partitions where a SPEC names no number.")
@click.option("--append", is_flag=True, help="Add the rows of DATA to the dataset OUT, by its own scheme.")
@click.option("--overwrite", is_flag=True, help="Replace the dataset OUT, in one step.")
@click.option("--compact", is_flag=True, help="Write one file for each partition of the dataset DATA, in its place.")
@click.option("--remedy", metavar="NAME", help=f"{', '.join(REMEDY_NAMES)}: in the place of DATA, or into OUT.")
@click.option("--key", multiple=True, metavar="COL,...", help="Hot keys' columns for --remedy; else the scheme's.")
@click.option("--advise", is_flag=True, help="Only say how many partitions of which size.")
@click.option("--memory", help="Ceiling on memory, like 1GB.")
@click.option("--workers", type=int, help="Threads, or the engine's workers; for --advise, who will read.")
@click.option("--passes", type=int, default=3, show_default=True, help="For --advise: how often the data is read.")
@click.option("--columns", multiple=True, metavar="COL,...", help="For --advise: columns that are read.")
@click.option("--engine", default="local", show_default=True, help="local, ray, spark or dask: what shuffles the rows.")
@click.option("--address", help="Where the engine's cluster listens; else its own default, else it runs here.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of hash, random, similar and minhash.")
@click.option("--compression", default="zstd", show_default=True, help="zstd, snappy, lz4, gzip or none.")
@skip_corrupt_option
@click.option("--wait", metavar="TIME", help="Wait so long for another process that writes OUT, like 10m.")
@reading_options
@json_option
def command(*, places: tuple[str, ...], advise: bool, as_json: bool, **given: Any) -> int:
    reading = read_options(given)
    if advise:
        return _advise(places, reading, given, as_json=as_json)
    data, out = _split(places, given)
    names = ("append", "overwrite", "compact", "remedy", "count", "memory", "seed", "compression", "engine", "address")
    with make_progress(sys.stderr) as progress, chatter_to_stderr():
        result = partition(
            data, out, tuple(given["by"]), key=words(given["key"]), options=reading, listen=progress,
            window=given["window"], wait_s=parse_duration(given["wait"]) if given["wait"] else 0.0,
            **{"threads" if given["engine"] == "local" else "workers": given["workers"]},
            **{name: given[name] for name in names}, skip_corrupt=bool(given["skip_corrupt"]),
        )  # fmt: skip
    if as_json:
        print_json(result.to_json())
    else:
        print("\n".join(_lines(result)))
    return 0


def _advise(places: tuple[str, ...], reading: Any, given: Mapping[str, Any], *, as_json: bool) -> int:
    advice = advise_partitions(
        list(places), memory=given["memory"], workers=given["workers"], passes=given["passes"],
        engine=given["engine"], columns=words(given["columns"]), options=reading,
    )  # fmt: skip
    if as_json:
        print_json(advice.to_json())
    else:
        print(advice.sentence)
    return 0


def _split(places: tuple[str, ...], given: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """What is read, and where it is written: the last place, unless a dataset is changed where it is."""
    modes = [name for name in ("append", "compact", "remedy", "window") if given[name]]
    if len(modes) > 1 or (given["by"] and modes and modes[0] not in ("append", "window")):
        both = f"--{modes[0]} and --{modes[1] if len(modes) > 1 else 'by'}"
        raise ConfigError(f"{both} cannot be given together", hint="Do one after the other.")
    if given["compact"] or (given["remedy"] and len(places) == 1):
        if len(places) > 1:
            raise ConfigError("--compact takes one dataset", hint="Write shardwise partition DATASET --compact.")
        return list(places), None
    if len(places) < 2:
        raise ConfigError(f"only one place is given, {places[0]!r}", hint="Give the data, then the folder to write: "
                          "shardwise partition DATA OUT --by hash:COLUMN:8.")  # fmt: skip
    return list(places[:-1]), places[-1]


def _lines(result: PartitionResult) -> list[str]:
    manifest = result.manifest
    rows = rows_of(manifest)
    filled = [count for count in rows if count]
    head = (
        f"{manifest.rows:,} rows in {len(filled):,} of {manifest.count:,} partitions "
        f"({len(manifest.files):,} files, {format_size(manifest.size_bytes)}) by {' / '.join(manifest.by)}"
        f"{''.join(f' + {note}' for note in manifest.notes)}: "
        f"{result.folder}"
    )
    even = f"rows of a partition: {min(filled):,} to {max(filled):,}, mean {sum(filled) / len(filled):,.0f}"
    spilled = [f"{format_size(result.spilled_bytes)} were spilled to disk"] if result.spilled_bytes else []
    lost = [f"{result.lost_rows:,} rows were lost"] if result.lost_rows else []
    return [head, even, *spilled, *lost]

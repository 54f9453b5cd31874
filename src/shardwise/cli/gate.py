"""shardwise gate CHALLENGER --against CHAMPION --data NEW"""

from pathlib import Path
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import json_option, read_options, reading_options, registry_option, words
from shardwise.core.config import load_config
from shardwise.core.errors import context
from shardwise.data.dataset import open_dataset
from shardwise.deploy.gate import Named, gate, read_gate
from shardwise.deploy.settings import REQUIRED
from shardwise.registry.references import open_package
from shardwise.serve.predictor import Predictor
from shardwise.store.files import write_atomic


@click.command("gate")
@click.argument("challenger")
@click.option("--against", "champion", required=True, metavar="CHAMPION", help="The package in use now.")
@click.option("--data", multiple=True, required=True, metavar="NEW", help="Labelled data that neither was trained on.")
@click.option("--config", "config_file", metavar="FILE", help="YAML: these options by name, and behavioural `tests`.")
@click.option("--metric", help="By which they are compared; else the default one of the task.")
@click.option("--require", type=click.Choice(REQUIRED), help="What must be shown; else not-worse.")
@click.option("--margin", help="How much worse is not worse: 0.001, or 1% of the champion's value (the default).")
@click.option("--level", type=float, help="Of intervals; else 0.95.")
@click.option("--slices", multiple=True, metavar="COL,...", help="Columns by whose values to compare as well.")
@click.option("--slice-margin", help="How much worse a slice may be; else 5%.")
@click.option("--group", help="Column whose equal values belong together, such as a customer.")
@click.option("--weight", help="Column of sample weights.")
@click.option("--calibration-margin", type=float, help="Growth of the calibration error; else 0.02.")
@click.option("--latency-ratio", type=float, help="Challenger over champion, at most; else 1.5.")
@click.option("--size-ratio", type=float, help="The same for bytes on disk; else 3.")
@click.option("--memory-ratio", type=float, help="The same for memory; else 2.")
@click.option("--costs/--no-costs", default=None, help="Measure latency, size and memory; else yes.")
@click.option("--new-columns", is_flag=True, default=None, help="The challenger may read further columns.")
@click.option("--strict", is_flag=True, default=None, help="Warnings stop as well.")
@click.option("--seed", type=int, help="Of resampling; else 0.")
@click.option("--junit", metavar="FILE", help="Write the checks as JUnit XML.")
@click.option("--out", metavar="FILE", help="Write the verdict as JSON.")
@registry_option
@reading_options
@json_option
def command(
    *, challenger: str, champion: str, data: tuple[str, ...], config_file: str | None, junit: str | None,
    out: str | None, registry: str | None, as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """May CHALLENGER take the place of CHAMPION? Both are folders, NAME@3 or NAME@alias.

    Exit code 0: yes; 1: no; 2: bad input. Compared on the same rows: the metric, slices, calibration, behavioural
    tests, schema, latency, size, memory, drift.
    """
    options = read_options(given)
    asked = {name: value for name, value in given.items() if value is not None and value != ()}
    if "slices" in asked:
        asked["slices"] = words(asked["slices"])
    content = load_config(config_file) if config_file else {}
    with context(**({"path": config_file} if config_file else {})):
        config, tests = read_gate({str(key).replace("-", "_"): value for key, value in content.items()} | asked)
    new, old = (Named(name, Predictor(open_package(name, registry))) for name in (challenger, champion))
    verdict = gate(new, old, open_dataset(data, options=options), config, tests=tests)
    if junit:
        write_atomic(Path(junit), verdict.junit())
    if out:
        write_atomic(Path(out), verdict.to_bytes())
    if as_json:
        print_json(verdict.to_json())
    else:
        print("\n".join(verdict.lines()))
    return 0 if verdict.passed else 1

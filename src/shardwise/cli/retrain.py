"""shardwise retrain RUN_OR_PACKAGE --data OLD --data NEW"""

import sys
from typing import Any

import click

from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.last_resort import LastResort
from shardwise.cli.options import json_option, registry_option
from shardwise.cli.run_options import budget_options
from shardwise.cli.train import print_result
from shardwise.compute.clock import process_age_s
from shardwise.core.events import Events
from shardwise.registry.references import open_registry
from shardwise.registry.versions import check_name
from shardwise.report.terminal import make_progress
from shardwise.retraining import retrain_config
from shardwise.workflow import train


@click.command("retrain")
@click.argument("source", metavar="RUN|PACKAGE")
@click.option("--data", multiple=True, metavar="SOURCE", help="All data, old and new; else the run's own sources.")
@click.option("--refit", is_flag=True, default=None, help="Plan the features anew, also where no column has changed.")
@budget_options
@click.option("--register", "name", metavar="NAME", help="Make the package a version of NAME in the registry.")
@registry_option
@json_option
def command(
    *, source: str, data: tuple[str, ...], name: str | None, registry: str | None, as_json: bool, **given: Any
) -> int:
    """Train again as a run did (its name or folder, its package, or NAME@3), on old and new partitions together.

    Starts from the run's best candidates. What it counted of unchanged partitions is taken over; where the new rows are
    like the old ones its features and bins are kept, and only new partitions are read. The package tells its parent.
    """
    if name is not None:
        check_name(name)
    config = retrain_config(source, data, given, registry=registry)
    progress = make_progress(sys.stderr)
    with progress, LastResort(config.out, as_json=as_json) as last_resort, chatter_to_stderr():
        result = train(config, Events([progress, last_resort]), spent_s=process_age_s())
    version = None if name is None else open_registry(registry).register(name, result.package)
    if as_json:
        print_json({**result.to_json(), **({} if version is None else {"version": version.reference})})
        return 0
    told = next((finding["text"] for finding in result.findings if finding["code"] == "retrained"), "")
    print(f"since  {told}")
    print_result(result, version)
    return 0

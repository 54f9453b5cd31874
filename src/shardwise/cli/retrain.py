"""shardwise retrain RUN_OR_PACKAGE --data OLD --data NEW"""

from typing import Any

import click

from shardwise.cli.options import json_option, registry_option
from shardwise.cli.run_options import budget_options
from shardwise.cli.train import check_version_name, train_and_tell
from shardwise.retraining import retrain_config


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
    check_version_name(name)
    config = retrain_config(source, data, given, registry=registry)
    return train_and_tell(config, name=name, registry=registry, as_json=as_json)

"""Options that several verbs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from shardwise.core.errors import ConfigError
from shardwise.data.dataset import ReadOptions

Command = TypeVar("Command", bound=Callable[..., Any])

data_argument = click.argument("data", nargs=-1, required=True, metavar="DATA...")
data_or_config = click.argument("data", nargs=-1, metavar="[DATA]...")  # a --config file may name them
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")

registry_option = click.option(
    "--registry", metavar="FOLDER|URL", help="The registry; else SHARDWISE_REGISTRY, else ./registry."
)


skip_corrupt_option = click.option(
    "--skip-corrupt", is_flag=True, default=None, help="Go on without what cannot be read, and count it."
)


def reading_options(command: Command) -> Command:
    """--format, --encoding, --delimiter, --on-bad-row and --storage."""
    for option in reversed(
        (
            click.option("--format", "format", help="parquet, csv, jsonl or arrow; else told by name and content."),
            click.option("--encoding", help="Encoding of text files; utf8 unless given."),
            click.option("--delimiter", help="Delimiter of CSV files; else found out."),
            click.option("--on-bad-row", help="error, or skip (and count); error unless given."),
            click.option("--storage", multiple=True, metavar="KEY=VALUE", help="Option of the object store."),
        )
    ):
        command = option(command)
    return command


def read_options(given: dict[str, Any]) -> ReadOptions:
    """Take the reading options out of `given`."""
    names = ("format", "encoding", "delimiter", "on_bad_row")
    asked = {name: value for name in names if (value := given.pop(name)) is not None}
    return ReadOptions(**asked, storage=pairs(given.pop("storage"), "storage"))


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """`KEY=VALUE` words as a mapping.

    >>> pairs(("anon=true",), "storage")
    {'anon': 'true'}
    """
    found = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--{option} {word!r} is not KEY=VALUE", hint=f"Write it like --{option} name=value.")
        found[key] = value
    return found


def words(given: tuple[str, ...]) -> tuple[str, ...]:
    """Comma-separated words, given once or several times.

    >>> words(("a,b", "c"))
    ('a', 'b', 'c')
    """
    return tuple(word.strip() for part in given for word in part.split(",") if word.strip())

"""shardwise models list|show|register|diff|promote|rollback|delete|mirror"""

import functools
import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.options import json_option, pairs, registry_option, words
from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.units import format_size
from shardwise.registry.references import open_registry
from shardwise.registry.registry import Registry
from shardwise.registry.versions import CHAMPION, Version

Verb = TypeVar("Verb", bound=Callable[..., Any])
Row = Sequence[str]
_ELLIPSIS = 60  # characters of a value in a table
_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}  # fmt: skip


class _Verbs(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            raise click.UsageError(f"there is no verb models {args[0]!r}. {nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group("models", cls=_Verbs)
def command() -> None:
    """Names, versions and aliases of packages.

    A REF is NAME@3, NAME@champion, or NAME alone for its champion. Any number of processes may write at once.
    """


def _on_registry(verb: Verb) -> Any:
    """Gives the registry as the first argument; prints what the verb returns: `(JSON content, lines)`."""

    @registry_option
    @click.option("--storage", multiple=True, metavar="KEY=VALUE", help="Option of the object store.")
    @json_option
    @functools.wraps(verb)
    def run(*, registry: str | None, storage: tuple[str, ...], as_json: bool, **given: Any) -> int:
        content, lines = verb(open_registry(registry, pairs(storage, "storage")), **given)
        if as_json:
            print_json(content)
        else:
            print("\n".join(lines))
        return 0

    return run


@command.command("list")
@click.argument("name", required=False)
@_on_registry
def list_models(registry: Registry, name: str | None) -> Any:
    """All names, or the versions of NAME."""
    if name is not None:
        return _list_versions(registry, name)
    states = {model: registry.state(model) for model in registry.names()}
    content = {
        "registry": registry.place,
        "models": [
            {"name": model, "versions": sorted(state.versions), "aliases": dict(state.aliases)}
            for model, state in states.items()
        ],
    }
    rows = [
        [model, str(len(state.versions)), str(max(state.versions)), _aliases(state.aliases)]
        for model, state in states.items()
    ]
    empty = [f"no models in {registry.place}; add a package: shardwise models register NAME PACKAGE"]
    return content, _table(["name", "versions", "latest", "aliases"], rows) if rows else empty


@command.command("show")
@click.argument("reference", metavar="REF")
@_on_registry
def show(registry: Registry, reference: str) -> Any:
    """One version: scores, lineage, note, tags, and what happened to its name."""
    version = registry.version(reference)
    aliases = registry.state(version.name).aliases_of(version.number)
    history = registry.history(version.name)
    content = {**version.to_json(), "aliases": aliases, "history": history}
    facts = {
        "version": version.reference, "aliases": ", ".join(aliases) or "none", "task": version.task,
        "target": version.target, "models": ", ".join(version.families), "size": format_size(version.size_bytes),
        "created": version.created, "hash": version.hash, "note": version.note or "none",
        "tags": ", ".join(f"{key}={text}" for key, text in version.tags.items()) or "none",
        **{f"{key} of lineage": _short(text) for key, text in version.lineage.items()},
    }  # fmt: skip
    facts |= {name: _score(part) for name, part in _scores(version.metrics).items()}
    happened = [[entry["time"], entry["by"], _told(entry["event"])] for entry in history]
    lines = [
        *_table(None, [[key, text] for key, text in facts.items()]),
        "",
        *_table(["when", "who", "what"], happened),
    ]
    return content, lines


@command.command("register")
@click.argument("name")
@click.argument("package")
@click.option("--alias", "aliases", multiple=True, metavar="NAME,...", help="Aliases that point at it, in one step.")
@click.option("--note", default="", help="What people should know of it.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag.")
@click.option("--parent", help="The version that it was made from.")
@click.option("--code", help="Version of the code that made it; else that of shardwise.")
@_on_registry
def register(registry: Registry, name: str, package: str, *, aliases: tuple[str, ...], tags: tuple[str, ...],
             **more: Any) -> Any:  # fmt: skip
    """Make PACKAGE the next version of NAME. The same package stays the version that it is."""
    version = registry.register(name, package, aliases=words(aliases), tags=pairs(tags, "tag"), **more)
    return version.to_json(), [version.reference]


@command.command("diff")
@click.argument("before", metavar="REF")
@click.argument("after", metavar="REF")
@_on_registry
def diff(registry: Registry, before: str, after: str) -> Any:
    """What differs between two versions: columns, features, params, metrics, data, config."""
    told = registry.diff(before, after)
    return told, _difference(told)


@command.command("promote")
@click.argument("reference", metavar="REF")
@click.option("--to", "alias", default=CHAMPION, show_default=True, help="The alias.")
@click.option("--expect", type=int, help="The version that it must point at now (0: none).")
@_on_registry
def promote(registry: Registry, reference: str, alias: str, expect: int | None) -> Any:
    """Point an alias at a version; NAME alone means its challenger. The champion before becomes previous."""
    version = registry.promote(reference, alias, expect=expect)
    return _pointing(registry, version), [f"{version.name}@{alias} is version {version.number}"]


@command.command("rollback")
@click.argument("name")
@_on_registry
def rollback(registry: Registry, name: str) -> Any:
    """Make the previous champion of NAME its champion again."""
    version = registry.rollback(name)
    return _pointing(registry, version), [f"{name}@{CHAMPION} is version {version.number} again"]


@command.command("delete")
@click.argument("reference", metavar="NAME@VERSION | NAME")
@click.option("--alias", help="Remove this alias of NAME, and no version.")
@_on_registry
def delete(registry: Registry, reference: str, alias: str | None) -> Any:
    """Delete a version that no alias points at, with its files; or an alias."""
    if alias is not None:
        registry.remove_alias(reference, alias)
        return {"name": reference, "removed": alias}, [f"{reference}@{alias} is no alias any more"]
    if "@" not in reference:
        raise ConfigError(f"{reference!r} names no version", hint=f"Write it like {reference}@3.")
    version = registry.delete(reference)
    return {"deleted": version.reference}, [f"{version.reference} is deleted"]


@command.command("mirror")
@click.argument("reference", metavar="NAME | REF")
@click.option("--to", "uri", required=True, metavar="URI", help="MLflow: http://host:5000, sqlite:////srv/mlflow.db.")
@click.option("--as", "model", metavar="NAME", help="The registered model there; else the same name.")
@click.option("--experiment", help="That holds the files' runs; else shardwise/NAME.")
@click.option("--artifacts", metavar="URI", help="Where a new experiment keeps files; else as MLflow has it.")
@click.option("--prune", is_flag=True, help="Delete there what was deleted here.")
@_on_registry
def mirror(registry: Registry, reference: str, **where: Any) -> Any:
    """Bring all versions of NAME, or that of a REF, to MLflow's registry, with aliases, tags, note and scores.

    This registry stays the truth. The same command again brings what is new or has changed; what others have put there
    stays. Load one with mlflow.pyfunc.load_model("models:/NAME@champion"), where shardwise is installed.
    """
    for setting, value in _MLFLOW.items():
        os.environ.setdefault(setting, value)
    try:
        module = importlib.import_module("shardwise.deploy.mlflow_mirror")
    except ModuleNotFoundError as error:
        what = f"a mirror needs a library that is not installed ({error})"
        raise ConfigError(what, hint="Run: pip install 'shardwise[mlflow]'.") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with chatter_to_stderr():
        done = module.mirror(registry, reference, module.MirrorConfig(uri=where.pop("uri"), **where))
    return done.to_json(), _mirrored(done)


# -- how it is shown -------------------------------------------------------------------------------------------------


def _list_versions(registry: Registry, name: str) -> Any:
    state = registry.state(name)
    found = registry.versions(name)
    content = {
        "name": name, "aliases": dict(state.aliases),
        "versions": [{**version.to_json(), "aliases": state.aliases_of(version.number)} for version in found],
    }  # fmt: skip
    rows = [
        [str(version.number), ", ".join(state.aliases_of(version.number)), version.created[:19], version.task,
         _first_score(version), format_size(version.size_bytes), version.note]
        for version in found
    ]  # fmt: skip
    return content, _table(["version", "aliases", "created", "task", "score", "size", "note"], rows)


def _mirrored(done: Any) -> list[str]:
    """`done` is a `deploy.mlflow_mirror.Mirrored`."""
    rows = [[f"{done.name}@{number}", f"{done.model} version {place}",
             "new" if number in done.added else "changed" if number in done.changed else "as it was",
             ", ".join(sorted(alias for alias, target in done.aliases.items() if target == place))]
            for number, place in sorted(done.versions.items())]  # fmt: skip
    gone = [f"{done.name}@{number} was deleted here; version {place} there "
            + ("is deleted now" if done.pruned else "stays: --prune deletes it")
            for number, place in sorted(done.gone.items())]  # fmt: skip
    foreign = [f"version {place} there is none of these, and was left as it is" for place in done.foreign]
    return [
        *_table(["here", "there", "", "aliases"], rows),
        *gone,
        *foreign,
        *(f"not there: {w}" for w in done.left_out),
    ]


def _pointing(registry: Registry, version: Version) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "aliases": registry.aliases(version.name)}


def _difference(told: Mapping[str, Any]) -> list[str]:
    rows = [[f"{kind} {change}", name, "", ""]
            for kind in ("columns", "features") for change in ("added", "removed")
            for name in told[kind][change]]  # fmt: skip
    parts = {kind: told[kind]["changed"] for kind in ("columns", "features")}
    parts |= {kind: told[kind] for kind in ("target", "models", "params", "lineage", "libraries")}
    rows += [[kind, name, _short(pair["before"]), _short(pair["after"])]
             for kind, pairs_ in parts.items() for name, pair in pairs_.items()]  # fmt: skip
    rows += [["metric", name, _number(step["before"]), f"{_number(step['after'])}{_change(step['change'])}"]
             for name, step in told["metrics"].items()]  # fmt: skip
    same = ["the same package"] if told["same"] else []
    return [*same, *_table(["what", "name", told["before"], told["after"]], rows)]


def _change(change: float | None) -> str:
    return "" if not change else f" ({change:+.3g})"


def _scores(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, part in metrics.items():
        if isinstance(part, Mapping):
            found |= {prefix + name: part} if "value" in part else _scores(part, f"{prefix}{name} ")
    return found


def _first_score(version: Version) -> str:
    scores = _scores(version.metrics.get("test", {})) or _scores(version.metrics)
    return next((f"{name} {_number(part['value'])}" for name, part in scores.items()), "")


def _score(part: Mapping[str, Any]) -> str:
    if part.get("low") is None or part.get("high") is None:
        return _number(part["value"])
    return f"{_number(part['value'])} ({_number(part['low'])} to {_number(part['high'])})"


def _told(event: Mapping[str, Any]) -> str:
    number = event["version"]["number"] if "version" in event else event.get("number", "")
    alias = event.get("alias") or ", ".join(event.get("aliases", ()))
    return " ".join(filter(None, [event["kind"].replace("_", " "), str(number), f"as {alias}" if alias else ""]))


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.5g}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _ELLIPSIS else f"{text[:_ELLIPSIS]} ..."


def _aliases(aliases: Mapping[str, int]) -> str:
    return ", ".join(f"{alias} {number}" for alias, number in sorted(aliases.items()))


def _table(heads: Row | None, rows: Sequence[Row]) -> list[str]:
    """Lines with aligned columns."""
    lines = [*([heads] if heads else []), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]

"""shardwise rollout start|status|promote|rollback|stop"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import json_option, registry_option, words
from shardwise.core.config import load_config
from shardwise.core.errors import ConfigError, context
from shardwise.core.names import nearest
from shardwise.core.units import parse_duration
from shardwise.monitor.canary import LABELS, PAIRING, RolloutRules, Tally, decide
from shardwise.registry.references import open_registry
from shardwise.registry.rollouts import PROMOTED, ROLLED_BACK, STOPPED, Rollouts, ended_rollouts


class _Verbs(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            raise click.UsageError(f"there is no verb rollout {args[0]!r}. {nearest(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group("rollout", cls=_Verbs)
def command() -> None:
    """Let a version go live step by step, judged by what it does; servers of the name follow.

    Rolled back by itself when it fails more often, is slower or worse than the champion; else promoted at the end.
    """


@command.command("start")
@click.argument("reference", metavar="NAME@VERSION | NAME")
@click.option("--steps", metavar="SHARE,...", help="Shares of the traffic; else 1%,5%,25%, then it is champion.")
@click.option("--shadow", is_flag=True, help="First answer nobody: copies of the traffic, differences counted.")
@click.option("--no-promote", is_flag=True, help="End as passed, without making it the champion.")
@click.option("--margin", metavar="SHARE", help="How much higher the mean loss (0 to 1) may be; else 2%.")
@click.option("--failures", metavar="SHARE", help="How much higher the share of failures may be; else 1%.")
@click.option("--slower", metavar="SHARE", help="By which share it may be slower; else 25%.")
@click.option("--alpha", metavar="SHARE", help="Chance of a false rollback; else 5%.")
@click.option("--least-requests", type=int, help="Of the candidate in each step; else 200.")
@click.option("--least", help="The shortest that a step may take; else 1m.")
@click.option("--labels", type=click.Choice(LABELS), help="Must labels arrive? Else auto.")
@click.option("--quality", type=click.Choice(PAIRING), help="How losses are compared; else paired.")
@click.option("--config", "config_file", metavar="FILE", help="YAML with these options by name.")
@registry_option
@json_option
def start(reference: str, *, registry: str | None, as_json: bool, config_file: str | None, **given: Any) -> int:
    """Begin to roll out NAME@VERSION, or the challenger of NAME, against the champion."""
    asked = {name: value for name, value in given.items() if value is not None and value is not False}
    rules = _rules(_read(load_config(config_file) if config_file else {}) | _read(asked))
    rollout = Rollouts(open_registry(registry)).start(reference, rules.to_json())
    if as_json:
        print_json(vars(rollout) | {"rules": rules.to_json()})
    else:
        print(f"{reference.partition('@')[0]}@{rollout.candidate} is tried on {rules.steps[0]:.0%} of the requests")
    return 0


def _read(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Options by name, of the command line or of a file, as `RolloutRules` has them, and `shadow`."""
    told: dict[str, Any] = {}
    for raw, value in given.items():
        name = str(raw).replace("-", "_")
        if name not in _OPTIONS:
            raise ConfigError(f"there is no option {str(raw)!r} of a rollout", hint=nearest(name, _OPTIONS))
        rule, read = _OPTIONS[name]
        if rule in told:
            raise ConfigError(f"{raw} says again what another option has said", hint="Give one of the two.")
        with context(option=str(raw)):
            told[rule] = read(value)
    return told


def _rules(told: Mapping[str, Any]) -> RolloutRules:
    rules = dict(told)
    shadow, steps = rules.pop("shadow", False), rules.pop("steps", RolloutRules().steps)
    return RolloutRules(**rules, steps=(0.0, *steps) if shadow and 0.0 not in steps else steps)


def _share(given: Any) -> float:
    word = str(given).strip()
    try:
        share = float(word.removesuffix("%")) / 100 if word.endswith("%") else float(word)
    except ValueError:
        share = math.nan
    if not math.isfinite(share) or isinstance(given, bool):
        raise ConfigError(f"{given!r} is no share", hint="Write it like 5% or 0.05.")
    return share


def _steps(given: Any) -> tuple[float, ...]:
    return tuple(map(_share, given if isinstance(given, list) else words((str(given),))))


def _seconds(given: Any) -> float:
    return 0.0 if given == 0 and not isinstance(given, bool) else parse_duration(given)


def _whole(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise ConfigError(f"{given!r} is no whole number", hint="Give one of at least 1, such as 200.")
    return given


def _yes(given: Any) -> bool:
    if not isinstance(given, bool):
        raise ConfigError(f"{given!r} is neither true nor false", hint="Give one of them.")
    return given


def _no(given: Any) -> bool:
    return not _yes(given)


def _word(given: Any) -> str:
    if not isinstance(given, str):
        raise ConfigError(f"{given!r} is no word", hint=f"Labels: {', '.join(LABELS)}; quality: {', '.join(PAIRING)}.")
    return given


_OPTIONS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {  # the field of `RolloutRules`, and how a value is read
    "steps": ("steps", _steps), "shadow": ("shadow", _yes), "promote": ("promote", _yes),
    "no_promote": ("promote", _no),
    "margin": ("margin", _share), "failures": ("failures", _share), "slower": ("slower", _share),
    "alpha": ("alpha", _share), "least_requests": ("least_requests", _whole), "least": ("least_s", _seconds),
    "least_s": ("least_s", _seconds), "labels": ("labels", _word), "quality": ("quality", _word),
}  # fmt: skip


@command.command("status")
@click.argument("name")
@registry_option
@json_option
def status(name: str, *, registry: str | None, as_json: bool) -> int:
    """What is rolled out, what was seen so far, and what past rollouts ended with."""
    opened = open_registry(registry)
    rollouts = Rollouts(opened)
    rollout = rollouts.running(name)
    past = ended_rollouts(opened.history(name))
    content: dict[str, Any] = {"name": name, "running": None, "history": past}
    lines = [f"{entry['time'][:19]} {_told(entry['event'])}" for entry in past]
    if rollout is not None:
        rules = RolloutRules.from_json(rollout.rules)
        decision = decide(rules, [_merged(told) for told in rollouts.tallies(name, rollout)])
        content["running"] = {**vars(rollout), "share": rules.steps[rollout.step], "next": vars(decision)}
        lines.append(f"version {rollout.candidate} answers {rules.steps[rollout.step]:.0%} of the requests, in the "
                     f"place of version {rollout.champion}; {decision.action}: {decision.reason}")  # fmt: skip
    if as_json:
        print_json(content)
    else:
        print("\n".join(lines or [f"nothing of {name} was ever rolled out"]))
    return 0


def _merged(told: list[dict[str, Any]]) -> Tally:
    together = Tally()
    for content in told:
        together.merge(Tally.from_json(content))
    return together


def _told(event: Mapping[str, Any]) -> str:
    kind = str(event["kind"]).replace("_", " ")
    if "rollout" in event:
        return f"{kind}: version {event['rollout']['candidate']} against {event['rollout']['champion']}"
    what = event.get("outcome") or f"to step {event['step']}"
    return f"{kind}: {what}, {event['reason']}"


def _ending(verb: str, outcome: str, text: str) -> None:
    @command.command(verb, help=text)
    @click.argument("name")
    @click.option("--reason", default="by hand", help="What is written to the history.")
    @registry_option
    def end(name: str, *, reason: str, registry: str | None) -> int:
        version = Rollouts(open_registry(registry)).override(name, outcome, reason)
        print(f"{name}@champion is version {version.number}")
        return 0


_ending("promote", PROMOTED, "End the rollout now, with the candidate as champion.")
_ending("rollback", ROLLED_BACK, "End the rollout now; the champion answers all again.")
_ending("stop", STOPPED, "The same, without a judgement of the candidate.")

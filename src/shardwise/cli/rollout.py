"""shardwise rollout start|status|promote|rollback|stop"""

from collections.abc import Mapping
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import json_option, registry_option, words
from shardwise.core.config import load_config
from shardwise.core.errors import ConfigError
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
@click.option("--margin", type=float, help="How much higher the mean loss (0 to 1) may be; else 0.02.")
@click.option("--failures", type=float, help="How much higher the share of failures may be; else 0.01.")
@click.option("--slower", type=float, help="By which share it may be slower; else 0.25.")
@click.option("--alpha", type=float, help="Chance of a false rollback; else 0.05.")
@click.option("--least-requests", type=int, help="Of the candidate in each step; else 200.")
@click.option("--least", help="The shortest that a step may take; else 1m.")
@click.option("--labels", type=click.Choice(LABELS), help="Must labels arrive? Else auto.")
@click.option("--quality", type=click.Choice(PAIRING), help="How losses are compared; else paired.")
@click.option("--config", "config_file", metavar="FILE", help="YAML with these options by name.")
@registry_option
@json_option
def start(reference: str, *, registry: str | None, as_json: bool, config_file: str | None, **given: Any) -> int:
    """Begin to roll out NAME@VERSION, or the challenger of NAME, against the champion."""
    content = load_config(config_file) if config_file else {}
    rules = _rules({str(key).replace("-", "_"): value for key, value in content.items()} | _given(given))
    rollout = Rollouts(open_registry(registry)).start(reference, rules.to_json())
    if as_json:
        print_json(vars(rollout) | {"rules": rules.to_json()})
    else:
        print(f"{reference.partition('@')[0]}@{rollout.candidate} is tried on {rules.steps[0]:.0%} of the requests")
    return 0


def _given(given: Mapping[str, Any]) -> dict[str, Any]:
    asked = {name: value for name, value in given.items() if value is not None and value is not False}
    if "least" in asked:
        asked["least_s"] = parse_duration(asked.pop("least"))
    if asked.pop("no_promote", False):
        asked["promote"] = False
    return asked


def _rules(content: dict[str, Any]) -> RolloutRules:
    shadow = content.pop("shadow", False)
    steps = content.pop("steps", None)
    known = RolloutRules().to_json()
    for key in content:
        if key not in known:
            raise ConfigError(f"there is no option {key!r} of a rollout", hint=nearest(key, known))
    shares = (
        RolloutRules().steps
        if steps is None
        else tuple(map(_share, words((steps,)) if isinstance(steps, str) else steps))
    )
    if shadow and 0.0 not in shares:
        shares = (0.0, *shares)
    return RolloutRules(**content, steps=shares)


def _share(text: Any) -> float:
    word = str(text).strip()
    try:
        return float(word.removesuffix("%")) / 100 if word.endswith("%") else float(word)
    except ValueError:
        raise ConfigError(f"{text!r} is no share", hint="Write it like 5% or 0.05.") from None


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

"""Limits on what a package may take, and what is told of those that are not kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shardwise.core.findings import Finding


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit: `option` and `given` as on the command line, `default` where nobody asked for it.

    `most` is allowed, `takes` what the package has, `least` what it has with the smallest of all models that were
    trained, `beside` what it takes without any model, which is its `parts`; all in one unit, of which less is better.
    `show` makes a number of it readable, `enough` a value of the option that allows it.
    """

    option: str
    given: str
    default: bool
    most: float
    takes: float
    least: float
    beside: float
    parts: str
    show: Callable[[float], str]
    enough: Callable[[float], str]

    @property
    def kept(self) -> bool:
        return self.takes <= self.most

    @property
    def name(self) -> str:
        return f"{self.option} {self.given} ({'the default, no other was given' if self.default else 'asked for'})"

    def told(self) -> str:
        """By how much it is missed, and why."""
        text = f"{self.name}: it is about {self.show(self.takes)}, of which {self.show(self.beside)} are {self.parts}"
        smallest = "; the smallest possible with the models of this run is"
        return text + (f"{smallest} {self.show(self.least)}" if self.least < self.takes else f"{smallest} this one")


def not_kept(limits: Sequence[Limit], holds: str) -> Finding | None:
    """What is told of limits that are not kept by what the package `holds`; None where all are."""
    missed = [limit for limit in limits if not limit.kept]
    if not missed:
        return None
    ways = [f"Give {limit.option} {limit.enough(limit.least)}" for limit in missed]
    hopeless = [limit for limit in missed if limit.beside >= limit.most]
    smaller = "or train smaller models: --param trees.n_estimators=200, or --distill"
    if hopeless:
        smaller = "smaller models are no help: use fewer columns (--drop, --select strict)"
    evidence = {
        limit.option.removeprefix("--").replace("-", "_"): {
            "given": limit.given, "default": limit.default, "takes": limit.takes, "allowed": limit.most,
            "least": limit.least, "beside_models": limit.beside,
        }
        for limit in missed
    }  # fmt: skip
    told = "; ".join(limit.told() for limit in missed)
    return Finding(
        code="limits", severity="warning", evidence=evidence,
        text=f"The package has {holds}, and does not keep {told}.", hint=f"{', '.join(ways)}; {smaller}.",
    )  # fmt: skip

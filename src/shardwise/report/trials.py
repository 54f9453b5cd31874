"""The history of a search for people: a line for each trial."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shardwise.core.units import format_duration

WIDTH = 96


def render_history(run: str, metric: str, trials: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of text: each trial as far as it got, `*` where it was the best so far, `<-` whose checkpoints it took, and
    what an archive of earlier runs expected of it.

    `trained` says how far: whole, or for so many rounds or on such a share of the partitions, after which it rests. The
    score of one that rests is not compared with those of whole ones.
    """
    done = [trial for trial in trials if trial["score"] is not None]
    yield f"run {run}: {len(trials)} trials, {len(trials) - len(done)} failed; {metric}, out of fold"
    yield f"{'trial':>5}  {'rung':>4}  {metric[:12]:>12}  {'trained':>14}  {'rounds':>6}  {'took':>7}  candidate"
    for trial in trials:
        score = "failed" if trial["score"] is None else f"{trial['score']:.6g}"
        rung = "-" if trial["rung"] is None else str(trial["rung"])
        took = format_duration(trial["seconds"])
        shown = ", ".join(f"{name}={value}" for name, value in trial["params"].items())
        text = trial["failed"] or textwrap.shorten(f"{trial['family']} {shown}", WIDTH, placeholder=" ...")
        if trial["from"]:
            text += " <- " + ", ".join(f"trial {each['trial']} (rung {each['rung']})" for each in trial["from"])
        if trial["expected"] is not None:
            text += f" (expected among the best {max(trial['expected'], 0.01):.0%})"
        mark = "*" if trial["best_so_far"] else " "
        found = f"{trial['trial']:>5}{mark} {rung:>4}  {score:>12}  {_trained(trial):>14}"
        yield f"{found}  {trial['rounds']:>6}  {took:>7}  {text}"
    best = next((trial for trial in reversed(trials) if trial["best_so_far"]), None)
    if best is not None:
        yield f"best: trial {best['trial']}, {metric} {best['score']:.6g}: {best['family']} {dict(best['params'])}"


def _trained(trial: Mapping[str, Any]) -> str:
    if trial["failed"] or trial["score"] is None:
        return "-"
    if trial["whole"]:
        return "whole"
    return f"{trial['share']:.0%} of parts" if trial["share"] < 1.0 else f"{trial['rounds']} rounds"

"""shardwise evaluate PACKAGE DATA..."""

from pathlib import Path
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import data_argument, json_option, read_options, reading_options, registry_option, words
from shardwise.data.dataset import open_dataset
from shardwise.registry.references import open_package
from shardwise.serve.evaluate import evaluate
from shardwise.serve.predictor import Predictor
from shardwise.stats.intervals import LEAST_UNITS
from shardwise.stats.paired import describe_groups


@click.command("evaluate")
@click.argument("package")
@data_argument
@click.option("--weight", help="Column of sample weights.")
@click.option("--slices", multiple=True, metavar="COL,...", help="Columns by whose values to score as well.")
@click.option("--group", help="Column whose equal values belong together, such as a customer; intervals get wider.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--runs-folder", default="runs", show_default=True, help="Where looks at the same data are counted.")
@registry_option
@reading_options
@json_option
def command(
    *, package: str, data: tuple[str, ...], weight: str | None, slices: tuple[str, ...], group: str | None, seed: int,
    runs_folder: str, registry: str | None, as_json: bool, **reading: Any,
) -> int:  # fmt: skip
    """Score PACKAGE (a folder, NAME@3 or NAME@champion) on labelled DATA.

    Every metric has its 95 % bootstrap interval, also by slices. It is wider the more packages were scored on the same
    data, as far as the runs folder knows.
    """
    dataset = open_dataset(data, options=read_options(reading))
    predictor = Predictor(open_package(package, registry))
    looks = Path(runs_folder)
    result = evaluate(
        predictor, dataset, weight=weight, slices=words(slices), group=group, seed=seed, runs_folder=looks
    )
    if as_json:
        print_json(result)
    else:
        print("\n".join(_lines(result)))
    return 0


def _lines(result: dict[str, Any]) -> list[str]:
    parts = (
        f"{part['column']} = {part['value']} ({part['rows']:,} rows)  "
        f"{_interval(part['score'], part['low'], part['high'])}"
        for part in result.get("slices", ())
    )
    scores = (f"{name}  {_interval(**score)}" for name, score in result["metrics"].items())
    looks = [f"looks  {result['looks']}, for which the intervals are widened"] if result["looks"] > 1 else []
    return [f"{result['rows']:,} rows", *_groups(result["groups"]), *scores, *looks, *parts]


def _groups(groups: dict[str, Any] | None) -> list[str]:
    if groups is None:
        return []
    few = "too few for intervals of losses" if groups["worth"] < LEAST_UNITS else "intervals go by groups"
    return [f"{describe_groups(groups)}; {few}"]


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "not defined here"
    return f"{value:.5g}" if low is None or high is None else f"{value:.5g} (95 % interval {low:.5g} to {high:.5g})"

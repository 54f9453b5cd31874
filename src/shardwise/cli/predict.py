"""shardwise predict PACKAGE DATA... --out FILE"""

import sys
from typing import Any

import click

from shardwise.cli import print_json
from shardwise.cli.options import data_argument, json_option, read_options, reading_options, registry_option, words
from shardwise.data.dataset import open_dataset
from shardwise.registry.references import open_package
from shardwise.serve.batch import PredictOptions, predict_files
from shardwise.serve.predictor import Predictor


@click.command("predict")
@click.argument("package")
@data_argument
@click.option("--out", required=True, help="FILE.parquet, .csv, .csv.gz, .jsonl, or a folder for one file a partition.")
@click.option("--keep", multiple=True, metavar="COL,...", help="Input columns to carry along, such as an id.")
@click.option("--confidence-level", type=float, metavar="SHARE", help="Intervals or sets that hold the truth so often.")
@registry_option
@reading_options
@json_option
def command(
    package: str, data: tuple[str, ...], out: str, *, keep: tuple[str, ...], confidence_level: float | None,
    registry: str | None, as_json: bool, **reading: Any,
) -> int:  # fmt: skip
    """Predict DATA with PACKAGE (a folder, NAME@3 or NAME@champion), in input order, in constant memory.

    Writes the column `prediction`; classifiers add `probability_<class>`. With --confidence-level 0.9 numbers get
    `prediction_low` and `prediction_high`, and classes `in_set_<class>` (true or false), which hold the truth of 9 of
    10 rows that are like those of the training.
    """
    dataset = open_dataset(data, options=read_options(reading))
    options = PredictOptions(confidence_level=confidence_level)
    rows = predict_files(Predictor(open_package(package, registry)), dataset, out, keep=words(keep), options=options)
    if as_json:
        print_json({"rows": rows, "out": out})
    else:
        print(f"{rows:,} rows written to {out}", file=sys.stderr)
    return 0

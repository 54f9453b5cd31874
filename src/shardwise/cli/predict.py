"""shardwise predict PACKAGE DATA... --out FILE"""

import sys
import time
from typing import Any

import click

from shardwise.cli import chatter_to_stderr, print_json
from shardwise.cli.options import data_argument, json_option, read_options, reading_options, registry_option, words
from shardwise.core.events import Advanced, Event, Events, Said, StageStarted
from shardwise.data.dataset import open_dataset
from shardwise.registry.references import open_package
from shardwise.serve.batch import predict_files, workers_for
from shardwise.serve.forms import DTYPES, AnswerForm
from shardwise.serve.predictor import Predictor

_TOLD_S = 10.0  # between two lines of progress


@click.command("predict")
@click.argument("package")
@data_argument
@click.option(
    "--out",
    required=True,
    help="FILE.parquet, .csv, .csv.gz, .jsonl, or a folder for one file a partition; also at a URL (s3://...).",
)
@click.option("--keep", multiple=True, metavar="COL,...", help="Input columns to carry along, such as an id.")
@click.option("--confidence-level", type=float, metavar="SHARE", help="Intervals or sets that hold the truth so often.")
@click.option("--top-k", type=int, metavar="K", help="Only the K likeliest classes: top_1_label, top_1_probability ...")
@click.option("--min-probability", type=float, metavar="P", help="A row for each class that reaches P.")
@click.option("--dtype", default="float64", show_default=True, help=f"Of probabilities: {', '.join(DTYPES)}.")
@click.option("--workers", type=int, help="Into a folder: worker processes, or tasks at a time on a cluster.")
@click.option("--engine", default="local", show_default=True, help="Into a folder: local, ray, dask or spark.")
@click.option("--address", help="Where the engine's cluster listens; else its own default, else it runs here.")
@registry_option
@reading_options
@json_option
def command(
    package: str, data: tuple[str, ...], out: str, *, keep: tuple[str, ...], registry: str | None, as_json: bool,
    workers: int | None, engine: str, address: str | None, **given: Any,
) -> int:  # fmt: skip
    """Predict DATA with PACKAGE (a folder, NAME@3 or NAME@champion), in input order, in constant memory.

    Writes the column `prediction`; classifiers add `probability_<class>`. With --confidence-level 0.9 numbers get
    `prediction_low` and `prediction_high`, and classes `in_set_<class>` (true or false), which hold the truth of 9 of
    10 rows that are like those of the training.

    Of many classes --top-k writes a few, --min-probability those that matter, --dtype uint8 a byte each. Into a folder
    the same command goes on after a kill, and later predicts only what is new or has changed. In an object store the
    folder counts once its manifest, _shardwise.json, is there: it names the parts, which lie in _parts/.
    """
    form = AnswerForm(**{name: given.pop(name) for name in ("top_k", "min_probability", "dtype", "confidence_level")})
    options = read_options(given)
    dataset = open_dataset(data, options=options)
    predictor = Predictor(open_package(package, registry))
    with chatter_to_stderr(), workers_for(engine, workers, address) as executor:
        rows = predict_files(
            predictor, dataset, out, keep=words(keep), form=form, storage=options.storage, executor=executor,
            events=Events([_Progress()]),
        )  # fmt: skip
    if as_json:
        print_json({"rows": rows, "out": out})
    else:
        print(f"{rows:,} rows written to {out}", file=sys.stderr)
    return 0


class _Progress:
    """Tells on standard error what is to be known, and now and then how far it is. The live panel of the training takes
    as long to import as a small file to predict."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()
        self._total = self._done = self._rows = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Said():
                print(f"warning: {event.text}" if event.level == "warning" else event.text, file=sys.stderr)
            case StageStarted():
                self._total, self._done, self._rows = event.total, 0, 0
            case Advanced():
                self._done += event.done
                self._rows += event.rows
                self._tell()

    def _tell(self) -> None:
        if time.monotonic() - self._told_s > _TOLD_S:
            self._told_s = time.monotonic()
            parts = f"{self._done:,} of {self._total:,} partitions, " if self._total else ""
            print(f"{parts}{self._rows:,} rows", file=sys.stderr, flush=True)

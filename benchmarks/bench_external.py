"""Where a byte a cell is too much: XGBoost's external memory on all rows, or LightGBM on the rows that fit.

A run encodes the generated table once (its codes, a byte a cell, are what all fits read). Then, each in a fresh process
inside a control group of the ceiling's size: LightGBM on the share of the rows that the ladder gives for the ceiling,
and XGBoost on all rows from its cache on disk. Beside them LightGBM on all rows, without a ceiling. The same number of
trees and threads; AUC on rows that none of them saw. Limit: what the ladder chooses loses at most 0.005 of AUC against
all rows, and takes no longer than XGBoost.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from bench_big import write_table_once
from common import Results, in_fresh_process, make_parser, megabytes, run_measured, shardwise_command, verdict
from generated import TARGET
from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.limits import MemoryGroup
from shardwise.core.units import parse_size
from shardwise.data.bins import MISSING
from shardwise.data.rows import BinnedRows, Chunk, DiskRows
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.registry.package import load_package
from shardwise.split.plan import splitter_from_json
from shardwise.train.ladder import make_ladder

AUC_LIMIT = 0.005
LEAST_ROWS = 100_000
PARAMS = {"learning_rate": 0.1, "num_leaves": 127, "feature_fraction": 0.8, "min_child_samples": 40}


def main() -> None:
    args = _arguments()
    results = Results("external", args.results)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        rows = encoded(args, Path(scratch))
        common = {"run": str(rows), "trees": args.trees, "threads": cpu_quota()}
        share = _share(rows, parse_size(args.memory))
        fits = {
            "all rows": measured(lightgbm_codes, None, share=1.0, **common),
            "sampled": measured(lightgbm_codes, args.memory, share=share, **common),
            "external": measured(xgboost_external, args.memory, cache=str(Path(scratch) / "cache"), **common),
        }
    for name, fit in fits.items():
        lost, ratio = fits["all rows"]["auc"] - fit["auc"], fit["seconds"] / fits["external"]["seconds"]
        figures = {"share": fit.pop("share"), **fit, "auc_lost": round(lost, 5), "ratio": round(ratio, 3)}
        judged = verdict(0 if lost <= AUC_LIMIT and ratio <= 1 else 1, 0) if name == "sampled" else "for information"
        results.add(name, {**figures, "verdict": judged}, rows=args.rows, memory=args.memory, trees=args.trees)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the table is kept between runs; else it is removed")
    args = parser.parse_args()
    if args.rows < LEAST_ROWS:
        parser.error(f"--rows {args.rows}: at least {LEAST_ROWS}, below which there are folds and not one hold-out")
    return args


def encoded(args: argparse.Namespace, scratch: Path) -> Path:
    """Folder of a run that has encoded the table."""
    table = write_table_once(args.folder or scratch, args.rows)
    words = ["train", str(table), "--target", TARGET, "--trials", "2", "--families", "trees", "--memory", "4GB",
             "--param", "trees.n_estimators=1", "--run", "codes", "--json"]  # fmt: skip
    run_measured(shardwise_command(*words), scratch).answer()
    return scratch / "runs" / "codes"


def measured(function: Any, memory: str | None, **arguments: Any) -> dict[str, Any]:
    """What the function says, and its peak of memory; inside a control group where a ceiling is given."""
    if memory is not None:
        arguments["memory"] = memory
    answer, cost = in_fresh_process(function, **arguments)
    return {**answer, "peak_mb": megabytes(cost.peak_rss_bytes)}


class Codes:
    """The encoded rows of a run: what is learned from, and what is scored on."""

    def __init__(self, run: str) -> None:
        package = load_package(Path(run) / "package")
        self.target, self.features = package.target, package.recipe.features
        (self.folder,) = (Path(run) / "rows").iterdir()
        split = json.loads((Path(run) / "package" / "manifest.json").read_text())["lineage"]["split"]
        (fold,) = splitter_from_json(split).folds()
        self.train, self.valid = fold.train, fold.valid

    def train_rows(self) -> BinnedRows:
        return BinnedRows(self.folder / "bins", self.features, self.train)

    def valid_codes(self) -> BinnedRows:
        return BinnedRows(self.folder / "bins", self.features, self.valid)

    def valid_floats(self) -> DiskRows:
        return DiskRows(self.folder / "floats", self.features, self.valid)

    def valid_blocks(self) -> Iterator[np.ndarray]:
        """Codes as numbers of the validation rows, in their order."""
        rows = self.valid_codes()
        for number, size in enumerate(rows.block_rows()):
            if size:
                yield _numbers(rows.block(number))

    def score(self, predicted: np.ndarray) -> float:
        """AUC on the validation rows, which none of the fits has used."""
        return float(roc_auc_score(self.valid_floats().target(), predicted))


def _numbers(chunk: Chunk) -> np.ndarray:
    """Float32 codes, with NaN for what is missing."""
    return np.where(chunk.X == MISSING, np.float32(np.nan), chunk.X)


def _share(run: Path, memory_bytes: int) -> float:
    """The share of rows that the ladder gives for the ceiling."""
    codes = Codes(str(run))
    train, valid = codes.train_rows(), codes.valid_codes()
    ladder = make_ladder(
        memory_bytes, train.n_rows, len(train.features), codes.target.outputs, valid_rows=valid.n_rows, workers=1
    )
    return ladder.share


def _confine(memory: str | None) -> None:
    """Put this process into a control group of the ceiling's size."""
    if memory is None:
        return
    group = MemoryGroup.make(parse_size(memory))
    if group is None:
        sys.exit("no control group can be made here: nothing would hold the ceiling")
    group.add(os.getpid())


def lightgbm_codes(run: str, trees: int, threads: int, share: float, memory: str | None = None) -> dict[str, Any]:
    """Our trees, from codes; without early stopping."""
    _confine(memory)
    codes = Codes(run)
    model = build("trees", codes.target, codes.features, {**PARAMS, "n_estimators": trees})
    rows = codes.train_rows().sampled(share)
    started = time.perf_counter()
    model.fit(rows, None, FitRun(seed=0, threads=threads, memory_bytes=2**31))
    seconds = time.perf_counter() - started
    predicted = np.concatenate([model.predict(chunk.X) for chunk in codes.valid_floats().chunks()])
    return {"auc": codes.score(predicted[:, -1] if predicted.ndim == 2 else predicted), "seconds": seconds,
            "share": share}  # fmt: skip


def xgboost_external(run: str, trees: int, threads: int, cache: str, memory: str | None = None) -> dict[str, Any]:
    """XGBoost from pages on disk, depth by depth: leaf by leaf would read all pages for each split."""
    import xgboost as xgb

    _confine(memory)
    codes = Codes(run)
    Path(cache).mkdir()

    class Blocks(xgb.DataIter):
        """The codes of one fold after the other, a block at a time."""

        def __init__(self, rows: BinnedRows, prefix: str) -> None:
            super().__init__(cache_prefix=str(Path(cache) / prefix), on_host=False)
            self._rows, self._next = rows, 0

        def reset(self) -> None:
            self._next = 0

        def next(self, input_data: Any) -> bool:
            if self._next == len(self._rows.block_rows()):
                return False
            chunk = self._rows.block(self._next)
            input_data(data=_numbers(chunk), label=np.array(chunk.y))
            self._rows.release(self._next)
            self._next += 1
            return True

    params = {
        "objective": "binary:logistic", "tree_method": "hist", "eta": PARAMS["learning_rate"], "max_depth": 7,
        "max_bin": 256, "colsample_bytree": PARAMS["feature_fraction"], "min_child_weight": 10, "nthread": threads,
    }  # fmt: skip
    started = time.perf_counter()
    data = xgb.ExtMemQuantileDMatrix(Blocks(codes.train_rows(), "train"), max_bin=256, nthread=threads)
    booster = xgb.train(params, data, trees)
    seconds = time.perf_counter() - started
    predicted = np.concatenate([booster.predict(xgb.DMatrix(X)) for X in codes.valid_blocks()])
    return {"auc": codes.score(predicted), "seconds": seconds, "share": 1.0}


if __name__ == "__main__":
    main()

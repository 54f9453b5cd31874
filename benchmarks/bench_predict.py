"""Prediction: `shardwise predict` from Parquet to Parquet against LightGBM's own `predict` of a matrix in memory.

The package holds a recipe and up to 300 trees, trained on generated rows. Ours is the whole command, from its start to
its end: it imports, loads and checks the package, reads, encodes, predicts and writes. The peer is `Booster.predict`
alone, with the models' own text, on the float32 matrix that the recipe made of the same rows before the clock started;
same number of threads; both take turns, in fresh processes. Ours must reach 0.8 of the peer's rows/s; its peak memory
must not grow with the rows (at most by a tenth from the smallest table to the largest), and stay below 1 GB. The
predictions must be the same.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common import (
    Results,
    chosen,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
    trees_texts,
    verdict,
)
from generated import TARGET, write_table
from shardwise.compute.ceiling import cpu_quota
from shardwise.core.config import RunConfig
from shardwise.data.dataset import open_dataset
from shardwise.registry.package import load_package
from shardwise.workflow import train

SIZES = {"1m": 1_000_000, "4m": 4_000_000, "10m": 10_000_000}
LEAST = 0.8
MOST_MB = 1000
MOST_GROWTH = 1.1


def main() -> None:
    args = _arguments()
    results = Results("predict", args.results)
    peaks = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        package = make_package(folder, args)
        for name in chosen(args.only, SIZES):
            rows = round(SIZES[name] * args.scale)
            data = write_table(folder / name, rows, seed=1)
            figures, turns = measure(folder, package, data, rows, args.repeat)
            results.add(
                name, figures, turns=turns, trees=trees_of(package), package_bytes=folder_bytes(package), least=LEAST
            )
            peaks[rows] = figures["ours_peak_mb"]
            share = figures["ratio"]
            peak_mb = figures["ours_peak_mb"]
            print(f"{name}: {share:.3f} of LightGBM's rows/s, at least {LEAST}; {peak_mb:.0f} MB, at most {MOST_MB}: "
                  f"{figures['verdict']}", flush=True)  # fmt: skip
    results.print_table()
    if len(peaks) > 1:
        growth = peaks[max(peaks)] / peaks[min(peaks)]
        times = max(peaks) / min(peaks)
        print(
            f"memory: {growth:.3f} times the peak for {times:g} times the rows, "
            f"at most {MOST_GROWTH}: {verdict(growth, MOST_GROWTH)}"
        )


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.set_defaults(repeat=3)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--train-rows", type=int, default=200_000)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a quick look")
    return parser.parse_args()


def make_package(folder: Path, args: argparse.Namespace) -> Path:
    """The package of a run of one candidate: that many trees, or where early stopping ended."""
    config = RunConfig(
        data=(str(write_table(folder / "learned", args.train_rows)),), target=TARGET, families=("trees",), trials=2,
        params={"trees": {"n_estimators": args.trees}}, runs_folder=str(folder / "runs"), run="bench", report=False,
    )  # fmt: skip
    return Path(train(config).package)


def trees_of(package: Path) -> int:
    """Trees of all models together."""
    return sum(text.count("\nTree=") for text in trees_texts(package))


def _batches(data: Path) -> Iterator[pa.RecordBatch]:
    dataset = open_dataset((str(data),))
    for partition in dataset.partitions:
        yield from dataset.read(partition)


def measure(
    folder: Path, package: Path, data: Path, rows: int, repeat: int
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Medians over the turns, and the turns; raises `RuntimeError` when the two predict differently."""
    turns = []
    for _ in range(repeat):
        ours = run_measured(
            shardwise_command("predict", str(package), str(data), "--out", str(folder / "ours.parquet"))
        )
        ours.checked()
        peer_s, _ = in_fresh_process(
            predict_in_memory, package=str(package), data=str(data), rows=rows, threads=cpu_quota(),
            out=str(folder / "peer.npy"),
        )  # fmt: skip
        turns.append(
            {"ours_s": ours.seconds, "peer_s": peer_s, "ratio": peer_s / ours.seconds,
             "ours_peak_mb": megabytes(ours.peak_rss_bytes)}
        )  # fmt: skip
    check_same(folder / "ours.parquet", folder / "peer.npy")
    median = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    figures: dict[str, Any] = {
        "rows": rows, "ours_rows_per_s": round(rows / median["ours_s"]),
        "peer_rows_per_s": round(rows / median["peer_s"]), **median,
        "verdict": "ok" if median["ratio"] >= LEAST and median["ours_peak_mb"] <= MOST_MB else "MISSED",
    }  # fmt: skip
    return figures, turns


def check_same(ours: Path, peer: Path) -> None:
    """Raise `RuntimeError` when the predictions are not the same to 12 digits."""
    probability = pq.read_table(ours, columns=["probability_1"]).column(0).to_numpy()
    difference = float(np.abs(probability - np.load(peer)).max())
    if not difference < 1e-12:
        raise RuntimeError(f"the two predict differently, by up to {difference:g}")


def predict_in_memory(package: str, data: str, rows: int, threads: int, out: str) -> float:
    """Seconds of `Booster.predict`, summed over the package's models, on a row-major float32 matrix in memory."""
    loaded = load_package(package)
    boosters = [lgb.Booster(model_str=text) for text in trees_texts(Path(package))]
    X = np.empty((rows, len(loaded.recipe.features)), np.float32)
    start = 0
    for batch in _batches(Path(data)):
        X[start : start + batch.num_rows] = loaded.recipe.transform(batch)
        start += batch.num_rows
    began = time.perf_counter()
    parts = [np.asarray(booster.predict(X, num_threads=threads)) for booster in boosters]
    seconds = time.perf_counter() - began
    np.save(out, np.mean(parts, axis=0))
    return seconds


if __name__ == "__main__":
    main()

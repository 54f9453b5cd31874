"""Forms of predictions: bytes on disk, seconds and peak memory of `shardwise predict` for many classes.

A package of so many classes answers generated rows: all probabilities as float64, float32, float16 and uint8, the five
likeliest classes, and the classes from a probability on; into a file by this process, and into a folder by two workers.
Each is the whole command, in a process of its own. All classes as float64 are what the others are held to: the five
likeliest as uint8 must take at most a tenth of the bytes, and no form longer than 1.1 times.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shardwise
from common import Results, chosen, make_parser, megabytes, run_measured, shardwise_command, verdict

FORMS = {
    "float64": (), "float32": ("--dtype", "float32"), "float16": ("--dtype", "float16"), "uint8": ("--dtype", "uint8"),
    "top 5": ("--top-k", "5"), "top 5 uint8": ("--top-k", "5", "--dtype", "uint8"),
    "from 0.1": ("--min-probability", "0.1"), "from 0.1 uint8": ("--min-probability", "0.1", "--dtype", "uint8"),
    "top 5 folder": ("--top-k", "5"), "top 5 folder, 2 workers": ("--top-k", "5", "--workers", "2"),
}  # fmt: skip
WHOLE, SMALL = "float64", "top 5 uint8"
MOST_BYTES, MOST_TIME = 0.1, 1.1


def main() -> None:
    args = _arguments()
    results = Results("outputs", args.results)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        package, data = make_package(folder, args), write(folder / "rows", args.rows, args.classes, seed=1)
        whole: dict[str, Any] = {}
        for case in [WHOLE, *(name for name in chosen(args.only, FORMS) if name != WHOLE)]:
            figures = measure(folder, package, data, case, args)
            whole = whole or figures
            figures |= {"bytes": round(figures["mb"] / whole["mb"], 4), "time": round(figures["s"] / whole["s"], 3)}
            results.add(case, figures, rows=args.rows, classes=args.classes)
            limits = [verdict(figures["time"], MOST_TIME)]
            limits += [verdict(figures["bytes"], MOST_BYTES)] if case == SMALL else []
            print(
                f"{case}: {figures['bytes']:.4f} of the bytes in {figures['time']:.2f} of the time: {limits}",
                flush=True,
            )
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.set_defaults(repeat=2)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--classes", type=int, default=200)
    return parser.parse_args()


def write(folder: Path, rows: int, classes: int, seed: int) -> Path:
    """Eight files of five numbers, of which classes are places in a plane, and an id."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number, size in enumerate(np.diff(np.linspace(0, rows, 9).astype(int))):
        X = rng.random((size, 5)).astype(np.float32)
        side = int(np.ceil(np.sqrt(classes)))
        places = np.minimum(X[:, :2] + 0.05 * rng.normal(size=(size, 2)), 0.999).clip(0) * side
        label = np.minimum(places[:, 0].astype(int) * side + places[:, 1].astype(int), classes - 1)
        columns = {f"x{k}": X[:, k] for k in range(5)} | {"id": np.arange(size) + number * rows}
        table = pa.table({**columns, "y": pa.array([f"c{each:04d}" for each in label])})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=25_000)
    return folder


def make_package(folder: Path, args: argparse.Namespace) -> Path:
    data = write(folder / "learned", 40_000, args.classes, seed=0)
    result = shardwise.train(
        str(data), "y", drop=("id",), families=("linear",), trials=2, folds=2, report=False, run="bench",
        runs_folder=str(folder / "runs"),
    )  # fmt: skip
    return Path(result.package)


def measure(folder: Path, package: Path, data: Path, case: str, args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the turns."""
    turns = []
    for turn in range(args.repeat):
        out = folder / f"out-{case.replace(' ', '-')}-{turn}{'' if 'folder' in case else '.parquet'}"
        words = ("predict", str(package), str(data), "--out", str(out) + "/" * ("folder" in case), "--keep", "id")
        done = run_measured(shardwise_command(*words, *FORMS[case]))
        done.checked()
        files = [out] if out.is_file() else list(out.rglob("*.parquet"))
        size_bytes = sum(file.stat().st_size for file in files)
        turns.append({"s": done.seconds, "mb": megabytes(size_bytes), "peak_mb": megabytes(done.peak_rss_bytes)})
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


if __name__ == "__main__":
    main()

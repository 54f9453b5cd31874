"""Makes the archive of earlier trials that is shipped with the package: random search on generated tables.

    python benchmarks/make_archive.py --cache FOLDER

Tables of 500 to 1,500 rows, binary, multiclass and regression, of numbers and categories, with few or many features
that matter, interactions and noise, each from a seed. No public data set is among them. Takes about 20 minutes; kept in
FOLDER, so that it goes on where it was stopped.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shardwise
from shardwise.tune.archive import Archive, PastTask, of_runs
from tuning_tables import random_trials

TASKS = 24
TRIALS = 32
DIGITS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder of the tables and runs")
    parser.add_argument("--tasks", type=int, default=TASKS)
    args = parser.parse_args()
    for seed in range(args.tasks):
        name = f"generated-{seed:02}"
        path = args.cache / f"{name}.parquet"
        if not path.exists():
            args.cache.mkdir(parents=True, exist_ok=True)
            pq.write_table(generated(seed), path)
        print(name, flush=True)
        random_trials(path, "y", name, args.cache / "runs", trials=TRIALS, folds=2, rounds=150)
    tasks = [_short(task) for task in of_runs(args.cache / "runs")[0].of("trees").tasks]
    target = Path(shardwise.__file__).parent / "tune" / "archive.json"
    target.write_text(json.dumps(Archive(tuple(tasks)).to_json(), sort_keys=True) + "\n", encoding="utf8")
    print(f"{target.name}: {len(tasks)} tasks, {target.stat().st_size:,} bytes")


def _short(task: PastTask) -> PastTask:
    trials = [{**trial, "loss": float(f"{trial['loss']:.{DIGITS}g}")} for trial in task.trials]
    return PastTask(name=task.name, features=task.features, trials=trials)


def generated(seed: int) -> pa.Table:
    """A table with the target `y`; what it is like depends on the seed."""
    rng = np.random.default_rng(seed)
    rows, numbers = int(rng.integers(500, 1500)), int(rng.integers(4, 30))
    kind = ("binary", "regression", "multiclass", "binary", "regression")[seed % 5]
    X = rng.standard_normal((rows, numbers)) if seed % 2 else rng.random((rows, numbers)) ** 2
    matter = rng.permutation(numbers)[: max(2, int(numbers * rng.uniform(0.2, 0.9)))]
    signal = X[:, matter] @ rng.normal(size=len(matter))
    for _ in range(int(rng.integers(1, 8))):
        i, j = rng.choice(numbers, 2, replace=False)
        signal = signal + rng.normal(0, 1.5) * X[:, i] * X[:, j] + rng.normal() * np.sin(3 * X[:, i])
    columns: dict[str, pa.Array] = {}
    for c in range(int(rng.integers(0, 6)) if seed % 3 else 0):
        size = int(rng.choice([3, 8, 40, 300]))
        codes = rng.integers(0, size, rows) if c % 2 else np.minimum(rng.geometric(4 / (size + 4), rows), size) - 1
        signal = signal + rng.normal(0, 1.0, size)[codes]
        columns[f"c{c}"] = pa.array([f"v{code}" for code in codes])
    steep = signal + np.abs(signal - np.median(signal)) * (seed % 4 == 1)
    noisy = steep + rng.uniform(0.1, 1.5) * np.std(steep) * rng.standard_normal(rows)
    missing = rng.random((rows, numbers)) < (0.1 if seed % 4 == 2 else 0.0)
    for j in range(numbers):
        columns[f"x{j}"] = pa.array(X[:, j], mask=missing[:, j])
    return pa.table({**columns, "y": _target(kind, noisy, rng)})


def _target(kind: str, noisy: np.ndarray, rng: np.random.Generator) -> pa.Array:
    if kind == "regression":
        return pa.array(np.exp(noisy / np.std(noisy)) if rng.random() < 0.4 else noisy)
    cuts = [rng.uniform(0.4, 0.95)] if kind == "binary" else np.linspace(0, 1, int(rng.integers(3, 5)) + 1)[1:-1]
    return pa.array([f"class {number}" for number in np.searchsorted(np.quantile(noisy, cuts), noisy)])


if __name__ == "__main__":
    main()

"""Shapes that break learners: fewer rows than columns, and 300 classes. A model within 60 s, and a good one.

The tables are made, so that the best possible answers are known: of 10,000 or 500 numbers ten count, in a logistic
model; the classes are normal clouds in 20 dimensions. Loss (log loss) on 10,000 other rows: `learned` is the share of
the way from a constant to the best possible loss, for shardwise, for LightGBM by hand with early stopping, which has
twice the time, and for who knows the shape: of the wide tables logistic regression with an L1 penalty by five folds, of
the clouds linear discriminant analysis (scikit-learn's). A run may end at most 2 % of its time too late.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, logsumexp

from common import Results, chosen, in_fresh_process, make_parser, megabytes, run_measured, shardwise_command
from shardwise.compute.ceiling import cpu_quota
from shardwise.core.units import parse_duration
from shardwise.stats.metrics import METRICS

TEST_ROWS = 10_000
INFORMATIVE = 10  # of the columns of a wide table
CLASSES, SPREAD = 300, 1.2
LATE = 0.02
Table = tuple[np.ndarray, np.ndarray, np.ndarray]  # X, y, probabilities of the classes that nobody can know better


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--time", default="60s")
    args = parser.parse_args()
    cases: dict[str, tuple[Callable[[int, int], Table], int]] = {
        "1000 x 10000": (partial(wide, columns=10_000), 1_000), "300 x 500": (partial(wide, columns=500), 300),
        "300 classes": (clouds, 60_000),
    }  # fmt: skip
    results = Results("shapes", args.results)
    for name in chosen(args.only, cases):
        make, rows = cases[name]
        with tempfile.TemporaryDirectory() as folder:
            results.add(name, one(Path(folder), make, rows, args.time), rows=rows, time=args.time)
    results.print_table()


def one(folder: Path, make: Callable[[int, int], Table], rows: int, time: str) -> dict[str, Any]:
    """Figures of a run and of the peer on a table of `rows` rows."""
    tables = {"train": make(rows, 1), "test": make(TEST_ROWS, 2)}
    for name, (X, y, _) in tables.items():
        columns = [pa.array(column) for column in X.T] + [pa.array(y)]
        names = [*(f"x{number}" for number in range(X.shape[1])), "y"]
        pq.write_table(pa.table(columns, names=names), folder / f"{name}.parquet")
    _, y, known = tables["test"]
    constant, best = loss(y, np.broadcast_to(np.bincount(tables["train"][1]) / rows, known.shape)), loss(y, known)
    task = "binary" if known.shape[1] == 2 else "multiclass"
    words = ["--target", "y", "--task", task, "--time", time, "--run", "bench", "--json"]
    ran = run_measured(shardwise_command("train", "train.parquet", *words), folder)
    if ran.code:
        print(ran.errors[-1000:])
        return {"learned": 0.0, "late": round(ran.seconds / parse_duration(time) - 1.0, 3), "verdict": "MISSED"}
    package = ran.answer()["package"]
    run_measured(shardwise_command("predict", package, "test.parquet", "--out", "ours.parquet"), folder).checked()
    answers = pq.read_table(folder / "ours.parquet")
    ours = loss(y, np.column_stack([answers[f"probability_{number}"] for number in range(known.shape[1])]))
    budget_s = parse_duration(time)
    peer, _ = in_fresh_process(
        lightgbm_loss, folder=str(folder), time_s=2 * budget_s, threads=cpu_quota(), classes=known.shape[1]
    )
    linear, took = in_fresh_process(linear_loss, folder=str(folder), threads=cpu_quota(), classes=known.shape[1])
    late = ran.seconds / budget_s - 1.0
    learned, by_peer, by_linear = ((constant - each) / (constant - best) for each in (ours, peer, linear))
    return {
        "learned": round(learned, 3), "peer": round(by_peer, 3), "linear_peer": round(by_linear, 3),
        "linear_s": round(took.seconds, 1), "trials": ran.answer()["trials"],
        "loss": round(ours, 4), "constant": round(constant, 4), "best": round(best, 4), "late": round(late, 3),
        "peak_mb": megabytes(ran.peak_rss_bytes), "verdict": "ok" if ours < constant and late <= LATE else "MISSED",
    }  # fmt: skip


def loss(y: np.ndarray, probabilities: np.ndarray) -> float:
    clipped = np.clip(probabilities, 1e-15, 1.0)
    return float(METRICS["log_loss"].compute(y.astype(np.float64), clipped / clipped.sum(axis=1, keepdims=True)))


def wide(rows: int, seed: int, columns: int) -> Table:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)).astype(np.float32)
    weights = np.random.default_rng(0).normal(size=INFORMATIVE) * 1.5
    p = expit(X[:, :INFORMATIVE].astype(np.float64) @ weights)
    return X, (rng.random(rows) < p).astype(np.int64), np.column_stack([1.0 - p, p])


def clouds(rows: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(0).normal(size=(CLASSES, 20)) * SPREAD
    y = rng.integers(0, CLASSES, rows)
    X = centers[y] + rng.normal(size=(rows, 20))
    logs = X @ centers.T - 0.5 * np.square(centers).sum(axis=1)
    return X.astype(np.float32), y, np.exp(logs - logsumexp(logs, axis=1, keepdims=True))


def lightgbm_loss(folder: str, time_s: float, threads: int, classes: int) -> float:
    """Of LightGBM's defaults, a tenth held back for early stopping; ended when the time is up."""
    import time

    import lightgbm as lgb

    X, y, X_test, y_test = _matrices(folder)
    cut = int(0.9 * len(y))
    task = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    data = lgb.Dataset(X[:cut], y[:cut])
    ends = time.monotonic() + time_s

    def in_time(env: lgb.callback.CallbackEnv) -> None:
        if time.monotonic() > ends:
            raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    model = lgb.train(
        {**task, "num_threads": threads, "verbosity": -1}, data, 1_000,
        valid_sets=[lgb.Dataset(X[cut:], y[cut:], reference=data)],
        callbacks=[lgb.early_stopping(50, verbose=False), in_time],
    )  # fmt: skip
    answers = np.asarray(model.predict(X_test))
    return loss(y_test, np.column_stack([1.0 - answers, answers]) if classes == 2 else answers)


def linear_loss(folder: str, threads: int, classes: int) -> float:
    """Of the linear model that the table was made by, up to its penalty; no time limit."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegressionCV

    X, y, X_test, y_test = _matrices(folder)
    if classes > 2:
        return loss(y_test, LinearDiscriminantAnalysis().fit(X, y).predict_proba(X_test))
    penalized = LogisticRegressionCV(
        Cs=10, l1_ratios=(1.0,), solver="liblinear", cv=5, n_jobs=threads, scoring="neg_log_loss", random_state=0,
        use_legacy_attributes=False,
    )  # fmt: skip
    return loss(y_test, penalized.fit(X, y).predict_proba(X_test))


def _matrices(folder: str) -> tuple[np.ndarray, ...]:
    """X and y of the training, X and y of the test."""
    found: list[np.ndarray] = []
    for name in ("train", "test"):
        table = pq.read_table(f"{folder}/{name}.parquet")
        found += [np.column_stack([table[column] for column in table.column_names[:-1]]), table["y"].to_numpy()]
    return tuple(found)


if __name__ == "__main__":
    main()

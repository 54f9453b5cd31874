"""AutoML within a time: shardwise against AutoGluon, FLAML, H2O and boosting by hand, on the same split and cores.

Each data set is cut once into 80 % and 20 %, at random from a fixed seed; all get the same two files, the labels of a
classification as codes. Scored by one function: 1 - roc_auc, log_loss, rmse or mean Poisson deviance, lower is better.
LightGBM (four settings, `lightgbm_peer.py`) and XGBoost stop early, or when the time is up; scikit-learn's boosting
stops early. `autogluon` is its preset best_quality_v150, `autogluon_best` best_quality, `autogluon_medium`
medium_quality. Each peer has a virtual environment of its own, made on first use below `--environments`. Recorded
beside the loss: seconds of the whole process; how much later than the budget ours ends as a whole, and a peer's call
that is given the time; memory of the process tree, bytes of the model as it is deployed, rows a second that a loaded
model answers, and failures as such; and `pace_s`, the seconds of a fixed piece of training just before, as lines of
several days are compared.

The tables of ranks and the critical-difference plots are drawn by `automl_report.py` from the recorded lines.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from automl_report import OURS, UNSEALED, write_report
from common import (
    DATA_SETS,
    HERE,
    PEER_ENVIRONMENT,
    DataSet,
    Measured,
    Results,
    available,
    chosen,
    environment_of,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
)
from lightgbm_peer import test_score
from shardwise.compute.ceiling import cpu_quota
from shardwise.core.units import parse_duration
from shardwise.serve.predictor import Predictor

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "autogluon": ("autogluon.tabular[lightgbm,catboost,xgboost,fastai,ray]", "torch"),
    "flaml": ("flaml[automl]", "catboost"),
    "h2o": ("h2o", "psutil"),
    "lightgbm": ("lightgbm", "scikit-learn"),
    "xgboost": ("xgboost-cpu", "scikit-learn"),
    "hgb": ("scikit-learn",),
}
PRESETS = ("autogluon_best", "autogluon_medium")  # which share an environment
TOOLS = (OURS, UNSEALED, *REQUIREMENTS, *PRESETS)
TIMED = ("autogluon", *PRESETS, "flaml", "h2o")  # peers that take a budget
SMALL = (
    "spambase", "telco_churn", "higgs_7k", "kin8nm", "employee_salaries", "dry_bean", "pol", "bike_sharing_hour",
    "etth1", "covtype_20k", "california_housing", "house_16h", "credit_risk", "amazon_employee_access",
    "bank_marketing", "electricity_elec2", "adult", "diamonds", "otto_products", "letter", "mammography", "shuttle",
    "connect_4",
)  # fmt: skip
LARGE = (
    "us_babynames", "store_item_demand", "un_votes", "donors_kdd2014", "online_retail", "pg17_motor_policies",
    "kddcup99_10pct", "fremtpl_freq", "walmart_store_sales", "nycflights13",
)  # fmt: skip
TEST_SHARE = 0.2
MOST_TIMES = 6  # of the budget and a minute: then what has not ended counts as failed
BATCH_ROWS = 100_000  # in which ours is asked besides, as the test is often small
DIGITS = 12  # of a loss; those of perfect answers differ in the last ones
LEAST_OF_CLASS = 5  # rows; rarer classes are left out for all


def main() -> None:
    args = _arguments()
    results = Results("automl", args.results)
    peers = chosen(args.peers, TOOLS)
    names = {"small": SMALL, "large": LARGE}.get(args.only or "small") or chosen(args.only, SMALL + LARGE)
    done = _recorded(results.path) if args.resume else set()
    for name in available(names, args.data):
        for seed in range(args.repeat):
            todo = [peer for peer in peers if (name, peer, args.time, seed) not in done]
            if todo:
                _data_set(args, results, name, (seed, todo))
    results.print_table()
    for path in write_report(results.path, args.report or args.results):
        print(f"written: {path.name}")


def _data_set(args: argparse.Namespace, results: Results, name: str, what: tuple[int, list[str]]) -> None:
    seed, peers = what
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        job = write_job(DATA_SETS[name], args.data / f"{name}.parquet", folder, seed, args.rows)
        for peer in peers:
            details = {"budget": args.time, "seed": seed, **{key: job[key] for key in ("train_rows", "test_rows")}}
            details["pace_s"] = round(pace_s(args.threads), 3)
            figures = run(args, peer, job, folder)
            results.add(name, {"peer": peer, **figures}, **details)
            print(f"{name}: {peer}: {figures['loss']} in {figures['seconds']} s {figures['failure']}", flush=True)


def pace_s(threads: int) -> float:
    """Median seconds of three times the same trees: how quick the machine is now."""
    X = np.random.default_rng(0).normal(size=(50_000, 20))
    y = X[:, 0] * X[:, 1] + np.sin(X[:, 2])
    params = {"num_threads": threads, "num_leaves": 63, "verbose": -1}
    took = []
    for _ in range(3):
        data = lightgbm.Dataset(X, y, params=params).construct()
        started = time.perf_counter()
        lightgbm.train(params, data, num_boost_round=50)
        took.append(time.perf_counter() - started)
    return median(took)


def write_job(data_set: DataSet, source: Path, folder: Path, seed: int, most: int | None) -> dict[str, Any]:
    """Write train.parquet and test.parquet; what all are asked."""
    table = pq.read_table(source).drop_columns(list(data_set.drop)).replace_schema_metadata(None)
    table = table.filter(pc.is_valid(table[data_set.target]))
    classes = 0
    if data_set.task in ("binary", "multiclass"):
        table, classes = _coded(table, data_set.target)
    order = np.random.default_rng(seed).permutation(table.num_rows)[:most]
    cut = int(len(order) * (1 - TEST_SHARE))
    job = {"target": data_set.target, "task": data_set.task, "classes": classes, "folder": str(folder)}
    for part, rows in (("train", order[:cut]), ("test", order[cut:])):
        pq.write_table(table.take(pa.array(rows)), folder / f"{part}.parquet", compression="zstd")
        job |= {part: str(folder / f"{part}.parquet"), f"{part}_rows": len(rows)}
    return job


def _coded(table: pa.Table, target: str) -> tuple[pa.Table, int]:
    """The table with codes in the place of labels, without classes of hardly any rows; how many classes are left."""
    labels = table[target].cast(pa.string()).to_numpy()
    known, counts = np.unique(labels, return_counts=True)
    kept = known[counts >= LEAST_OF_CLASS]
    there = np.isin(labels, kept)
    codes = pa.array(np.searchsorted(kept, labels[there]).astype(np.int64))
    table = table.filter(pa.array(there))
    return table.set_column(table.column_names.index(target), target, codes), len(kept)


def run(args: argparse.Namespace, peer: str, job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What one of them reaches; where it fails, the loss is None and `failure` says why."""
    budget_s = parse_duration(args.time)
    (folder / "answers.npy").unlink(missing_ok=True)
    is_peer = peer not in (OURS, UNSEALED)
    one: Callable[..., tuple[Measured, dict[str, Any]]] = _peer if is_peer else _ours
    cost, said = one(args, peer, job, budget_s)
    figures: dict[str, Any] = {
        "loss": None, "seconds": round(cost.seconds, 1), "overrun": round(cost.seconds / budget_s - 1, 3),
        "peak_mb": megabytes(cost.peak_rss_bytes), "model_mb": None, "rows_per_s": None, "batch_rows_per_s": None,
        "failure": "",
    }  # fmt: skip
    if cost.code != 0:
        words = cost.errors.strip().splitlines()
        figures["failure"] = f"ended with {cost.code}: {words[-1][:200] if words else ''}"
        return figures
    if not (folder / "answers.npy").exists():
        figures["failure"] = said["failure"]
        return figures
    y = pq.read_table(job["test"], columns=[job["target"]])[job["target"]].to_numpy()
    value = _score(job["task"], y, np.load(folder / "answers.npy"))
    figures["loss"] = round(1.0 - value if job["task"] == "binary" else value, DIGITS)
    figures["model_mb"] = megabytes(said["model_bytes"])
    figures["rows_per_s"] = round(len(y) / said["predict_s"])
    figures["batch_rows_per_s"] = said.get("batch_rows_per_s")
    if is_peer:  # they give the time to training alone, we to the whole process
        figures["overrun"] = round(said["fit_s"] / budget_s - 1, 3) if peer in TIMED else None
        figures |= {"fit_s": round(said["fit_s"], 1), "peer_versions": said["peer_versions"]}
    return figures


def _score(task: str, y: np.ndarray, answers: np.ndarray) -> float:
    if task == "binary":
        return test_score(task, y, answers[:, 1])
    if task == "multiclass":
        clipped = np.clip(answers, 1e-15, None)
        return test_score(task, y, clipped / clipped.sum(axis=1, keepdims=True))
    return test_score(task, y, np.clip(answers, 1e-9, None) if task == "count" else answers)


def _ours(_args: Any, peer: str, job: Mapping[str, Any], budget_s: float) -> tuple[Measured, dict[str, Any]]:
    folder = Path(job["folder"])
    words = ["--target", job["target"], "--task", job["task"], "--time", f"{budget_s:g}s", "--run", "ours", "--json"]
    words += ["--test-share", "0"] if peer == UNSEALED else []
    limit = ["timeout", "-k", "5", str(_limit_s(budget_s))]
    trained = run_measured([*limit, *shardwise_command("train", job["train"], *words)], folder)
    if trained.code != 0:
        return trained, {}
    package = folder / trained.answer()["package"]
    command = shardwise_command("predict", str(package), job["test"], "--out", "ours.parquet")
    predicted = run_measured([*limit, *command], folder)
    if predicted.code != 0:
        return trained, {"failure": f"predict ended with {predicted.code}: {predicted.errors.strip()[-200:]}"}
    answers = pq.read_table(folder / "ours.parquet")
    names = [f"probability_{code}" for code in range(job["classes"])] or ["prediction"]
    columns = [answers[name].to_numpy() for name in names]
    np.save(folder / "answers.npy", np.column_stack(columns) if job["classes"] else columns[0])
    took, _ = in_fresh_process(answering, package=str(package), rows=job["test"])
    size = folder_bytes(package)
    shutil.rmtree(folder / "runs")
    return trained, {"model_bytes": size, **took}


def answering(package: str, rows: str) -> dict[str, float]:
    """Seconds in which a package that is loaded answers rows for the first time, as the peers' models do; and how many
    rows a second of a large batch, the same rows again and again."""
    predictor, table = Predictor.load(package), pq.read_table(rows)
    started = time.perf_counter()
    predictor.predict(table)
    first_s = time.perf_counter() - started
    many = table.take(pa.array(np.arange(BATCH_ROWS) % len(table))).combine_chunks()
    predictor.predict(many)  # prepares the trees
    started = time.perf_counter()
    predictor.predict(many)
    return {"predict_s": first_s, "batch_rows_per_s": round(BATCH_ROWS / (time.perf_counter() - started))}


def _peer(args: Any, peer: str, job: Mapping[str, Any], budget_s: float) -> tuple[Measured, dict[str, Any]]:
    environment = peer.split("_")[0]
    python = environment_of(environment, REQUIREMENTS[environment], args.environments)
    asked = json.dumps({**job, "time_s": budget_s, "threads": args.threads})
    command = ["timeout", "-k", "5", str(_limit_s(budget_s)), str(python), str(HERE / "automl_peers.py"), peer, asked]
    cost = run_measured(command, Path(job["folder"]), PEER_ENVIRONMENT)
    said = [line for line in cost.output.splitlines() if line.startswith("{")]  # H2O says good-bye after that
    return cost, json.loads(said[-1]) if cost.code == 0 else {}


def _limit_s(budget_s: float) -> int:
    return int(MOST_TIMES * budget_s + 60)


def _recorded(path: Path) -> set[tuple[str, str, str, int]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {(line["case"], line["peer"], line["budget"], line["seed"]) for line in lines}


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--time", default="60s", help="budget of those that take one")
    parser.add_argument("--peers", help=f"some of {', '.join(TOOLS)}")
    parser.add_argument("--threads", type=int, default=cpu_quota(), help="for the peers; ours takes what there is")
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    parser.add_argument("--resume", action="store_true", help="leave out what the results have")
    parser.add_argument("--report", type=Path, help="folder for tables and plots; else that of the results")
    cache = Path.home() / ".cache" / "shardwise" / "peers"
    parser.add_argument("--environments", type=Path, default=cache, help="folder of the peers' environments")
    return parser.parse_args()


if __name__ == "__main__":
    main()

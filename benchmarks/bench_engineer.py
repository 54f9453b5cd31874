"""Loss with and without features of two columns (`--engineer auto`), on public data sets.

Each data set is split at random, 80 % to train. The recipe is planned from the profile of the training rows and fitted
on them, features are searched as a run does it, and LightGBM (learning rate 0.05, 31 leaves, early stopping on a tenth
of the training rows) learns from both matrices. Compared are losses on the other 20 % (1 - roc_auc, log_loss, rmse):
with the features that were kept over without, at most 1.0 in the mean. Where none is kept the ratio is 1.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

from bench_quality import write_split
from common import DATA_SETS, Results, available, chosen, make_parser, verdict
from shardwise.core.target import Target
from shardwise.data.profile import Profile
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe
from shardwise.split.base import TEST
from shardwise.train.engineering import search
from shardwise.train.targets import infer_target

LIMIT = 1.0
FOLDS = 5
NAMES = (
    "adult", "bank_marketing", "california_housing", "diamonds", "credit_risk", "covtype_20k", "spambase", "house_16h",
    "pol", "kin8nm", "higgs_7k", "electricity_elec2", "bike_sharing_hour", "telco_churn", "hotel_bookings", "etth1",
)  # fmt: skip


class ByPlace:
    """A row's fold by its place."""

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:
        return ((first_row + np.arange(batch.num_rows)) % FOLDS).astype(np.int8)

    def to_json(self) -> dict[str, Any]:
        return {}


def main() -> None:
    args = _arguments()
    results = Results("engineer", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            figures, added = compare(args, name, seed)
            results.add(name, figures, seed=seed, rows=args.rows, features=added)
            print(f"{name}: {figures['ratio']:.4f} of the loss without; {'; '.join(added) or 'none kept'}", flush=True)
    results.print_table()
    for what, ratios in (
        ("all data sets", [row["ratio"] for row in results.rows]),
        ("those with added features", [row["ratio"] for row in results.rows if row["added"]]),
    ):
        if ratios:
            mean = float(np.exp(np.mean(np.log(ratios))))
            print(f"geometric mean of {len(ratios)}, {what}: {mean:.4f}, {verdict(mean, LIMIT)}")


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=60_000, help="at most so many rows of each data set")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Figures for the table, and the names of the features that were kept."""
    data_set = DATA_SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        write_split(data_set, args.data / f"{name}.parquet", Path(folder), seed, args.rows)
        train, test = (_batch(Path(folder) / f"{part}.parquet") for part in ("train", "test"))
    profile = Profile(train.schema)
    profile.update(train)
    target = infer_target(data_set.target, profile.columns[data_set.target], task=data_set.task)
    recipe = _fitted(train, profile, target)
    started = time.process_time()
    steps, evidence = search(recipe, profile.sample(), target, ByPlace(), seed)  # type: ignore[arg-type]
    cpu_s = time.process_time() - started
    more = recipe.extended([{"kind": kind, "content": step.state()} for kind, step in steps])
    plain = _loss(recipe, (train, test), target, seed)
    ours = _loss(more, (train, test), target, seed) if steps else plain
    added = [feature.name for feature in more.features[len(recipe.features) :]]
    figures = {
        "ratio": ours / plain, "without": plain, "with": ours, "tried": evidence["tried"], "added": len(added),
        "gain": evidence["gain"], "t": evidence["t"], "search_cpu_s": round(cpu_s, 1),
    }  # fmt: skip
    return figures, added


def _batch(path: Path) -> pa.RecordBatch:
    return pq.read_table(path).combine_chunks().to_batches()[0]


def _fitted(train: pa.RecordBatch, profile: Profile, target: Target) -> Recipe:
    visible = {fold: [other for other in range(FOLDS) if other != fold] for fold in range(FOLDS)}
    recipe = Recipe.plan(train.schema, profile, target=target, visible={**visible, TEST: list(range(FOLDS))})
    merged = recipe.summaries()
    labels = pa.array(target.encode(train.column(target.column)))
    labelled = train.append_column(TARGET, labels).append_column(FOLD, pa.array(ByPlace().assign(train, 0)))
    for summary in merged.values():
        summary.update(labelled)
    recipe.fit(merged)
    return recipe


def _loss(recipe: Recipe, parts: tuple[pa.RecordBatch, pa.RecordBatch], target: Target, seed: int) -> float:
    """On the test rows, of LightGBM that has learned from the recipe's features of the training rows."""
    train, test = parts
    X, X_new = recipe.transform(train, folds=ByPlace().assign(train, 0)), recipe.transform(test)
    y, y_new = (target.encode(part.column(target.column)) for part in parts)
    valid = np.random.default_rng(seed).random(len(y)) < 0.1
    objective = {"binary": "binary", "multiclass": "multiclass"}.get(target.task, "regression")
    params: dict[str, Any] = {
        "objective": objective, "learning_rate": 0.05, "num_leaves": 31, "verbosity": -1, "num_threads": 1, "seed": 1,
    } | ({"num_class": len(target.classes)} if objective == "multiclass" else {})  # fmt: skip
    seen = lgb.Dataset(X[~valid], y[~valid], params={"verbosity": -1})
    stop = lgb.early_stopping(50, verbose=False)
    model = lgb.train(params, seen, 1500, valid_sets=[seen.create_valid(X[valid], y[valid])], callbacks=[stop])
    said = np.asarray(model.predict(X_new, num_threads=1))
    if target.task == "binary":
        return 1.0 - float(roc_auc_score(y_new, said))
    if target.task == "multiclass":
        return float(log_loss(y_new, said, labels=range(len(target.classes))))
    return float(root_mean_squared_error(y_new, said))


if __name__ == "__main__":
    main()

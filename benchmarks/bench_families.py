"""Forests, AdaBoost and support vector machines against scikit-learn's, on the same rows of five public data sets each.

Each data set is cut at random into 80 % and 20 %; of the training rows a tenth tells ours when to stop, the peer learns
from all of them. Ours is one model of the family, at the family's defaults; so is the peer: `RandomForestClassifier`,
`ExtraTreesClassifier` (300 trees), `AdaBoostClassifier` (300 stumps), `LinearSVC`, and `RBFSampler` (1,024 features,
gamma 0.5 / inputs) with `SGDClassifier`, or their regressors. Trees get categories as codes, the others one column for
each value, and standardised numbers. Compared are losses on the test rows: 1 - roc_auc, the share of errors, rmse.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from common import DATA_SETS, DataSet, Results, chosen, make_parser, verdict
from shardwise.compute.ceiling import cpu_quota
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES, build
from shardwise.testing.models import TRAIN, VALID, Table, on_disk

TREES, MARGINS = "trees", "margins"
CASES: dict[str, tuple[str, dict[str, Any], str, tuple[str, ...]]] = {
    "forest": ("forest", {}, TREES, ("adult", "covtype_20k", "california_housing", "house_16h", "spambase")),
    "extra trees": (
        "forest", {"extra_trees": True, "subsample": 1.0}, TREES,
        ("adult", "covtype_20k", "california_housing", "house_16h", "spambase"),
    ),
    "adaboost": ("adaboost", {}, TREES, ("adult", "bank_marketing", "covtype_20k", "dry_bean", "spambase")),
    "linear svm": ("svm", {}, MARGINS, ("adult", "bank_marketing", "dry_bean", "spambase", "california_housing")),
    "kernel svm": ("svm", {"kernel": "rbf"}, MARGINS, ("adult", "dry_bean", "spambase", "covtype_20k", "kin8nm")),
}  # fmt: skip
MOST_VALUES = 1000  # of a category; with more it is left out on both sides
LIMIT = 1.02


def main() -> None:
    args = _arguments()
    results = Results("families", args.results)
    for case in chosen(args.only, CASES):
        for name in CASES[case][3]:
            if args.set and name not in args.set.split(","):
                continue
            for seed in range(args.repeat):
                figures = compare(args, case, name, seed)
                results.add(f"{case}, {name}", figures, seed=seed, threads=args.threads)
                print(
                    f"{case}, {name}: {figures['ratio']:.3f} of scikit-learn's loss: {figures['verdict']}", flush=True
                )
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    parser.add_argument("--set", metavar="A,B", help="only these data sets")
    parser.add_argument("--threads", type=int, default=cpu_quota(), help="for both sides")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a param of ours")
    return parser.parse_args()


def compare(args: argparse.Namespace, case: str, name: str, seed: int) -> dict[str, Any]:
    """Losses of both on the test rows, their ratio, and seconds."""
    family, params, kind, _ = CASES[case]
    data = Data(DATA_SETS[name], args.data / f"{name}.parquet", seed, args.rows)
    started = time.perf_counter()
    asked = {name: yaml.safe_load(value) for name, value in (pair.split("=", 1) for pair in args.param)}
    ours = data.loss(_ours(data, family, params | asked, args.threads))
    between = time.perf_counter()
    theirs = data.loss(_theirs(data, case, kind, args.threads))
    return {
        "ours": ours, "peer": theirs, "ratio": ours / theirs, "verdict": verdict(ours / theirs, LIMIT),
        "ours_s": round(between - started, 1), "peer_s": round(time.perf_counter() - between, 1),
    }  # fmt: skip


class Data:
    """A table cut into training and test rows, as codes and numbers."""

    def __init__(self, data_set: DataSet, path: Path, seed: int, rows: int | None) -> None:
        frame = pq.read_table(path).to_pandas().drop(columns=list(data_set.drop)).dropna(subset=[data_set.target])
        frame = frame.sample(frac=1.0, random_state=seed)[:rows]
        y = frame.pop(data_set.target)
        self.task = Task(data_set.task)
        self.y = pd.factorize(y, sort=True)[0].astype(np.float64) if self.task.is_classification else y.to_numpy(float)
        self.classes = tuple(range(int(self.y.max()) + 1)) if self.task.is_classification else ()
        frame = frame.apply(lambda c: c if pd.api.types.is_numeric_dtype(c) and c.dtype != bool else c.astype(str))
        texts = [name for name in frame if frame[name].dtype == object or str(frame[name].dtype) == "str"]
        self.frame = frame.drop(columns=[name for name in texts if frame[name].nunique() > MOST_VALUES])
        self.texts = [name for name in texts if name in self.frame]
        self.train = np.arange(len(self.y)) < int(0.8 * len(self.y))

    def loss(self, prediction: np.ndarray) -> float:
        """Of what was said of the test rows: classes' scores `(rows, classes)`, or `(rows,)`."""
        y = self.y[~self.train]
        if self.task is Task.BINARY:
            return 1.0 - float(roc_auc_score(y, prediction if prediction.ndim == 1 else prediction[:, 1]))
        if self.task is Task.MULTICLASS:
            return 1.0 - float(accuracy_score(y, prediction.argmax(axis=1)))
        return float(root_mean_squared_error(y, prediction))

    def codes(self) -> np.ndarray:
        """Float32 `(rows, columns)`: numbers, and categories as codes from 1; NaN where missing."""
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        frame = self.frame.copy()
        if self.texts:
            encoder.fit(frame.loc[self.train, self.texts])
            frame[self.texts] = encoder.transform(frame[self.texts]) + 1
        return np.asfortranarray(frame.to_numpy(np.float32))


def _features(data: Data, X: np.ndarray) -> list[Feature]:
    features = []
    for place, name in enumerate(data.frame):
        column = X[data.train, place].astype(np.float64)
        if name in data.texts:
            features.append(
                Feature(name=name, source=name, kind=FeatureKind.CODE, cardinality=int(np.nanmax(column)) + 1)
            )
            continue
        low, middle, high = np.nanquantile(column, [0.001, 0.5, 0.999])
        feature = Feature(name=name, source=name, kind=FeatureKind.NUMBER, low=float(low), high=float(high))
        scale = float(np.nanstd(column)) or 1.0
        features.append(replace(feature, fill=float(middle), center=float(np.nanmean(column)), scale=scale))
    return features


def _ours(data: Data, family: str, params: dict[str, Any], threads: int) -> np.ndarray:
    X = data.codes()
    features = _features(data, X)
    folds = np.where(np.arange(data.train.sum()) % 10 == 0, VALID, TRAIN).astype(np.int8)
    table = Table(X[data.train], data.y[data.train], None, folds)
    with tempfile.TemporaryDirectory() as folder:
        rows = on_disk(Path(folder), table, features, FAMILIES[family].traits.reads)
        model = build(family, Target(column="y", task=data.task, classes=data.classes), features, params)
        model.fit(*rows, FitRun(seed=1, threads=threads))
    return model.predict(X[~data.train])


def _theirs(data: Data, case: str, kind: str, threads: int) -> np.ndarray:
    model = _peer(case, data, threads)
    if kind == TREES:
        X: Any = np.nan_to_num(data.codes(), nan=-1.0)  # AdaBoost takes no missing values
    else:
        numbers = [name for name in data.frame if name not in data.texts]
        X = data.frame.copy()
        X[numbers] = X[numbers].astype(float).fillna(X.loc[data.train, numbers].median())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        columns = make_column_transformer((StandardScaler(), numbers), (one_hot, data.texts))
        columns.fit(X[data.train])
        X = columns.transform(X)
    y = data.y[data.train]
    scale = 1.0 if data.task.is_classification else y.std()  # descents need standardised targets
    center = 0.0 if data.task.is_classification else y.mean()
    model.fit(X[data.train], (y - center) / scale)
    if not data.task.is_classification:
        return np.asarray(model.predict(X[~data.train])) * scale + center
    said = model.predict_proba if kind == TREES else model.decision_function
    return np.asarray(said(X[~data.train]))


def _peer(case: str, data: Data, threads: int) -> Any:
    classes = data.task.is_classification
    if case == "forest":
        kind = RandomForestClassifier if classes else RandomForestRegressor
        return kind(n_estimators=300, n_jobs=threads, random_state=0)
    if case == "extra trees":
        kind = ExtraTreesClassifier if classes else ExtraTreesRegressor
        return kind(n_estimators=300, n_jobs=threads, random_state=0)
    if case == "adaboost":
        return AdaBoostClassifier(n_estimators=300, random_state=0)
    if case == "linear svm":
        return LinearSVC(random_state=0, max_iter=5000) if classes else LinearSVR(random_state=0, max_iter=5000)
    descent = SGDClassifier if classes else SGDRegressor
    loss = "hinge" if classes else "epsilon_insensitive"
    gamma = 0.5 / data.frame.shape[1]
    return make_pipeline(
        RBFSampler(gamma=gamma, n_components=1024, random_state=0),
        descent(loss=loss, alpha=1e-5, early_stopping=True, random_state=0),
    )


if __name__ == "__main__":
    main()

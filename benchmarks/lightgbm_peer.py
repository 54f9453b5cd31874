"""The peer: LightGBM as somebody who knows it well would run it by hand, with pandas and early stopping.

A tenth of the training file is held out for early stopping. Four runs - 31 and 127 leaves, categories native and as
ordinal codes - and the best of them by that tenth is scored on the test file. Dates become elapsed days and calendar
parts. Without a time limit, or as far as these runs come one after the other: the clock ends the one that it finds.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from sklearn.metrics import log_loss, mean_poisson_deviance, roc_auc_score, root_mean_squared_error
from sklearn.preprocessing import OrdinalEncoder

LEAVES = (31, 127)
CATEGORIES = ("native", "ordinal")
LEARNING_RATE = 0.05
MAX_ROUNDS = 5000
PATIENCE_ROUNDS = 100
VALID_SHARE = 0.1
OBJECTIVES = {"binary": "binary", "multiclass": "multiclass", "regression": "regression", "count": "poisson"}
WATCHED = {"binary": "auc", "multiclass": "multi_logloss", "regression": "rmse", "count": "poisson"}


@dataclass(frozen=True)
class Tables:
    """Features and labels; of a classification the labels are codes into `classes`."""

    train: pd.DataFrame
    test: pd.DataFrame
    y_train: np.ndarray
    y_test: np.ndarray
    classes: int


def best_lightgbm(train: str, test: str, target: str, task: str, threads: int) -> dict[str, Any]:
    """`{"value": metric on the test file, "chosen": {...}, "tried": [...]}` for two Parquet files."""
    tables = _read(train, test, target, task)
    booster, X_test, tried, best = fit_best(tables, task, threads)
    value = test_score(task, tables.y_test, np.asarray(booster.predict(X_test)))
    return {"value": value, "chosen": tried[best], "tried": tried}


def fit_best(
    tables: Tables, task: str, threads: int, until_s: float = math.inf
) -> tuple[lgb.Booster, pd.DataFrame, list[dict[str, Any]], int]:
    """The best booster of those that there is time for until `time.perf_counter()` is `until_s`, its test features,
    what was tried, and which of it is the best; the first is always there, with a tree at least."""
    valid = np.zeros(len(tables.y_train), bool)
    valid[np.random.default_rng(0).permutation(len(valid))[: int(VALID_SHARE * len(valid))]] = True
    tried: list[dict[str, Any]] = []
    boosters: list[tuple[lgb.Booster, pd.DataFrame]] = []
    for categories in CATEGORIES:
        X, X_test = _encoded(tables, categories)
        for leaves in LEAVES:
            if boosters and time.perf_counter() > until_s:
                break
            booster, score = _fit(X, tables, valid, _params(task, tables.classes, leaves, threads), until_s)
            tried.append({"categories": categories, "leaves": leaves, "rounds": booster.best_iteration, "valid": score})
            boosters.append((booster, X_test))
    better = -1.0 if task == "binary" else 1.0
    best = min(range(len(tried)), key=lambda i: better * tried[i]["valid"])
    return *boosters[best], tried, best


def test_score(task: str, y: np.ndarray, prediction: np.ndarray) -> float:
    """roc_auc, log_loss, rmse or mean_poisson_deviance, by scikit-learn."""
    if task == "binary":
        return float(roc_auc_score(y, prediction))
    if task == "multiclass":
        return float(log_loss(y, prediction, labels=np.arange(prediction.shape[1])))
    if task == "count":
        return float(mean_poisson_deviance(y, prediction))
    return float(root_mean_squared_error(y, prediction))


def _fit(
    X: pd.DataFrame, tables: Tables, valid: np.ndarray, params: dict[str, Any], until_s: float
) -> tuple[lgb.Booster, float]:
    """A booster that stopped early, or with the clock, and its best validation score."""

    best: list[Any] = [math.inf, 0, []]

    def end(env: Any) -> None:
        *_, value, is_higher_better = env.evaluation_result_list[0]
        if (loss := -value if is_higher_better else value) < best[0]:
            best[:] = loss, env.iteration, env.evaluation_result_list
        if time.perf_counter() > until_s:
            raise lgb.callback.EarlyStopException(*best[1:])

    y = tables.y_train
    train_set = lgb.Dataset(X[~valid], y[~valid])
    valid_set = lgb.Dataset(X[valid], y[valid], reference=train_set)
    stop = lgb.early_stopping(PATIENCE_ROUNDS, verbose=False)
    booster = lgb.train(params, train_set, MAX_ROUNDS, valid_sets=[valid_set], callbacks=[stop, end])
    return booster, float(booster.best_score["valid_0"][params["metric"]])


def _params(task: str, classes: int, leaves: int, threads: int) -> dict[str, Any]:
    return {
        "objective": OBJECTIVES[task],
        "metric": WATCHED[task],
        "learning_rate": LEARNING_RATE,
        "num_leaves": leaves,
        "num_threads": threads,
        "num_class": classes if task == "multiclass" else 1,
        "seed": 0,
        "verbosity": -1,
    }


def _read(train: str, test: str, target: str, task: str) -> Tables:
    frames = [pq.read_table(path).to_pandas() for path in (train, test)]
    y_train, y_test = (frame.pop(target).to_numpy() for frame in frames)
    classes = 1
    if task in ("binary", "multiclass"):
        known = np.unique(y_train)
        y_train, y_test, classes = np.searchsorted(known, y_train), np.searchsorted(known, y_test), len(known)
    return Tables(with_date_parts(frames[0]), with_date_parts(frames[1]), y_train, y_test, classes)


def with_date_parts(frame: pd.DataFrame) -> pd.DataFrame:
    """Each timestamp replaced by days since 1970 and parts of the calendar; booleans are numbers."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            columns[f"{name} days"] = (column - pd.Timestamp(0, tz=column.dt.tz)) / pd.Timedelta(days=1)
            for part in ("year", "month", "day", "dayofweek", "dayofyear", "hour"):
                columns[f"{name} {part}"] = getattr(column.dt, part)
        else:
            columns[name] = column.astype("int8") if pd.api.types.is_bool_dtype(column) else column
    return pd.DataFrame(columns)


def _encoded(tables: Tables, categories: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and test features, with texts as pandas categories or as ordinal codes; known are those of the training."""
    texts = [name for name in tables.train.columns if not pd.api.types.is_numeric_dtype(tables.train[name])]
    frames = [tables.train.copy(), tables.test.copy()]
    if categories == "native":
        for name in texts:
            kind = pd.CategoricalDtype(sorted(tables.train[name].dropna().unique()))
            for frame in frames:
                frame[name] = frame[name].astype(kind)
    elif texts:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=np.nan)
        encoder.fit(tables.train[texts].astype(object))
        for frame in frames:
            frame[texts] = pd.DataFrame(encoder.transform(frame[texts].astype(object)), frame.index, texts)
    plain: Mapping[str, str] = {name: f"f{i}" for i, name in enumerate(frames[0].columns)}  # LightGBM is picky
    return frames[0].rename(columns=plain), frames[1].rename(columns=plain)

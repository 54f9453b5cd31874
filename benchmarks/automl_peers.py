"""One peer of `bench_automl.py`, run in an environment of its own, which need not have shardwise.

    python automl_peers.py PEER '{"train": ..., "test": ..., "target": ..., "task": ..., "classes": 2, "time_s": 60,
                                  "threads": 2, "folder": ...}'

Reads two Parquet files (the target of a classification is a code from 0), fits within `time_s` as the peer's own
documentation says, writes what it answers for the test file to `folder/answers.npy` - float64 `(rows, classes)`, or
`(rows,)` - and prints one line of JSON: `{"fit_s": ..., "predict_s": ..., "model_bytes": ..., "peer_versions": ...}`.
The seconds of fitting are those of the call that is given the time, without imports and the start of servers.
"""

import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

VALID_SHARE = 0.1
PATIENCE_ROUNDS = 100
MOST_ROUNDS = 5_000
LEAST_COUNT = 1e-9  # that is predicted
MEMORY_SHARE = 0.75  # of the machine's, for Java


@dataclass(kw_only=True)
class Job:
    """What a peer is asked; `X` and `X_test` are frames, `y` codes or numbers."""

    X: pd.DataFrame
    y: pd.Series
    X_test: pd.DataFrame
    task: str
    classes: int
    time_s: float
    threads: int
    folder: Path
    began: float = 0.0  # when its time began to run: imports and servers come before ...
    fit_s: float = 0.0  # ... and how long it took

    @property
    def classifies(self) -> bool:
        return self.task in ("binary", "multiclass")

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Around what is given the time."""
        self.began = time.perf_counter()
        yield
        self.fit_s = time.perf_counter() - self.began


Answers = tuple[Callable[[], np.ndarray], Callable[[], int]]  # (predict the test rows, bytes of the model on disk)


def poisson(y: Any, prediction: Any) -> float:
    """The mean Poisson deviance, by which tasks of counts are scored."""
    from sklearn.metrics import mean_poisson_deviance

    return float(mean_poisson_deviance(y, np.clip(prediction, LEAST_COUNT, None)))


def autogluon(job: Job, preset: str) -> Answers:
    """AutoGluon by one of its presets. The model is in memory before it is asked, and sized as it is deployed."""
    from autogluon.core.metrics import make_scorer
    from autogluon.tabular import TabularPredictor

    metric: Any = {"binary": "roc_auc", "multiclass": "log_loss"}.get(job.task, "root_mean_squared_error")
    if job.task == "count":
        metric = make_scorer("mean_poisson_deviance", poisson, optimum=0.0, greater_is_better=False)
    kind = job.task if job.classifies else "regression"
    path = job.folder / preset
    predictor = TabularPredictor("label", problem_type=kind, eval_metric=metric, path=str(path), verbosity=0)
    with job.fitting():
        predictor.fit(job.X.assign(label=job.y), time_limit=job.time_s, presets=preset, num_cpus=job.threads)
    predictor.persist()

    def predict() -> np.ndarray:
        if not job.classifies:
            return predictor.predict(job.X_test).to_numpy()
        return _all_classes(predictor.predict_proba(job.X_test).to_numpy(), predictor.class_labels, job.classes)

    def size() -> int:
        return _folder_bytes(Path(predictor.clone_for_deployment(str(job.folder / f"{preset} deployed"))))

    return predict, size


def flaml(job: Job) -> Answers:
    """FLAML's AutoML with its defaults."""
    from flaml import AutoML

    metric: Any = {"binary": "roc_auc", "multiclass": "log_loss"}.get(job.task, "rmse")
    if job.task == "count":
        metric = _flaml_poisson
    model = AutoML()
    with job.fitting():
        model.fit(
            job.X, job.y, task="classification" if job.classifies else "regression", metric=metric,
            time_budget=job.time_s, n_jobs=job.threads, verbose=0, seed=0,
        )  # fmt: skip

    def predict() -> np.ndarray:
        if not job.classifies:
            return np.asarray(model.predict(job.X_test))
        return _all_classes(model.predict_proba(job.X_test), model.classes_, job.classes)

    return predict, lambda: len(pickle.dumps(model))


def _flaml_poisson(X_val: Any, y_val: Any, estimator: Any, *_rest: Any, **_more: Any) -> tuple[float, dict[str, float]]:
    loss = poisson(y_val, estimator.predict(X_val))
    return loss, {"mean_poisson_deviance": loss}


def h2o(job: Job) -> Answers:
    """H2O's AutoML with its defaults, in a Java process with three quarters of the memory."""
    import h2o as server
    import psutil
    from h2o.automl import H2OAutoML

    heap = f"{int(MEMORY_SHARE * psutil.virtual_memory().total / 1e9)}G"
    server.init(nthreads=job.threads, max_mem_size=heap, bind_to_localhost=True)
    server.no_progress()
    frame, test = server.H2OFrame(job.X.assign(label=job.y)), server.H2OFrame(job.X_test)
    if job.classifies:
        frame["label"] = frame["label"].asfactor()
    metric = {"binary": "AUC", "multiclass": "logloss"}.get(job.task, "RMSE")
    counts = {"distribution": "poisson", "sort_metric": "mean_residual_deviance"} if job.task == "count" else {}
    model = H2OAutoML(**{"max_runtime_secs": int(job.time_s), "seed": 1, "sort_metric": metric, **counts})
    with job.fitting():
        model.train(y="label", training_frame=frame)

    def predict() -> np.ndarray:
        answers = model.leader.predict(test).as_data_frame()
        if not job.classifies:
            return answers["predict"].to_numpy()
        names = [name for name in answers.columns if name != "predict"]
        return _all_classes(answers[names].to_numpy(), [int(name.lstrip("p")) for name in names], job.classes)

    return predict, lambda: Path(server.save_model(model.leader, path=str(job.folder), force=True)).stat().st_size


def lightgbm(job: Job) -> Answers:
    """LightGBM as in `lightgbm_peer.py`: its four settings as far as there is time."""
    from lightgbm_peer import Tables, fit_best, with_date_parts

    frames = [with_date_parts(frame) for frame in (job.X, job.X_test)]
    tables = Tables(*frames, job.y.to_numpy(), np.zeros(0), job.classes or 1)
    with job.fitting():
        model, X_test, _, _ = fit_best(tables, job.task, job.threads, job.began + job.time_s)
    return lambda: _both(np.asarray(model.predict(X_test)), job), lambda: len(model.model_to_string())


def xgboost(job: Job) -> Answers:
    """One XGBoost with early stopping, native categories; what it has when the time is up counts."""
    import xgboost as xgb

    class End(xgb.callback.TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - of the interface
            return time.perf_counter() - job.began > job.time_s

    X, X_test = _categories(job)
    valid = _valid_rows(job)
    kinds = {"binary": "binary:logistic", "multiclass": "multi:softprob", "count": "count:poisson"}
    params = {
        "objective": kinds.get(job.task, "reg:squarederror"), "learning_rate": 0.08, "nthread": job.threads,
        "seed": 0, **({"num_class": job.classes} if job.task == "multiclass" else {}),
    }  # fmt: skip
    parts = [xgb.DMatrix(X[rows], job.y[rows], enable_categorical=True) for rows in (~valid, valid)]
    with job.fitting():
        model = xgb.train(
            params, parts[0], MOST_ROUNDS, evals=[(parts[1], "valid")], early_stopping_rounds=PATIENCE_ROUNDS,
            verbose_eval=False, callbacks=[End()],
        )  # fmt: skip
    rounds = (0, model.best_iteration + 1)

    def predict() -> np.ndarray:
        return _both(model.predict(xgb.DMatrix(X_test, enable_categorical=True), iteration_range=rounds), job)

    return predict, lambda: len(model.save_raw())


def hgb(job: Job) -> Answers:
    """scikit-learn's histogram gradient boosting with early stopping, no time limit."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    X, X_test = _categories(job, most=255)
    given: dict[str, Any] = {
        "max_iter": MOST_ROUNDS, "early_stopping": True, "n_iter_no_change": PATIENCE_ROUNDS,
        "validation_fraction": VALID_SHARE, "learning_rate": 0.05, "random_state": 0,
        "categorical_features": "from_dtype",
    }  # fmt: skip
    kind = HistGradientBoostingClassifier if job.classifies else HistGradientBoostingRegressor
    if not job.classifies:
        given["loss"] = "poisson" if job.task == "count" else "squared_error"
    with job.fitting():
        model = kind(**given).fit(X, job.y)

    def predict() -> np.ndarray:
        if not job.classifies:
            return np.asarray(model.predict(X_test))
        return _all_classes(model.predict_proba(X_test), model.classes_, job.classes)

    return predict, lambda: len(pickle.dumps(model))


PEERS: dict[str, Callable[[Job], Answers]] = {
    "autogluon": partial(autogluon, preset="best_quality_v150"),
    "autogluon_best": partial(autogluon, preset="best_quality"),
    "autogluon_medium": partial(autogluon, preset="medium_quality"),
    "flaml": flaml, "h2o": h2o, "lightgbm": lightgbm, "xgboost": xgboost, "hgb": hgb,
}  # fmt: skip
LIBRARIES = (
    "autogluon.tabular", "flaml", "h2o", "lightgbm", "xgboost-cpu", "scikit-learn", "catboost", "torch", "fastai",
    "ray",
)  # fmt: skip


def _valid_rows(job: Job) -> np.ndarray:
    valid = np.zeros(len(job.y), bool)
    valid[np.random.default_rng(0).permutation(len(valid))[: int(VALID_SHARE * len(valid))]] = True
    return valid


def _categories(job: Job, most: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames whose texts are categories of the training (codes where there are more than `most`), dates days."""
    train, test = job.X.copy(), job.X_test.copy()
    for name in train.columns:
        if pd.api.types.is_datetime64_any_dtype(train[name]):
            for frame in (train, test):
                frame[name] = (frame[name] - pd.Timestamp(0, tz=frame[name].dt.tz)) / pd.Timedelta(days=1)
        elif not pd.api.types.is_numeric_dtype(train[name]) and not pd.api.types.is_bool_dtype(train[name]):
            kind = pd.CategoricalDtype(sorted(train[name].dropna().astype(str).unique()))
            for frame in (train, test):
                frame[name] = frame[name].astype(str).where(frame[name].notna()).astype(kind)
                if most is not None and len(kind.categories) > most:
                    frame[name] = frame[name].cat.codes
    plain = {name: f"f{place}" for place, name in enumerate(train.columns)}
    return train.rename(columns=plain), test.rename(columns=plain)


def _both(answers: np.ndarray, job: Job) -> np.ndarray:
    """Columns for both classes where a library gives that of the second."""
    return np.column_stack([1.0 - answers, answers]) if job.task == "binary" else answers


def _all_classes(answers: Any, known: Any, classes: int) -> np.ndarray:
    """A column for each code, in order; a class that was never seen has probability 0."""
    whole = np.zeros((len(answers), classes))
    whole[:, np.asarray(known, dtype=int)] = np.asarray(answers)
    return whole


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def main() -> None:
    name, asked = sys.argv[1], json.loads(sys.argv[2])
    train, test = (pd.read_parquet(asked[part]) for part in ("train", "test"))
    y, _ = train.pop(asked["target"]), test.pop(asked["target"])
    given = {name: asked[name] for name in ("task", "classes", "time_s", "threads")}
    job = Job(X=train, y=y.reset_index(drop=True), X_test=test, folder=Path(asked["folder"]), **given)
    predict, size = PEERS[name](job)
    asked_at = time.perf_counter()
    answers = predict()
    predict_s = time.perf_counter() - asked_at
    np.save(job.folder / "answers.npy", np.asarray(answers, np.float64))
    figures = {"fit_s": job.fit_s, "predict_s": predict_s, "model_bytes": size(), "peer_versions": {
        library: version for library in LIBRARIES if (version := _version(library))
    }}  # fmt: skip
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()

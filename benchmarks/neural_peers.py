"""One published network for `bench_neural.py`, run in an environment of its own, which need not have shardwise.

    python neural_peers.py PEER '{"data": ..., "answers": ..., "threads": 1, "seed": 0}'

`data` is an .npz file: `X` float64 `(rows, columns)`, `y` `(rows,)`, `part` `(rows,)` (0 to learn from, 1 to stop by,
2 to answer), `categories` bool `(columns,)`, `classes` (0: a regression). Writes what the peer answers for the rows of
part 2 to `answers` - float64 `(rows, classes)`, or `(rows,)` - and prints `{"fit_s": ..., "cpu_s": ..., ...}`.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd

FIT, STOP, ANSWER = 0, 1, 2


def make(peer: str, classifies: bool, threads: int, seed: int) -> Any:
    """The peer at its published defaults, its best epoch chosen by the loss that is compared.

    Where that is the cross-entropy, pytabkit's manual says to leave label smoothing out.
    """
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor, TabM_D_Classifier, TabM_D_Regressor

    kinds = {"realmlp": (RealMLP_TD_Regressor, RealMLP_TD_Classifier), "tabm": (TabM_D_Regressor, TabM_D_Classifier)}
    asked: dict[str, Any] = {"device": "cpu", "n_threads": threads, "random_state": seed}
    if classifies:
        asked |= {"val_metric_name": "cross_entropy"} | ({"use_ls": False} if peer == "realmlp" else {})
    return kinds[peer][classifies](**asked)


def frame_of(data: Any) -> pd.DataFrame:
    """Categories as such, missing numbers as the median of the rows that are learned from: the peers take none."""
    columns = {}
    for place, category in enumerate(data["categories"]):
        column = data["X"][:, place]
        if category:
            columns[f"f{place}"] = pd.Categorical(np.nan_to_num(column, nan=-2).astype(int).astype(str))
        else:
            middle = np.nanmedian(column[data["part"] == FIT])
            columns[f"f{place}"] = np.where(np.isnan(column), middle, column).astype(np.float32)
    return pd.DataFrame(columns)


def main() -> None:
    peer, asked = sys.argv[1], json.loads(sys.argv[2])
    data = np.load(asked["data"])
    X, part, classifies = frame_of(data), data["part"], int(data["classes"]) > 0
    y = data["y"].astype(int) if classifies else data["y"]
    known = part != ANSWER
    model = make(peer, classifies, asked["threads"], asked["seed"])
    began, began_cpu = time.perf_counter(), time.process_time()
    model.fit(X[known], y[known], val_idxs=np.flatnonzero(part[known] == STOP))
    fit_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    began = time.perf_counter()
    answers = model.predict_proba(X[~known]) if classifies else model.predict(X[~known])
    np.save(asked["answers"], np.asarray(answers, np.float64))
    print(json.dumps({"fit_s": fit_s, "cpu_s": cpu_s, "predict_s": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()

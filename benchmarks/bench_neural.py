"""The neural family beside published networks: pytabkit's RealMLP-TD (or TabM-D) at its defaults, on the same split.

Each data set is cut at random into 80 % and 20 %; a fifth of the former tells both when to stop (the best epoch is
kept). Ours is one fit of the family at its defaults, the peer one fit at its published defaults, each in a process of
its own, on as many threads; the peer in a virtual environment of its own. Compared are the loss on the last 20 % (rmse,
log_loss) and CPU seconds of the fit, measured one after the other: on a busy machine only their ratio means something.
Limits: 1.01 times the peer's loss, in at most its time.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench_families import Data, _features
from common import (
    DATA_SETS,
    HERE,
    PEER_ENVIRONMENT,
    Results,
    available,
    chosen,
    environment_of,
    in_fresh_process,
    make_parser,
    run_measured,
    verdict,
)
from neural_peers import ANSWER, FIT, STOP
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.models.losses import task_loss
from shardwise.testing.models import TRAIN, VALID, Table, on_disk

NAMES = ("covtype_20k", "otto_products", "california_housing", "adult", "kin8nm")
PEERS = ("realmlp", "tabm")
LOSS, SECONDS = 1.01, 1.0
REQUIREMENTS = ("pytabkit>=1.7", "torch")


def main() -> None:
    args = _arguments()
    results = Results("neural", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            figures = compare(args, name, seed)
            results.add(name, figures, seed=seed, rows=args.rows, threads=args.threads, params=args.param)
            print(f"{name}: {figures}", flush=True)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    parser.add_argument("--peer", default="realmlp", choices=(*PEERS, "none"), help="TabM takes many times as long")
    parser.add_argument("--threads", type=int, default=1, help="for both sides")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a param of ours")
    cache = Path.home() / ".cache" / "shardwise" / "peers"
    parser.add_argument("--environments", type=Path, default=cache, help="folder of the peers' environments")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Losses of both on the rows that neither has seen, their seconds, and the ratios."""
    asked = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in args.param)}
    given = {"name": name, "path": str(args.data / f"{name}.parquet"), "seed": seed, "rows": args.rows}
    mine, _ = in_fresh_process(ours, given=given, threads=args.threads, params=asked)
    figures = {"peer": args.peer, "metric": mine["metric"], "ours": mine["loss"], "theirs": None, "ratio": None,
               "ours_s": round(mine["cpu_s"], 1), "theirs_s": None, "time": None, "verdict": ""}  # fmt: skip
    if args.peer == "none":
        return figures
    answers, cpu_s = _peer(args, given)
    theirs = task_loss(*_truth(given), answers)
    loss, seconds = mine["loss"] / theirs, mine["cpu_s"] / cpu_s
    judged = f"loss {verdict(loss, LOSS)}, time {verdict(seconds, SECONDS)}"
    return figures | {"theirs": theirs, "ratio": round(loss, 4), "theirs_s": round(cpu_s, 1),
                      "time": round(seconds, 3), "verdict": judged}  # fmt: skip


def ours(given: dict[str, Any], threads: int, params: dict[str, Any]) -> dict[str, Any]:
    """One fit of the family: its loss and what it took; `given` says what is cut how."""
    data, part = _cut(**given)
    X, target = data.codes(), _target(data)
    known = part != ANSWER
    folds = np.where(part[known] == FIT, TRAIN, VALID).astype(np.int8)
    features = _features(data, X)
    with tempfile.TemporaryDirectory() as folder:
        pair = on_disk(Path(folder), Table(X[known], data.y[known], None, folds), features)
        model = build("neural", target, features, params)
        began, began_cpu = time.perf_counter(), time.process_time()
        model.fit(*pair, FitRun(seed=1 + given["seed"], threads=threads, device="cpu"))
        cost = {"cpu_s": time.process_time() - began_cpu, "fit_s": time.perf_counter() - began}
    metric = "log_loss" if data.task.is_classification else "rmse"
    return {"loss": task_loss(target, data.y[~known], model.predict(X[~known])), "metric": metric, **cost}


def _cut(name: str, path: str, seed: int, rows: int | None) -> tuple[Data, np.ndarray]:
    """The table, and of each row whether it is to learn from, to stop by, or to answer."""
    data = Data(DATA_SETS[name], Path(path), seed, rows)
    fifth = np.where(np.arange(len(data.y)) % 5 == 4, STOP, FIT)
    return data, np.where(data.train, fifth, ANSWER)


def _target(data: Data) -> Target:
    return Target(column="y", task=Task(data.task), classes=data.classes)


def _truth(given: dict[str, Any]) -> tuple[Target, np.ndarray]:
    data, part = _cut(**given)
    return _target(data), data.y[part == ANSWER]


def _peer(args: argparse.Namespace, given: dict[str, Any]) -> tuple[np.ndarray, float]:
    """What the peer answers, and CPU seconds of its fit."""
    data, part = _cut(**given)
    python = environment_of("pytabkit", REQUIREMENTS, args.environments)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        categories = np.array([column in data.texts for column in data.frame])
        np.savez(
            folder / "data.npz", X=data.codes().astype(np.float64), y=data.y, part=part, categories=categories,
            classes=len(data.classes),
        )  # fmt: skip
        words = {"data": str(folder / "data.npz"), "answers": str(folder / "answers.npy"), "threads": args.threads,
                 "seed": given["seed"]}  # fmt: skip
        command = [str(python), str(HERE / "neural_peers.py"), args.peer, json.dumps(words)]
        said = run_measured(command, folder, PEER_ENVIRONMENT).answer()
        return np.load(folder / "answers.npy"), said["cpu_s"]


if __name__ == "__main__":
    main()

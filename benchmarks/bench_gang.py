"""Gangs: whether each row is seen exactly once when members die, and what a second worker brings.

`once`: campaigns of 1, then 2, then 1 members that go through the same rows; each but the last is ended by killing one
of its members at a random instant, and the next goes on from the checkpoint. A model that counts its rows
(`gang_counts.py`) tells how often each was seen: once in each epoch. `trees`, `forest`, `adaboost`, `svm` (with a
kernel, streamed) and `neural`: one model on 2 processes of one thread each, against 1 process of one thread, and 1
process of two threads; ratios are medians of those of each repetition. A forest or AdaBoost of one process is timed as
it is grown without `--parallel data`; its loss is compared with the one of two processes with it, where the trees are
to be the same.
"""

import os
import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import Results, chosen, make_parser, verdict
from gang_counts import Count, write_rows
from shardwise.compute.gang.base import GangBroken
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.gang.local import ProcessLauncher, process_gang
from shardwise.core.errors import MemberLost
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.data.bins import Binner
from shardwise.data.rows import BinnedRows, DiskRows, RowsWriter, keep_binner
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES
from shardwise.models.sgd_resume import read_progress
from shardwise.plan.gangs import SLICES, Choice
from shardwise.train.parallel import Job, Room, SharedFits

TARGET = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
NUMBERS = 20
FEATURES = tuple(
    Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER, low=-5.0, high=5.0) for i in range(NUMBERS)
)
PARAMS: dict[str, dict[str, Any]] = {
    "neural": {"epochs": 1, "width": 256, "batch_rows": 1024},
    "svm": {"epochs": 2, "kernel": "rbf", "batch_rows": 1024},
}
OWN = ("forest", "adaboost")  # grown otherwise by one who is not asked for the trees of several
SHARES = {"trees": 1, "adaboost": 1, "forest": 1, "svm": 8, "neural": 25}  # of --rows; one in so many
CHUNK_ROWS = 500_000
SEEN_ROWS, EPOCHS = 20_000, 6


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--campaigns", type=int, default=50)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first campaign, from which its kills follow"
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="of trees; of others a share")
    parser.add_argument("--rounds", type=int, default=20, help="of boosting")
    args = parser.parse_args()
    results = Results("gang", args.results)
    with tempfile.TemporaryDirectory() as place:
        for case in chosen(args.only, ("once", *SHARES)):
            if case == "once":
                results.add(case, campaigns(Path(place) / case, args.first, args.campaigns))
                continue
            rows = args.rows // SHARES[case]
            speed = speeds(case, Path(place) / case, rows, args)
            results.add(case, {**speed, **limits(case, speed)}, rows=rows)
        for row in results.rows:
            print(", ".join(f"{key} {value}" for key, value in row.items()))


# -- exactly once -----------------------------------------------------------------------------------------------------


def campaigns(folder: Path, first: int, count: int) -> dict[str, Any]:
    """How many campaigns saw each row exactly once an epoch, how many members were killed, and how far the work was.

    `killed_at` are the least, the median and the largest share of the work that a kill left in the checkpoint.
    """
    write_rows(folder / "rows", SEEN_ROWS)
    right, shares = 0, list[float]()
    began = time.perf_counter()
    launcher = ProcessLauncher(2, threads=1)
    try:
        calm_s = {size: calm(launcher, folder, size) for size in (1, 2)}
        for number in range(first, first + count):
            counts, killed = campaign(launcher, folder, calm_s, random.Random(number))
            right += bool((counts == EPOCHS).all())
            shares += killed
    finally:
        launcher.close()
    seconds = (time.perf_counter() - began) / max(1, count)
    told = [round(each, 3) for each in (min(shares), statistics.median(shares), max(shares))] if shares else []
    midway = sum(share * EPOCHS % 1 > 0 for share in shares)
    return {"campaigns": count, "first": first, "exactly_once": right, "kills": len(shares), "killed_at": told,
            "midway_of_an_epoch": midway, "rows": SEEN_ROWS, "epochs": EPOCHS, "seconds_each": round(seconds, 2),
            "limit": verdict(count - right, 0)}  # fmt: skip


def calm(launcher: ProcessLauncher, folder: Path, size: int) -> float:
    """Seconds of the work, from where it has begun, by so many members of which nobody is killed."""
    work = Count(folder / "rows", folder / "calm", EPOCHS)
    for _ in range(2):  # the first loads the libraries
        StarGang(launcher).run(work, size)
    return time.time() - work.begun.stat().st_mtime


def campaign(
    launcher: ProcessLauncher, folder: Path, calm_s: dict[int, float], chance: random.Random
) -> tuple[np.ndarray, list[float]]:
    """1 > 2 > 1 members; the counts, and what share was done when each was killed."""
    checkpoint = folder / "kept"
    shutil.rmtree(checkpoint, ignore_errors=True)
    gang, work, shares = StarGang(launcher), Count(folder / "rows", checkpoint, EPOCHS), list[float]()
    for size in (1, 2):
        with _Killer(launcher, work, calm_s[size], chance):
            try:
                return gang.run(work, size)[0], shares
            except (MemberLost, GangBroken):  # who is left may say that the line broke before the dead one is named
                kept = read_progress(checkpoint)
                shares.append(0.0 if kept is None else kept.seen / (EPOCHS * SEEN_ROWS))
    return gang.run(work, 1)[0], shares


class _Killer:
    """Kills a member at a random instant after the first has begun its work, unless the work has ended before."""

    def __init__(self, launcher: ProcessLauncher, work: Count, calm_s: float, chance: random.Random) -> None:
        self._launcher, self._work, self._calm_s, self._chance = launcher, work, calm_s, chance
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> None:
        self._work.begun.unlink(missing_ok=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._work.begun.exists():
            if self._ended.wait(0.005):
                return
        if not self._ended.wait(self._chance.uniform(0.0, self._calm_s)) and (pids := self._launcher.pids()):
            os.kill(self._chance.choice(pids), signal.SIGKILL)


# -- speed ------------------------------------------------------------------------------------------------------------


def speeds(family: str, folder: Path, rows: int, args: Any) -> dict[str, Any]:
    """Seconds from the first round to the last one, on (processes x threads), medians."""
    write = write_codes if FAMILIES[family].traits.reads == "bins" else write_floats
    write(folder, rows)
    params = PARAMS.get(family, {"n_estimators": args.rounds} | ({} if family == "forest" else {"learning_rate": 0.1}))
    shapes = ((1, 1), (2, 1), (1, 2))
    times: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    losses: dict[tuple[int, int], float] = {}
    for _ in range(args.repeat):
        for shape in shapes:
            alone = shape[0] == 1 and family in OWN
            seconds, losses[shape] = fitted(family, folder, params, shape, slices=1 if alone else SLICES)
            times[shape].append(seconds)
    if family in OWN:
        _, losses[1, 1] = fitted(family, folder, params, (1, 1))
    found = {f"{p}x{t}_s": round(statistics.median(times[p, t]), 2) for p, t in shapes}
    return {
        **found, "gain": ratio(times[1, 1], times[2, 1]), "of_threads": ratio(times[1, 2], times[2, 1]),
        "loss_differs": abs(losses[2, 1] - losses[1, 1]) / losses[1, 1],
    }  # fmt: skip


def ratio(times: list[float], others: list[float]) -> float:
    """Median of the ratios of what was measured in turn."""
    return round(statistics.median(a / b for a, b in zip(times, others, strict=True)), 3)


def limits(case: str, speed: dict[str, Any]) -> dict[str, str]:
    """How they stand to what is wanted."""
    least = 1.7 if case in PARAMS else 1.8
    return {
        "gain_limit": verdict(least, speed["gain"]), "threads_limit": verdict(0.9, speed["of_threads"]),
        "loss_limit": verdict(speed["loss_differs"], 1e-4),
    }  # fmt: skip


def fitted(
    family: str, folder: Path, params: dict[str, Any], shape: tuple[int, int], *, slices: int = SLICES
) -> tuple[float, float]:
    """Seconds that a fit took but for starting processes and binning, and its last validation loss."""
    processes, threads = shape
    kind: Callable[..., Any] = BinnedRows if FAMILIES[family].traits.reads == "bins" else DiskRows
    train, valid = kind(folder, FEATURES, (0,)), kind(folder, FEATURES, (1,))
    marks: list[tuple[float, float]] = []

    def report(_step: int, loss: float) -> bool:
        marks.append((time.perf_counter(), loss))
        return True

    asked: list[float] = []

    def go_on() -> bool:
        asked.append(time.perf_counter())
        return True

    with process_gang(processes, threads=threads) as gang:
        choice = Choice(size=processes, families=frozenset(FAMILIES), text="")
        shared = SharedFits(lambda: gang, choice, Room(threads=threads, memory_bytes=2**62, shared=True))
        job = Job(
            family=family, params=params, target=TARGET, features=FEATURES, train=train, valid=valid, seed=1,
            threads=threads, memory_bytes=2**62, slices=slices, checkpoint=None, device="cpu", out=folder / "out",
        )  # fmt: skip
        shared.fit(job, FitRun(seed=1, report=report, go_on=go_on))
    began = asked[0] if family == "neural" else marks[0][0]
    return marks[-1][0] - began, marks[-1][1]


def write_codes(folder: Path, rows: int) -> None:
    writer, binner = RowsWriter(folder, NUMBERS, np.uint8), None
    for index in range(-(-rows // CHUNK_ROWS)):
        X, y, folds = piece(index, min(CHUNK_ROWS, rows - index * CHUNK_ROWS))
        if binner is None:
            binner = Binner.fit(FEATURES, X[:50_000])
            keep_binner(folder, binner)
        writer.write(index, binner.codes(X).T, y, None, folds)


def write_floats(folder: Path, rows: int) -> None:
    writer = RowsWriter(folder, NUMBERS)
    for index in range(-(-rows // CHUNK_ROWS)):
        writer.write(index, *_parts(piece(index, min(CHUNK_ROWS, rows - index * CHUNK_ROWS))))


def _parts(content: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
    X, y, folds = content
    return X, y, None, folds


def piece(index: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X float32 `(rows, NUMBERS)`, y 0 or 1, folds: a tenth is for validation."""
    rng = np.random.default_rng(index)
    X = rng.standard_normal((rows, NUMBERS), dtype=np.float32)
    drive = X[:, 0] + X[:, 1] * X[:, 2] + np.sin(2 * X[:, 3]) + 0.5 * X[:, 4:10].sum(axis=1)
    y = (drive + rng.standard_normal(rows, dtype=np.float32) > 0).astype(np.float64)
    return X, y, (np.arange(rows) % 10 == 9).astype(np.int8)


if __name__ == "__main__":
    main()

"""What an answer costs: seconds of a single row and of a batch, bytes on disk and in memory."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import binom

from shardwise.core.errors import TaskFailed
from shardwise.core.units import format_size
from shardwise.deploy.settings import GateConfig
from shardwise.deploy.verdict import Check, Status
from shardwise.serve.predictor import Predictor
from shardwise.store.files import folder_bytes

SINGLE_ROUNDS, BATCH_ROUNDS = 200, 15
BATCH_ROWS = 4_096
_LEAST_BYTES = 32_000_000  # of memory: below, a difference is noise of the allocator
Pair = tuple[Predictor, Predictor]


def cost_checks(pair: Pair, rows: pa.Table, config: GateConfig) -> Iterator[Check]:
    """Champion and challenger on the same rows."""
    yield from latency_checks(pair, rows, config)
    yield size_check(pair, config)
    yield memory_check(pair, rows, config)


def latency_checks(pair: Pair, rows: pa.Table, config: GateConfig) -> Iterator[Check]:
    """Ratios of seconds, measured in turns: what slows the machine slows both."""
    batch = rows.slice(0, BATCH_ROWS)
    singles = batch.slice(0, SINGLE_ROUNDS).to_pylist()
    one = [lambda number, each=each: each.row_scores(singles[number % len(singles)]) for each in pair]
    many = [lambda _, each=each: each.predict(batch) for each in pair]
    for name, works, rounds in (("a single row", one, SINGLE_ROUNDS), (f"{len(batch):,} rows", many, BATCH_ROUNDS)):
        seconds = in_turns(works, rounds, config.seed)
        yield _latency(name, seconds, config)


def in_turns(works: Sequence[Callable[[int], Any]], rounds: int, seed: int = 0) -> np.ndarray:
    """Seconds `(rounds, works)` of each work in each round, in an order that is drawn anew each time."""
    rng = np.random.default_rng(seed)
    seconds = np.empty((rounds, len(works)))
    for work in works:
        work(0)  # what happens once only is not counted
    for number in range(rounds):
        for place in rng.permutation(len(works)):
            started = time.perf_counter()
            works[place](number)
            seconds[number, place] = time.perf_counter() - started
    return seconds


def median_interval(values: np.ndarray, level: float) -> tuple[float, float, float]:
    """The median with the interval of order statistics (David and Nagaraja 2003, section 7.1).

    >>> median_interval(np.arange(1.0, 101.0), 0.95)
    (50.5, 40.0, 61.0)
    """
    ordered = np.sort(values)
    away = int(binom.ppf((1 - level) / 2, len(values), 0.5))
    return (
        float(np.median(values)),
        float(ordered[max(away - 1, 0)]),
        float(ordered[min(len(values) - away, len(values) - 1)]),
    )


def _latency(name: str, seconds: np.ndarray, config: GateConfig) -> Check:
    ratio, low, high = median_interval(seconds[:, 1] / seconds[:, 0], config.level)
    slower = low > config.latency_ratio
    first, second = np.median(seconds, axis=0) * 1e6
    text = (f"{name}: {second:,.0f} µs against {first:,.0f} µs, {ratio:.2f} times (interval {low:.2f} to {high:.2f}), "
            f"at most {config.latency_ratio:g} times")  # fmt: skip
    evidence = {"champion_us": float(first), "challenger_us": float(second), "ratio": ratio, "low": low, "high": high}
    return Check(group="cost", name=f"latency of {name}", status=Status.FAIL if slower else Status.PASS, text=text,
                 evidence=evidence)  # fmt: skip


def size_check(pair: Pair, config: GateConfig) -> Check:
    sizes = [folder_bytes(each.package.folder) for each in pair]
    return _ratio("size on disk", sizes, config.size_ratio, least=1)


def memory_check(pair: Pair, rows: pa.Table, config: GateConfig) -> Check:
    """Growth of a fresh process when the package is loaded and a batch predicted."""
    measured = [_footprint(each.package.folder, rows.slice(0, BATCH_ROWS)) for each in pair]
    taken = [told["predicted"] - told["before"] for told in measured]
    return _ratio("memory", taken, config.memory_ratio, least=_LEAST_BYTES)


def peak_memory(package: Path, rows: pa.Table) -> int:
    """The most bytes that a fresh process takes which loads a package and predicts the rows."""
    return _footprint(package, rows)["predicted"]


def _footprint(package: Path, rows: pa.Table) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="shardwise-memory-") as folder:
        path = Path(folder) / "rows.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows)
        command = [sys.executable, "-m", "shardwise.deploy.footprint", str(package), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise TaskFailed(f"the package could not be measured in a process of its own: {last[0]}")
    told: dict[str, int] = json.loads(done.stdout)
    return told


def _ratio(name: str, sizes: Sequence[int], most: float, *, least: int) -> Check:
    """Sizes below `least` count as that many."""
    first, second = sizes
    ratio = max(second, least) / max(first, least)
    text = f"{name}: {format_size(second)} against {format_size(first)}, at most {most:g} times"
    return Check(group="cost", name=name, status=Status.FAIL if ratio > most else Status.PASS, text=text,
                 evidence={"champion_bytes": first, "challenger_bytes": second, "ratio": ratio})  # fmt: skip

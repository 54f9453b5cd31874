"""A server under load while things happen to it: new versions, a killed worker, more requests than it can answer.

`swaps`: at least 100,000 requests, and meanwhile 20 new champions, a rollout to a fifth of the users that is taken back
and one that is promoted, by hand; each answer must be 200 and, to the byte, that of the version which it names.
`kill`: two workers, SIGKILL for one of them: only requests that were under way with it may fail, and nowhere is there a
pause of 2 seconds; beside it when two answer again. `same`: rollouts of a version that is as good and as fast, beside
processes that take the cores away: none may be rolled back. `overload`: requests at 3 times what a closed loop was
answered before and after, at fixed times, one row each and 64 each, over 256 connections, and over more than are
allowed: what is answered must be 0.9 of the closed loop's, the refusals 429 alone, and memory bounded: 20 MB and what
the connections send. Milliseconds are those of what was answered, from when it was sent.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

import load
from bench_serve import bodies_of, make_package
from common import Results, in_fresh_process, make_parser, run_cases, verdict
from servers import Server, serving, written
from shardwise.monitor.canary import RolloutRules
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import Rollouts
from shardwise.serve.online.live import Served
from shardwise.serve.online.rows import answer_json
from shardwise.serve.predictor import Predictor

SWAPS, LEAST_REQUESTS, BACK_S = 20, 100_000, 2.0
LEAST_GOOD, MOST_GROWTH_BYTES, MORE = 0.9, 20_000_000, 3.0
ROLLOUTS, ROLLOUT_S = 10, 6.0
ROWS, FEW, MANY = (1, 64), 256, 2_500  # rows of a request; connections, the last beyond --most-connections


def main() -> None:
    args = _arguments()
    results = Results("live", args.results)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        packages = [_made(folder / str(rows), rows) for rows in (20_000, 15_000)]
        measures = {"swaps": measure_swaps, "kill": measure_kill, "same": measure_same, "overload": measure_overload}
        run_cases(measures, results, args, packages)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load, but the one of `swaps`")
    parser.add_argument("--requests", type=int, default=LEAST_REQUESTS, help="least of `swaps`")
    return parser.parse_args()


def _made(folder: Path, rows: int) -> Path:
    folder.mkdir()
    return make_package(folder, argparse.Namespace(train_rows=rows))


# -- new versions ------------------------------------------------------------------------------------------------------


def measure_swaps(packages: list[Path], args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    folder = packages[0].parent
    registry = Registry(folder / "registry")
    for package in packages:
        registry.register("m", package)
    registry.promote("m@1")
    bodies = bodies_of(50)
    with (
        serving("m", "--registry", registry.place, "--poll", "50ms") as server,
        written(bodies) as file,
        ThreadPoolExecutor(1) as pool,
    ):
        stop = folder / "stop"
        asking = pool.submit(in_fresh_process, load.told, url=f"{server.url}/predict", bodies=file, connections=8,
                             least=args.requests, stop=str(stop))  # fmt: skip
        try:
            _change(registry, server)
        finally:
            stop.touch()
        seen, _ = asking.result()
    expected = {(place, text) for place, body in enumerate(bodies) for text in _answers(packages, json.loads(body))}
    wrong = sum(count for place, status, text, count in seen if status == 200 and (place, text) not in expected)
    failed = sum(count for _, status, _, count in seen if status != 200)
    requests = sum(count for *_, count in seen)
    named = {version: sum(count for *_, text, count in seen if f'"version":"{version}"' in text) for version in "12"}
    bad = wrong + failed + (requests < args.requests) + (min(named.values()) == 0)
    yield "swaps", {"requests": requests, "swaps": SWAPS, "rollouts": 2, "not_200": failed, "mixed": wrong,
                    "by_version": named, "verdict": verdict(bad, 0)}  # fmt: skip


def _change(registry: Registry, server: Server) -> None:
    """Champions in turn, each when the one before answers; then a rollout that is taken back, and one that is not."""
    for number in range(SWAPS):
        time.sleep(0.3)
        registry.promote(f"m@{2 - number % 2}")
        server.wait_for("swapped", number + 1)
    rollouts = Rollouts(registry)
    for number, outcome in enumerate(("rolled_back", "promoted")):
        rollouts.start("m@2", RolloutRules(steps=(0.2,), least_requests=1_000_000_000).to_json())
        server.wait_for("rollout_step", number + 1)
        time.sleep(2.0)
        rollouts.override("m", outcome, "by the benchmark")
        server.wait_for("rollout_left", number + 1)
        time.sleep(0.5)


def _answers(packages: list[Path], row: dict[str, Any]) -> list[str]:
    """What each version says of a row, as the server writes it."""
    texts = []
    for place, package in enumerate(packages):
        served = Served(name="m", version=str(place + 1), identity="", predictor=Predictor.load(package))
        texts.append(answer_json(served, served.predictor.scores_of_rows([row]), single=True).decode())
    return texts


# -- a worker that is killed -------------------------------------------------------------------------------------------


def measure_kill(packages: list[Path], args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    connections = 8
    with serving(f"m={packages[0]}", "--workers", "2") as server, written(bodies_of(500)) as file:
        server.wait_for("serving", 2)
        victim = psutil.Process(server.process.pid).children()[0].pid
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(in_fresh_process, load.again, url=f"{server.url}/predict", bodies=file,
                                 connections=connections, seconds=args.seconds)  # fmt: skip
            time.sleep(args.seconds / 2)
            killed_s = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            server.wait_for("serving", 3)
            figures, _ = asking.result()
        back_s = server.told("serving")[2][0] - killed_s
    lost = sum(figures["failed"].values())
    bad = (lost > connections) + (figures["longest_pause_ms"] > 1e3 * BACK_S)
    yield "kill", {**figures, "lost": lost, "under_way_at_most": connections, "two_again_s": round(back_s, 2),
                   "verdict": verdict(bad, 0)}  # fmt: skip


# -- versions that are as good -----------------------------------------------------------------------------------------


def measure_same(packages: list[Path], args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ARG001
    folder = packages[0].parent
    registry, stop = Registry(folder / "same"), folder / "stop_same"
    for package in packages:
        registry.register("m", package)
    registry.promote("m@1")
    with (
        serving("m", "--registry", registry.place, "--poll", "50ms") as server,
        written(bodies_of(500)) as file,
        ThreadPoolExecutor(1) as pool,
    ):
        asking = pool.submit(in_fresh_process, load.told, url=f"{server.url}/predict", bodies=file, connections=8,
                             least=1, stop=str(stop))  # fmt: skip
        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        try:
            for number in range(ROLLOUTS):
                Rollouts(registry).start("m@2", RolloutRules(steps=(0.2,), least_requests=1_000_000_000).to_json())
                server.wait_for("rollout_step", number + 1)
                time.sleep(ROLLOUT_S)
                if Rollouts(registry).running("m") is not None:
                    Rollouts(registry).override("m", "rolled_back", "by the benchmark")
                server.wait_for("rollout_left", number + 1)
        finally:
            stop.touch()
            for hog in hogs:
                hog.kill()
        seen, _ = asking.result()
    ends = [each["event"]["reason"] for each in registry.history("m") if each["event"]["kind"] == "rollout_ended"]
    wrong = [reason for reason in ends if reason != "by the benchmark"]
    yield "same", {"requests": sum(count for *_, count in seen), "rollouts": len(ends), "rolled_back": wrong,
                   "verdict": verdict(len(wrong), 0)}  # fmt: skip


# -- too many requests -------------------------------------------------------------------------------------------------


def measure_overload(packages: list[Path], args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    for rows in ROWS:
        single = bodies_of(rows * 50)
        groups = [single[at : at + rows] for at in range(0, len(single), rows)]
        bodies = single if rows == 1 else [f"[{','.join(group)}]" for group in groups]
        for connections in (FEW, MANY):
            with serving(f"m={packages[0]}") as server, written(bodies) as file:
                found = pushed(server, file, connections, args.seconds)
            grown = found["after_bytes"] - found["before_bytes"]
            others = [status for status in found["failed"] if status != "429"]
            bad = (found["good"] < LEAST_GOOD) + bool(others)
            bad += grown > MOST_GROWTH_BYTES + connections * len(bodies[0])
            yield f"overload, {rows} rows, {connections} connections", {**found, "verdict": verdict(bad, 0)}


def pushed(server: Server, file: str, connections: int, seconds: float) -> dict[str, Any]:
    """What a server answers that is asked for more than it can, and what a closed loop was answered around it."""
    given: dict[str, Any] = {"url": f"{server.url}/predict", "bodies": file, "seconds": seconds}
    memory = psutil.Process(server.process.pid).memory_info
    first, _ = in_fresh_process(load.closed, **given, connections=16)
    before, rate = memory().rss, MORE * first["requests_per_s"]
    found, _ = in_fresh_process(load.pushed, **given, connections=connections, rate=rate)
    after = memory().rss
    second, _ = in_fresh_process(load.closed, **given, connections=16)
    closed = (first["requests_per_s"] + second["requests_per_s"]) / 2
    return {**found, "closed_requests_per_s": round(closed, 1), "good": round(found["requests_per_s"] / closed, 3),
            "before_bytes": before, "after_bytes": after}  # fmt: skip


if __name__ == "__main__":
    main()

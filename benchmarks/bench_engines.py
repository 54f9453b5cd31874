"""Engines: what a task costs that does nothing, on local processes, Ray, Dask and Spark.

Each engine runs two workers of its own on this machine. Tasks go one after the other (the time from submit to answer)
and side by side through `stream` (the throughput). The same is done by a bare pool of processes of Python's own, with
which they are compared. From the cost follows how long a task should take: twenty times that keeps it under 5 %.
"""

import importlib.util
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

from common import Results, chosen, make_parser
from shardwise.compute.base import Executor, stream
from shardwise.compute.engines import make_executor

NEEDS = {"local": "shardwise", "ray": "ray", "dask": "distributed", "spark": "pyspark"}
WORKERS = 2


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", type=int, default=200, help="tasks of each kind")
    args = parser.parse_args()
    results = Results("engines", args.results)
    pool_ms = of_pool(args.tasks)
    for engine in chosen(args.only, NEEDS):
        if importlib.util.find_spec(NEEDS[engine]) is None:
            print(f"{engine}: skipped, it is not installed")
            continue
        measured = [of_engine(engine, args.tasks) for _ in range(args.repeat)]
        row = {name: round(statistics.median(each[name] for each in measured), 2) for name in measured[0]}
        row |= {"pool_ms": round(pool_ms, 2), "ratio": round(row["one_ms"] / pool_ms, 1)}
        results.add(engine, row)
    results.print_table()


def of_pool(tasks: int) -> float:
    """Milliseconds of a task that goes through a bare pool."""
    with ProcessPoolExecutor(WORKERS) as pool:
        pool.submit(abs, -1).result()
        started = time.perf_counter()
        for number in range(tasks):
            pool.submit(abs, number).result()
        return 1000 * (time.perf_counter() - started) / tasks


def of_engine(engine: str, tasks: int) -> dict[str, float]:
    """Seconds to start, milliseconds of a task alone, and of one among others side by side."""
    started = time.perf_counter()
    executor = make_executor(engine, WORKERS)
    try:
        each_once(executor, WORKERS)
        ready = time.perf_counter()
        each_once(executor, tasks)
        side_by_side = time.perf_counter()
        for number in range(tasks):
            executor.submit(abs, number).result()
        ended = time.perf_counter()
    finally:
        executor.close()
    return {
        "start_s": ready - started,
        "one_ms": 1000 * (ended - side_by_side) / tasks,
        "beside_ms": 1000 * (side_by_side - ready) / tasks,
    }


def each_once(executor: Executor, tasks: int) -> None:
    for outcome in stream(executor, abs, range(tasks), ordered=True):
        outcome.unwrap()


if __name__ == "__main__":
    main()

"""Many models side by side: candidates on as many workers as there are cores, each of one thread, against one after
the other on all threads.

The same candidates of boosted trees, in processes that have started, on rows that are encoded. On 50,000 rows side by
side must have at least 1.7 times the throughput on two cores; where it stops paying is where a run trains one at a time
(`plan.training.LARGE_ROWS`), and what it would choose for each size is in the table. Losses are the same either way.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from beside_fits import FEATURES, Fit, free, write_codes
from common import Results, make_parser, verdict
from shardwise.compute.base import stream
from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.local import ProcessExecutor
from shardwise.plan.training import fit_threads, side_by_side

LIMIT_ROWS, LIMIT = 50_000, 1.7


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", default="50000,300000", help="sizes, with commas")
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=100, help="of boosting, of each candidate")
    args = parser.parse_args()
    results = Results("beside", args.results)
    with tempfile.TemporaryDirectory() as place:
        for rows in map(int, args.rows.split(",")):
            folder = Path(place) / str(rows)
            write_codes(folder, rows)
            results.add(f"{rows:,} rows", compared(folder, rows, args), candidates=args.candidates, rounds=args.rounds)
    results.print_table()


def compared(folder: Path, rows: int, args: Any) -> dict[str, Any]:
    """Medians of seconds both ways, in turns; how many times faster side by side is; what a run would choose."""
    params = [
        {"n_estimators": args.rounds, "num_leaves": leaves, "learning_rate": rate, "early_stopping_rounds": args.rounds}
        for leaves, rate in [(15 + 8 * (k % 4), 0.05 + 0.02 * (k % 3)) for k in range(args.candidates)]
    ]
    cpus = cpu_quota()
    turns = [(fitted(folder, params, cpus, 1), fitted(folder, params, 1, cpus)) for _ in range(args.repeat)]
    beside, after = (statistics.median(turn[way][0] for turn in turns) for way in (0, 1))
    cells = rows * 9 // 10 * len(FEATURES)
    apart = side_by_side(cells, rows)
    return {
        "beside_s": round(beside, 2), "after_s": round(after, 2), "gain": round(after / beside, 3),
        "limit": verdict(LIMIT, after / beside) if rows == LIMIT_ROWS else "-",
        "same_losses": turns[0][0][1] == turns[0][1][1],
        "chosen": f"{cpus if apart else 1} x {fit_threads(cells, 1 if apart else cpus)}",
    }  # fmt: skip


def fitted(folder: Path, params: list[dict[str, Any]], workers: int, threads: int) -> tuple[float, list[float]]:
    """Seconds until all candidates are fitted by so many workers, and their losses."""
    with ProcessExecutor(workers, threads=threads) as executor:
        for outcome in stream(executor, free, range(4 * workers), ordered=True):
            outcome.unwrap()  # all have started, and know their libraries
        began = time.perf_counter()
        found = [outcome.unwrap() for outcome in stream(executor, Fit(folder, threads), params, ordered=True)]
        return time.perf_counter() - began, [loss for _, loss in found]


if __name__ == "__main__":
    main()

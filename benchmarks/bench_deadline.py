"""Deadline: how late `shardwise train --time` ends, from the start of its process to its end.

Ten data sets - many rows, many columns, many classes, long texts, strings of high cardinality - under 30 s and 60 s. A
run may end at most 2 % of its limit too late, or 1 s where that is more, and its package must load, in a process of its
own.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import (
    DATA_SETS,
    Results,
    available,
    chosen,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
)
from shardwise.core.errors import ShardwiseError
from shardwise.registry.package import load_package

NAMES = (
    "adult",
    "nycflights13",
    "otto_products",
    "fremtpl_freq",
    "store_item_demand",
    "us_babynames",
    "un_votes",
    "kddcup99_10pct",
    "mnist",
    "amazon_reviews_20k",
)


def main() -> None:
    args = _arguments()
    results = Results("deadline", args.results)
    limits = [float(word) for word in args.limits.split(",")]
    for name in available(chosen(args.only, NAMES), args.data):
        for limit_s in limits * args.repeat:
            figures, details = train_under(args.data / f"{name}.parquet", name, limit_s)
            results.add(name, figures, **details)
            print(
                f"{name}: {figures['over_s']:+.2f} s after {limit_s:g} s, at most {figures['allowed_s']:g} s: "
                f"{figures['verdict']}",
                flush=True,
            )
    results.print_table()
    if results.rows:
        latest = max(results.rows, key=lambda row: row["over_s"] / row["allowed_s"])
        missed = sum(row["verdict"] != "ok" for row in results.rows)
        print(f"latest: {latest['over_s']:+.2f} s ({latest['case']}); {missed} of {len(results.rows)} missed")


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--limits", default="30,60", metavar="S,S", help="ceilings in seconds")
    return parser.parse_args()


def allowed_s(limit_s: float) -> float:
    """How late a run may end."""
    return max(0.02 * limit_s, 1.0)


def train_under(data: Path, name: str, limit_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """One run in a folder of its own: figures for the table, and details for the record.

    `trials` is None for a run that was ended from outside its main thread, because that did not come back in time.
    """
    data_set = DATA_SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", str(data.resolve()), "--target", data_set.target, "--time", f"{limit_s:g}s", "--run", "bench"]
        words += ["--task", data_set.task, "--json", *(["--drop", ",".join(data_set.drop)] if data_set.drop else [])]
        ran = run_measured(shardwise_command(*words), Path(folder))
        package = Path(folder) / "runs" / "bench" / "package"
        loads, _ = in_fresh_process(is_loadable, package=str(package))
        result = ran.answer() if ran.code == 0 else {}
    if ran.code != 0:
        print(ran.errors[-1000:])
    over_s = ran.seconds - limit_s
    ok = loads and ran.code == 0 and over_s <= allowed_s(limit_s)
    figures = {
        "limit_s": limit_s, "wall_s": round(ran.seconds, 2), "over_s": round(over_s, 2),
        "allowed_s": allowed_s(limit_s), "ratio": ran.seconds / limit_s, "code": ran.code, "loads": loads,
        "trials": result.get("trials"), "peak_mb": megabytes(ran.peak_rss_bytes), "verdict": "ok" if ok else "MISSED",
    }  # fmt: skip
    details = {name: result.get(name) for name in ("metric", "score", "cut")}
    return figures, {"cpu_s": round(ran.cpu_s, 1), **details}


def is_loadable(package: str) -> bool:
    """Whether there is a package that passes all checks of loading; what is wrong goes to standard error."""
    try:
        load_package(package)
    except ShardwiseError as error:
        print(error, file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    main()

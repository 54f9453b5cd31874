"""False alarms per 1,000 windows of traffic that has not changed, and windows until a change is found, of 30 columns.

Ours are all tests of all columns with one rate per window, on windows alone and merged by 4 and 16. The peers look at
the same profiles: an alarm where any column's PSI is above 0.1 or 0.25, where any Kolmogorov-Smirnov test is below
0.05 as it stands, and the same divided by the number of columns (Bonferroni). False alarms also on public data sets:
training and windows are rows drawn from the file at random, with replacement, so that both come from one law. Training
is drawn anew several times, since all windows share what is odd in it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common import DATA_SETS, Results, available, chosen, make_parser, verdict
from shardwise.data.profile import Profile
from shardwise.monitor.drift import ColumnDrift
from shardwise.monitor.judge import DriftMonitor
from shardwise.monitor.windows import Reference, Window

NUMBERS, CATEGORIES = 20, 10
TRAINING_ROWS = 200_000
DRAWN_ROWS = 20_000  # of training, from a data set: no more than what 16 windows have, which is hardest
REFERENCES = 8
SETS = ("adult", "bike_sharing_hour", "california_housing", "nycflights13", "hotel_bookings", "telco_churn",
        "amazon_employee_access", "give_me_some_credit", "online_retail")  # fmt: skip
NULL = "nothing changed"
MOST = 1.0  # false alarms per 1,000 windows
MOST_WINDOWS = 64  # that a change is waited for
EMPTY = pa.record_batch({"prediction": pa.array([], pa.float64())})


@dataclass(frozen=True)
class Change:
    """What is added to the first number, in deviations; how much more often the first category comes; missing."""

    move: float = 0.0
    more: float = 0.0
    missing: float = 0.0


CHANGES: Mapping[str, Change] = {
    "mean of one column by 0.1 sd": Change(move=0.1),
    "mean of one column by 0.2 sd": Change(move=0.2),
    "mean of one column by 0.5 sd": Change(move=0.5),
    "one category 3 % more often": Change(more=0.03),
    "one category 10 % more often": Change(more=0.1),
    "2 % of one column missing": Change(missing=0.02),
}


Draw = Callable[[int, int], pa.RecordBatch]  # rows, and a seed


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1000, help="of a window")
    parser.add_argument("--windows", type=int, default=3000, help="that have not changed, of each data set")
    parser.add_argument("--changes", type=int, default=8, help="how often each change is waited for")
    args = parser.parse_args()
    results = Results("drift", args.results)
    nulls = {NULL: lambda: made_rows, **{f"{NULL}: {name}": drawing(args.data, name) for name in SETS}}
    missing = {f"{NULL}: {name}" for name in set(SETS) - set(available(SETS, args.data))}
    for name in chosen(args.only, [*nulls, *CHANGES]):
        if name in nulls and name not in missing:
            training = TRAINING_ROWS if name == NULL else DRAWN_ROWS
            rates = false_alarms(nulls[name](), training, args.rows, args.windows)
            told = verdict(rates["ours"], MOST)
            figures = {f"{key} per 1,000": rate for key, rate in rates.items()} | {"verdict": told}
            print(f"{name}: false alarms per 1,000 windows: {rates}, limit {MOST}: {told}")
            results.add(name, figures, windows=args.windows, rows=args.rows, training=training, limit=MOST)
        elif name in CHANGES:
            reference = reference_of(rows_of(TRAINING_ROWS, 0, Change()))
            results.add(name, delays(reference, args.rows, args.changes, CHANGES[name]), rows=args.rows)
    for row in results.rows:
        print(row)


def drawing(folder: Path, name: str) -> Callable[[], Draw]:
    """What opens a data set and draws from it; its target is a column like the others."""

    def opened() -> Draw:
        drop = list(DATA_SETS[name].drop)
        table = pq.read_table(folder / f"{name}.parquet").drop_columns(drop).combine_chunks()

        def draw(rows: int, seed: int) -> pa.RecordBatch:
            places = np.random.default_rng([seed, rows]).integers(0, len(table), rows)
            return table.take(pa.array(places)).combine_chunks().to_batches()[0]

        return draw

    return opened


def made_rows(rows: int, seed: int) -> pa.RecordBatch:
    return rows_of(rows, seed, Change())


def reference_of(batch: pa.RecordBatch) -> Reference:
    return Reference(inputs=profile_of(batch), answers=None)


def profile_of(batch: pa.RecordBatch) -> Profile:
    profile = Profile(batch.schema, sample_rows=1)
    profile.update(batch)
    return profile


def rows_of(rows: int, seed: int, change: Change) -> pa.RecordBatch:
    """Normal, skewed, heavy-tailed and whole numbers; categories of 3 to 200 values, unevenly frequent."""
    rng = np.random.default_rng([seed, rows])
    columns: dict[str, pa.Array] = {}
    for place in range(NUMBERS):
        kinds = (
            rng.normal,
            rng.lognormal,
            lambda size: rng.standard_t(4, size),
            lambda size: rng.poisson(3.0, size) * 1.0,
        )
        values = kinds[place % 4](size=rows)
        mask = rng.random(rows) < (0.05 if place % 5 == 1 else 0.0) + (change.missing if place == 0 else 0.0)
        columns[f"n{place}"] = pa.array(values + (change.move if place == 0 else 0.0), mask=mask)
    for place in range(CATEGORIES):
        size = (3, 8, 30, 200)[place % 4]
        share = 1.0 / np.arange(1, size + 1)
        codes = rng.choice(size, rows, p=share / share.sum())
        if place == 0:
            codes[rng.random(rows) < change.more] = 0
        columns[f"c{place}"] = pa.array([f"v{code}" for code in range(size)]).take(pa.array(codes))
    return pa.record_batch(columns)


def window_of(batch: pa.RecordBatch) -> Window:
    window = Window.empty(batch.schema, EMPTY.schema)
    window.add(batch, EMPTY)
    return window


Peer = Callable[[Sequence[ColumnDrift]], bool]
PEERS: Mapping[str, Peer] = {
    "PSI > 0.1": lambda drifts: any((drift.psi or 0.0) > 0.1 for drift in drifts),
    "PSI > 0.25": lambda drifts: any((drift.psi or 0.0) > 0.25 for drift in drifts),
    "test < 0.05": lambda drifts: any(drift.p_values.get("distribution", 1.0) < 0.05 for drift in drifts),
    "test < 0.05 / columns": lambda drifts: any(
        drift.p_values.get("distribution", 1.0) < 0.05 / len(drifts) for drift in drifts
    ),
}


def judged(reference: Reference, batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Who alarms, window after window; of ours what is told."""
    monitor = DriftMonitor(reference)
    for batch in batches:
        window = window_of(batch)
        drifts = [drift for _, drift in reference.compared(window)]
        found = monitor.close(window)
        yield {
            "ours": [f"{finding.text}, {finding.evidence['windows']} windows" for finding in found],
            **{name: peer(drifts) for name, peer in PEERS.items()},
        }


def false_alarms(draw: Draw, training: int, rows: int, windows: int) -> dict[str, float]:
    counted = dict.fromkeys(["ours", *PEERS], 0)
    for number, seeds in enumerate(np.array_split(np.arange(1, windows + 1), REFERENCES)):
        reference = reference_of(draw(training, 1_000_000 + number))
        for alarms in judged(reference, (draw(rows, int(seed)) for seed in seeds)):
            print(*(f"    {text}" for text in alarms["ours"]), sep="\n", end="\n" if alarms["ours"] else "")
            for name, alarm in alarms.items():
                counted[name] += bool(alarm)
    return {name: round(1000 * count / windows, 2) for name, count in counted.items()}


def delays(reference: Reference, rows: int, times: int, change: Change) -> dict[str, float]:
    """Mean number of windows to the first alarm; what is not found in `MOST_WINDOWS` counts as so many."""
    waits: dict[str, list[int]] = {name: [] for name in ["ours", *PEERS]}
    for time in range(times):
        seeds = range(1_000_000 + 1000 * time, 1_000_000 + 1000 * time + MOST_WINDOWS)
        open_still = dict.fromkeys(waits, MOST_WINDOWS)
        batches = (rows_of(rows, seed, change) for seed in seeds)
        for number, alarms in enumerate(judged(reference, batches), 1):
            for name, alarm in alarms.items():
                if alarm:
                    open_still[name] = min(open_still[name], number)
            if all(alarmed < MOST_WINDOWS for alarmed in open_still.values()):
                break
        for name, wait in open_still.items():
            waits[name].append(wait)
    return {name: round(float(np.mean(each)), 1) for name, each in waits.items()}


if __name__ == "__main__":
    main()

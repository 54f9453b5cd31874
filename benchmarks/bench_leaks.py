"""Leaks: how many planted ones `train` finds before it trains, and how often it cries wolf on data as they are.

Eight kinds of leaks are planted into public tables; each is looked for as `shardwise train` does it: profile, split and
leak tests of a run, which ends there. Found means a leak or a warning that names the planted column, or one that is
called as the leak is and that the untouched table does not give. Target: at least 95 % found. Untouched tables must
give a finding of severity `leak` in at most 5 % of the tables; columns that are known to leak (`KNOWN`) count as
rightly found, and how many of them are is told. Warnings on untouched tables are told as well: most say that a table
has times or groups, which it has.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common import Results, available, chosen, make_parser, verdict
from shardwise.core.config import RunConfig
from shardwise.core.events import Event, Events, StageStarted
from shardwise.store.journal import SqliteJournal
from shardwise.workflow import train

ROWS = 20_000  # of a table
LEAST_FOUND, MOST_ALARMS = 0.95, 0.05
PLANTED = "planted"
TARGETS = {
    "adult": "income", "amazon_employee_access": "ACTION", "bank_marketing": "deposit", "bike_sharing_hour": "cnt",
    "california_housing": "median_house_value", "connect_4": "class", "covtype_20k": "Cover_Type", "credit_risk":
    "loan_status", "diamonds": "price", "donors_kdd2014": "target", "dry_bean": "Class", "electricity_elec2": "class",
    "employee_salaries": "Current Annual Salary", "etth1": "OT", "fremtpl_freq": "ClaimNb", "give_me_some_credit":
    "SeriousDlqin2yrs", "heart_disease_2020": "HeartDisease", "higgs_7k": "target", "hmp_accelerometer": "activity",
    "hotel_bookings": "is_canceled", "house_16h": "target", "kddcup99_10pct": "label", "kin8nm": "y", "letter": "lettr",
    "mammography": "cls", "nycflights13": "arr_delay", "online_retail": "Quantity", "otto_products": "target",
    "pg17_motor_policies": "vh_value", "pol": "target", "shuttle": "target", "spambase": "spam", "store_item_demand":
    "sales", "telco_churn": "Churn", "un_votes": "vote", "us_babynames": "sex", "walmart_store_sales": "Weekly_Sales",
}  # fmt: skip
KNOWN = {
    "bank_marketing": {"duration"}, "bike_sharing_hour": {"casual", "registered", "instant"},
    "employee_salaries": {"2016 Gross Pay Received", "2016 Overtime Pay"},
    "fremtpl_freq": {"PolicyID"},
    "hmp_accelerometer": {"recording"},  # all rows of one have one activity: a group
    "hotel_bookings": {"reservation_status", "reservation_status_date"},
    "nycflights13": {"dep_delay", "air_time", "arr_time"}, "otto_products": {"id"},
}  # fmt: skip
HOSTS = (
    "adult", "amazon_employee_access", "california_housing", "connect_4", "covtype_20k", "credit_risk", "diamonds",
    "give_me_some_credit", "heart_disease_2020", "higgs_7k", "house_16h", "kin8nm", "letter", "otto_products",
    "spambase", "telco_churn",
)  # fmt: skip
Plant = Callable[[pd.DataFrame, str, np.random.Generator], pd.DataFrame]


def main() -> None:
    parser = make_parser(__doc__)
    args = parser.parse_args()
    results = Results("leaks", args.results)
    names = list(available(chosen(args.only, TARGETS), args.data))
    found = {kind: [0, 0] for kind in PLANTS}
    for name in names:
        table = _sampled(args.data / f"{name}.parquet", TARGETS[name])
        if name in HOSTS:
            usual = {_words(each) for each in findings(table, TARGETS[name])}
            missed = [kind for kind in PLANTS if not _look(found, kind, name, (table, usual))]
            results.add(f"{name}: planted", _figure(len(PLANTS), len(PLANTS) - len(missed), missed))
    for kind, (hits, tries) in found.items():
        if tries:
            results.add(kind, _figure(tries, hits, []))
    known, warned = [0, 0], [0]
    alarms = [name for name in names if _alarms(results, name, args.data, (known, warned))]
    _summary(results, found, alarms, len(names))
    results.add("columns that are known to leak", _figure(known[1], known[0], []))
    results.add("untouched tables with a warning", _figure(len(names), warned[0], []))
    results.print_table()


def _figure(tried: int, found: int, which: list[str], verdict: str = "") -> dict[str, Any]:
    share = round(found / max(tried, 1), 4)
    return {"tried": tried, "found": found, "share": share, "verdict": verdict, "which": "; ".join(which)}


def _summary(results: Results, found: Mapping[str, list[int]], alarms: list[str], tables: int) -> None:
    hits, tries = (sum(counts[place] for counts in found.values()) for place in (0, 1))
    missed, rate = 1.0 - hits / max(tries, 1), len(alarms) / max(tables, 1)
    results.add("all planted", _figure(tries, hits, [], verdict(missed, 1 - LEAST_FOUND)))
    results.add("false alarms on untouched tables", _figure(tables, len(alarms), alarms, verdict(rate, MOST_ALARMS)))


def _words(finding: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return finding["code"], tuple(finding["columns"])


def _look(found: dict[str, list[int]], kind: str, name: str, host: tuple[pd.DataFrame, set[Any]]) -> bool:
    """Plant one leak into a table, whose usual findings are known, and look for it; counts it."""
    table, usual = host
    plant, codes = PLANTS[kind]
    rng = np.random.default_rng([len(name), *map(ord, name)])
    target = TARGETS[name]
    seen = findings(plant(table.copy(), target, rng), target, ("split",) if name == "adult" else ())
    grave = [each for each in seen if each["severity"] in ("leak", "warning")]
    hit = any(PLANTED in each["columns"] or (each["code"] in codes and _words(each) not in usual) for each in grave)
    found[kind][0] += hit
    found[kind][1] += 1
    return hit


def _alarms(results: Results, name: str, data: Path, counts: tuple[list[int], list[int]]) -> bool:
    """Whether a table as it is gives a leak that is not known to be one; counts known ones that are named, and tables
    with a warning."""
    known, warned = counts
    seen = findings(_sampled(data / f"{name}.parquet", TARGETS[name]), TARGETS[name])
    leaks = [each for each in seen if each["severity"] == "leak"]
    wrong = [each for each in leaks if not set(each["columns"]) & KNOWN.get(name, set())]
    grave = {column for each in seen if each["severity"] in ("leak", "warning") for column in each["columns"]}
    known[0] += len(grave & KNOWN.get(name, set()))
    known[1] += len(KNOWN.get(name, ()))
    warnings = [f"{each['code']}: {','.join(each['columns'])}" for each in seen if each["severity"] == "warning"]
    described = [f"{each['code']}: {','.join(each['columns'])}" for each in leaks]
    warned[0] += bool(warnings)
    results.add(f"{name}: untouched", _figure(1, len(leaks), described), warnings=warnings, false=len(wrong))
    return bool(wrong)


class _EnoughError(Exception):
    """The leak tests are over."""


def findings(table: pd.DataFrame, target: str, drop: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What a run finds in the table before it plans features."""

    def listen(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "recipe":
            raise _EnoughError

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / "data.parquet")
        config = RunConfig(
            data=(str(folder / "data.parquet"),), target=target, runs_folder=str(folder), run="bench", drop=drop
        )
        try:
            train(config, Events([listen]))
        except _EnoughError:
            with SqliteJournal(folder / "bench" / "journal.db") as journal:
                noted = [record for record in journal.read() if record["kind"] == "findings"]
            return list(noted[-1]["findings"]) if noted else []  # nothing is noted where nothing was found
    raise RuntimeError("the run ended before the leak tests")


def _sampled(path: Path, target: str) -> pd.DataFrame:
    """At most `ROWS` rows, drawn, in their order."""
    table = pq.read_table(path)
    table = table.filter(table.column(target).is_valid())
    if len(table) > ROWS:
        table = table.take(pa.array(np.sort(np.random.default_rng(0).permutation(len(table))[:ROWS])))
    return table.to_pandas()


# -- leaks -----------------------------------------------------------------------------------------------------------


def _is_number(table: pd.DataFrame, target: str) -> bool:
    return bool(pd.api.types.is_numeric_dtype(table[target])) and table[target].nunique() > 30


def _codes(table: pd.DataFrame, target: str) -> np.ndarray:
    return pd.factorize(table[target], sort=True)[0].astype(float)


def _score(table: pd.DataFrame, target: str) -> np.ndarray:
    """The target as a number of standard deviation 1."""
    values = table[target].to_numpy(float) if _is_number(table, target) else _codes(table, target)
    return np.asarray((values - values.mean()) / values.std())


def target_copy(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """The target under other names, or in another unit."""
    if _is_number(table, target):
        return table.assign(planted=table[target] * 0.3048)
    names = rng.permutation([f"type {place}" for place in range(table[target].nunique())])
    return table.assign(planted=names[_codes(table, target).astype(int)])


def near_copy(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """The target as somebody else measured or noted it: noise of a twentieth, or one label in a hundred wrong."""
    if _is_number(table, target):
        return table.assign(planted=table[target] + 0.05 * table[target].std() * rng.normal(size=len(table)))
    codes = _codes(table, target)
    wrong = rng.random(len(table)) < 0.01
    return table.assign(planted=np.where(wrong, rng.permutation(codes), codes).astype(int))


def monotone(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:  # noqa: ARG001
    """A transform that keeps the order: a logistic scale."""
    return table.assign(planted=np.log1p(np.exp(_score(table, target))))


def known_afterwards(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """What is filled in when the outcome is known: a date or amount that only some outcomes have, or a bill."""
    if _is_number(table, target):
        return table.assign(planted=table[target] * rng.lognormal(0, 0.02, len(table)))
    codes = _codes(table, target)
    amount = np.where(codes == np.bincount(codes.astype(int)).argmax(), np.nan, rng.gamma(2.0, 100.0, len(table)))
    if table[target].nunique() > 2:  # the missing ones tell one class from the rest, the amount the others
        amount = amount + 10_000 * codes
    return table.assign(planted=amount)


def ordered_ids(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """Row numbers that were given after the rows were sorted by their outcome, roughly."""
    order = np.argsort(np.argsort(_score(table, target) + 0.2 * rng.normal(size=len(table))))
    return table.assign(planted=order + 100_000)


def copies(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:  # noqa: ARG001
    """One row in ten twice, under another number: a split by content tears the copies apart."""
    twice = pd.concat([table, table.sample(frac=0.1, random_state=int(rng.integers(1 << 30)))], ignore_index=True)
    return twice.assign(row_id=rng.permutation(len(twice)) + 1)


def groups(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """Customers of about ten rows each, who for the most part keep to one outcome."""
    customer = rng.integers(0, len(table) // 10, len(table))
    habit = rng.permutation(len(table))[customer]  # a row whose outcome is the customer's own
    keeps = rng.random(len(table)) < 0.8
    if _is_number(table, target):
        mixed = np.where(keeps, 0.8, 0.0) * table[target].to_numpy()[habit] + np.where(keeps, 0.2, 1.0) * table[target]
        return table.assign(**{target: mixed, PLANTED: [f"customer {each}" for each in customer]})
    return table.assign(
        **{target: np.where(keeps, table[target].to_numpy()[habit], table[target]),
           PLANTED: [f"customer {each}" for each in customer]}
    )  # fmt: skip


def drift(table: pd.DataFrame, target: str, rng: np.random.Generator) -> pd.DataFrame:
    """A time column, along which the target changes: later rows have more of the higher outcomes."""
    place = np.argsort(np.argsort(_score(table, target) + 1.5 * rng.normal(size=len(table))))
    seconds = (place / len(table) * 3 * 365 * 86_400).astype("int64")
    return table.assign(planted=pd.Timestamp("2020-01-01") + pd.to_timedelta(seconds, unit="s"))


PLANTS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "target copy": (target_copy, ()),
    "near copy": (near_copy, ()),
    "monotone transform": (monotone, ()),
    "known afterwards": (known_afterwards, ()),
    "ordered row numbers": (ordered_ids, ()),
    "copies across folds": (copies, ("copies_across_folds",)),
    "groups torn apart": (groups, ("group_ignored", "group_tells_target")),
    "time ignored": (drift, ("time_ignored",)),
}


if __name__ == "__main__":
    main()

"""Kills: SIGKILL of the whole process tree at random instants, and the same command again.

`trials`: a run with a budget in work is done twice undisturbed, which gives its package's hash and how long it takes.
Then 30 campaigns, each in a new folder: start, kill one to three times at instants drawn uniformly from that time,
start the same command again until it ends. All hashes must equal the first one's.

`time`: the same with a budget in time; the cut may differ, so only that after each kill the package (where there is
one) loads, and in the end always.

In both, no unit of work may be journalled twice: what was journalled is not done again.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from common import Results, chosen, make_parser, run_measured, shardwise_command, verdict
from shardwise.core.errors import ShardwiseError
from shardwise.core.units import parse_duration
from shardwise.registry.package import load_package
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people

NAMES = ("trials", "time")
TARGET = "bought"
DROP = ("id", "weight", "spent", "visits")
FILES = 4
MOST_KILLS = 3  # in one campaign
GONE_S = 20.0  # for a killed process to leave


@dataclass
class Campaign:
    """What became of one run that was killed. `twice` counts units of work that were journalled more than once."""

    kills: int = 0
    hash: str = ""
    units: int = 0
    twice: int = 0
    defects: list[str] = field(default_factory=list)


def main() -> None:
    args = _arguments()
    results = Results("kills", args.results)
    with tempfile.TemporaryDirectory() as place:
        data = write_people(Path(place) / "data", args.rows)
        for name in chosen(args.only, NAMES):
            bench = {"trials": kill_trials, "time": kill_time}[name]
            bench(results, args, data, Path(place))
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--campaigns", type=int, default=30)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=6, help="the budget in work")
    parser.add_argument("--time", default="15s", help="the budget in time")
    parser.add_argument("--workers", type=int, help="worker processes; else as many as there are cores")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    return parser.parse_args()


def write_people(folder: Path, rows: int) -> Path:
    """The data: some files, so that there are some partitions."""
    folder.mkdir()
    table = people(rows)
    per_file = -(-rows // FILES)
    for number in range(FILES):
        pq.write_table(table.slice(number * per_file, per_file), folder / f"part-{number}.parquet")
    return folder


def kill_trials(results: Results, args: argparse.Namespace, data: Path, place: Path) -> None:
    """Every killed run must end with the bytes of the undisturbed one."""
    command = train_command(data, args, "--trials", str(args.trials))
    undisturbed = [run_measured(command, _new(place / f"whole-{i}")) for i in range(2)]
    wanted = {each.answer()["package_hash"] for each in undisturbed}
    if len(wanted) > 1:
        print("trials: two undisturbed runs end with different bytes")
    span_s = undisturbed[-1].seconds  # the first one also fills the file cache
    campaigns = run_campaigns(args, command, place / "trials", span_s)
    equal = sum({campaign.hash} == wanted for campaign in campaigns)
    print(f"trials: {equal} of {len(campaigns)} hashes equal the undisturbed run's: {_all(equal, campaigns)}")
    report(results, "trials", campaigns, span_s, equal_hashes=equal)


def kill_time(results: Results, args: argparse.Namespace, data: Path, place: Path) -> None:
    """Every killed run must leave a package that loads."""
    command = train_command(data, args, "--time", args.time)
    span_s = parse_duration(args.time)
    campaigns = run_campaigns(args, command, place / "time", span_s)
    loadable = sum(not campaign.defects for campaign in campaigns)
    print(f"time: {loadable} of {len(campaigns)} runs left a loadable package: {_all(loadable, campaigns)}")
    report(results, "time", campaigns, span_s, equal_hashes=None)


def _all(good: int, campaigns: Sequence[Campaign]) -> str:
    return verdict(len(campaigns) - good, 0)


def train_command(data: Path, args: argparse.Namespace, *budget: str) -> list[str]:
    words = ["train", str(data), "--target", TARGET, "--drop", ",".join(DROP), "--run", "bench", "--json", *budget]
    return shardwise_command(*words, *([] if args.workers is None else ["--workers", str(args.workers)]))


def report(
    results: Results, name: str, campaigns: Sequence[Campaign], span_s: float, *, equal_hashes: int | None
) -> None:
    defects = [defect for campaign in campaigns for defect in campaign.defects]
    twice = sum(campaign.twice for campaign in campaigns)
    good = sum(not c.defects and not c.twice for c in campaigns) if equal_hashes is None else equal_hashes
    figures = {
        "campaigns": len(campaigns), "kills": sum(campaign.kills for campaign in campaigns),
        "span_s": round(span_s, 2), "equal_hashes": equal_hashes, "units": sum(c.units for c in campaigns),
        "units_twice": twice, "defects": len(defects), "ratio": good / len(campaigns),
        "verdict": verdict(len(campaigns) - good + twice + len(defects), 0),
    }  # fmt: skip
    each = [{**vars(campaign), "defects": len(campaign.defects)} for campaign in campaigns]  # texts would name places
    results.add(name, figures, each=each)
    print(f"{name}: {figures['kills']} kills, {twice} units done twice: {verdict(twice, 0)}", flush=True)
    for defect in defects[:10]:
        print(f"  {defect}")


def run_campaigns(args: argparse.Namespace, command: Sequence[str], place: Path, span_s: float) -> list[Campaign]:
    """So many campaigns in which at least one kill arrived; one that ended before its first kill is run anew."""
    campaigns: list[Campaign] = []
    number = 0
    while len(campaigns) < args.campaigns:
        rng = np.random.default_rng([args.seed, number])
        campaign = run_campaign(command, _new(place / str(number)), rng, span_s)
        if campaign.kills:
            campaigns.append(campaign)
        number += 1
    return campaigns


def run_campaign(command: Sequence[str], folder: Path, rng: np.random.Generator, span_s: float) -> Campaign:
    """Kill, look at what is there, and start again; the last start may end."""
    campaign = Campaign()
    for _ in range(int(rng.integers(1, MOST_KILLS + 1))):
        ended, said = start_and_kill(command, folder, float(rng.uniform(0.0, span_s)))
        if ended is not None and ended != 0:
            campaign.defects.append(f"a start ended with code {ended}: {said}")
        campaign.kills += ended is None
        look(campaign, folder / "runs" / "bench", final=False)
        if ended is not None:
            break
    last = run_measured(command, folder)
    if last.code == 0:
        campaign.hash = last.answer().get("package_hash", "")  # not told when time cut the run at the very end
    else:
        campaign.defects.append(f"the last start ended with code {last.code}: {last.errors[-300:]}")
    look(campaign, folder / "runs" / "bench", final=True)
    return campaign


def start_and_kill(command: Sequence[str], folder: Path, after_s: float) -> tuple[int | None, str]:
    """Start the command and kill it `after_s` seconds later; its exit code (None: killed), the end of what it said."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(after_s)
        except subprocess.TimeoutExpired:
            kill_tree(process)
            code = None
        errors.seek(0)
        return code, errors.read()[-300:]


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a process's group and to all its descendants; returns when they are gone."""
    tree = [psutil.Process(process.pid)]
    tree += tree[0].children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for member in tree:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    until = time.monotonic() + GONE_S
    while any(_alive(member) for member in tree):
        if time.monotonic() > until:
            raise RuntimeError("a killed process does not leave")
        time.sleep(0.01)


def _alive(process: psutil.Process) -> bool:
    """A zombie has left: who should take note of it is dead."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def look(campaign: Campaign, run: Path, *, final: bool) -> None:
    """Load the package, if there must be one or is one; in the end also count the journal's units."""
    package = run / "package"
    if final or package.exists():
        try:
            found = load_package(package).hash
        except (ShardwiseError, OSError) as error:
            campaign.defects.append(f"after {campaign.kills} kills the package does not load: {error}")
        else:
            if final and campaign.hash not in ("", found):
                campaign.defects.append(f"the package on disk is {found}, the run says {campaign.hash}")
    if final and run.exists():
        counts = count_units(run / "journal.db")
        campaign.units, campaign.twice = len(counts), sum(count > 1 for count in counts.values())


def count_units(journal: Path) -> Counter[str]:
    """How often each unit of work is in the journal."""
    with SqliteJournal(journal, read_only=True) as records:
        return Counter(record["unit"] for record in records.read() if record["kind"] == "unit")


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()

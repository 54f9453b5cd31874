"""What the benchmarks share: options, data, processes that are measured, tables, and the record of results.

Ours and a peer are compared in one run, each in fresh processes with the same number of threads. Figures go to
`results/<name>.jsonl`, one line per case, with what is needed to judge them: command, versions, machine.
"""

import argparse
import importlib.metadata
import inspect
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pyarrow as pa

from shardwise.compute.ceiling import cpu_quota, memory_limit_bytes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIBRARIES = ("shardwise", "numpy", "pyarrow", "lightgbm", "scikit-learn", "duckdb", "pandas")
PEER_ENVIRONMENT = {"GOMP_SPINCOUNT": "300000"}  # OpenMP's own default, not what `import shardwise` sets
SAMPLE_S = 0.1  # between two looks at the memory of a process tree
_CHILD = (
    "import importlib, json, sys; sys.path.insert(0, sys.argv[1]); "
    "function = getattr(importlib.import_module(sys.argv[2]), sys.argv[3]); "
    "print(json.dumps(function(**json.loads(sys.argv[4]))))"
)


# -- options ---------------------------------------------------------------------------------------------------------


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have; the first paragraph of `text` says what is measured."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("SHARDWISE_DATA") or ROOT.parent / "shared" / "data"),
        help="folder of the data sets (else SHARDWISE_DATA, else ../shared/data beside the repository)",
    )
    parser.add_argument("--only", metavar="A,B", help="only these cases")
    parser.add_argument("--repeat", type=int, default=1, help="how often each case is measured")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to which results are appended")
    return parser


def chosen(only: str | None, names: Collection[str]) -> list[str]:
    """The cases named by `--only`, or all; ends the program at a name that is not known."""
    if only is None:
        return list(names)
    asked = [name.strip() for name in only.split(",") if name.strip()]
    unknown = [name for name in asked if name not in names]
    if unknown:
        sys.exit(f"there is no case {unknown[0]!r}; there are: {', '.join(names)}")
    return asked


def run_cases(
    measures: Mapping[str, Callable[[Any, argparse.Namespace], Iterator[tuple[str, dict[str, Any]]]]],
    results: "Results", args: argparse.Namespace, subject: Any,
) -> None:  # fmt: skip
    """Measure the cases that were asked for, and tell and keep the figures of each as they come."""
    for case in chosen(args.only, measures):
        for name, figures in measures[case](subject, args):
            results.add(name, figures)
            print(f"{name}: {json.dumps(figures)}", flush=True)


def available(names: Sequence[str], folder: Path) -> Iterator[str]:
    """Names of data sets whose file is in `folder`; what is not there is said and skipped."""
    for name in names:
        if (folder / f"{name}.parquet").is_file():
            yield name
        else:
            print(f"{name}: skipped, {name}.parquet is not in the folder given by --data or SHARDWISE_DATA")


# -- data sets -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A public table with its task; columns in `drop` leak the target or are row numbers."""

    target: str
    task: str
    drop: tuple[str, ...] = ()


DATA_SETS: Mapping[str, DataSet] = {
    "adult": DataSet(target="income", task="binary", drop=("split",)),
    "bank_marketing": DataSet(target="deposit", task="binary"),
    "california_housing": DataSet(target="median_house_value", task="regression"),
    "diamonds": DataSet(target="price", task="regression"),
    "nycflights13": DataSet(
        target="arr_delay", task="regression", drop=("dep_delay", "air_time", "arr_time", "dep_time")
    ),
    "otto_products": DataSet(target="target", task="multiclass", drop=("id",)),
    "credit_risk": DataSet(target="loan_status", task="binary"),
    "fremtpl_freq": DataSet(target="ClaimNb", task="count", drop=("PolicyID",)),
    "store_item_demand": DataSet(target="sales", task="regression"),
    "us_babynames": DataSet(target="sex", task="binary"),
    "un_votes": DataSet(target="vote", task="multiclass"),
    "donors_kdd2014": DataSet(target="target", task="binary"),
    "online_retail": DataSet(target="Quantity", task="regression"),
    "pg17_motor_policies": DataSet(target="vh_value", task="regression"),
    "kddcup99_10pct": DataSet(target="label", task="multiclass"),
    "mnist": DataSet(target="label", task="multiclass", drop=("split",)),
    "amazon_reviews_20k": DataSet(target="Positive", task="binary"),
    "amazon_employee_access": DataSet(target="ACTION", task="binary"),
    "bike_sharing_hour": DataSet(target="cnt", task="regression", drop=("instant",)),
    "connect_4": DataSet(target="class", task="multiclass"),
    "covtype_20k": DataSet(target="Cover_Type", task="multiclass"),
    "dry_bean": DataSet(target="Class", task="multiclass"),
    "electricity_elec2": DataSet(target="class", task="binary"),
    "employee_salaries": DataSet(
        target="Current Annual Salary", task="regression", drop=("2016 Gross Pay Received", "2016 Overtime Pay")
    ),
    "etth1": DataSet(target="OT", task="regression"),
    "give_me_some_credit": DataSet(target="SeriousDlqin2yrs", task="binary"),
    "heart_disease_2020": DataSet(target="HeartDisease", task="binary"),
    "higgs_7k": DataSet(target="target", task="binary"),
    "hotel_bookings": DataSet(
        target="is_canceled", task="binary", drop=("reservation_status", "reservation_status_date")
    ),
    "house_16h": DataSet(target="target", task="regression"),
    "kin8nm": DataSet(target="y", task="regression"),
    "letter": DataSet(target="lettr", task="multiclass"),
    "mammography": DataSet(target="cls", task="binary"),
    "pol": DataSet(target="target", task="regression"),
    "shuttle": DataSet(target="target", task="multiclass"),
    "spambase": DataSet(target="spam", task="binary"),
    "telco_churn": DataSet(target="Churn", task="binary", drop=("customerID",)),
    "walmart_store_sales": DataSet(target="Weekly_Sales", task="regression"),
}


def as_numbers(column: pa.ChunkedArray, *, codes: bool = False) -> np.ndarray:
    """A column as float64 `(rows,)`: text and truth values as codes, times as microseconds."""
    if codes or pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
        _, places = np.unique(column.cast(pa.string()).fill_null("").to_numpy(), return_inverse=True)
        return places.astype(float)
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    return column.cast(pa.float64()).to_numpy()


# -- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a process cost, from its start to its end. `cpu_s` and `peak_rss_bytes` are of its whole tree; memory that
    processes share counts once for each of them."""

    seconds: float
    cpu_s: float
    peak_rss_bytes: int
    code: int
    output: str
    errors: str

    def checked(self) -> Self:
        """Itself; raises `RuntimeError` with the end of what was said when the process failed."""
        if self.code != 0:
            raise RuntimeError(f"a command ended with code {self.code}:\n{self.errors[-2000:]}")
        return self

    def answer(self) -> Any:
        """The JSON value on the last line of standard output."""
        return json.loads(self.checked().output.strip().splitlines()[-1])


def run_measured(
    command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command to its end; `environment` adds to this process's."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        before = _children_cpu_s()
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=errors,
        )  # fmt: skip
        with PeakMemory(process.pid) as peak:
            code = process.wait()
            seconds = time.perf_counter() - started
        return Measured(
            seconds=seconds, cpu_s=_children_cpu_s() - before, peak_rss_bytes=peak.bytes, code=code,
            output=_content(output), errors=_content(errors),
        )  # fmt: skip


def environment_of(peer: str, requirements: Sequence[str], environments: Path) -> Path:
    """The interpreter of a peer's own virtual environment, which is made where none has these requirements."""
    folder = environments / peer
    ready, wanted = folder / "ready", " ".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"{peer}: installing into {folder.name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        words = [str(folder / "bin" / "pip"), "install", "--quiet", "--constraint", str(ROOT / ".ci/constraints.txt")]
        subprocess.run([*words, *requirements, "pandas", "pyarrow"], check=True)
        ready.write_text(wanted)
    return folder / "bin" / "python"


def shardwise_command(*words: str) -> list[str]:
    """The command line of shardwise, in this interpreter's environment."""
    return [sys.executable, "-m", "shardwise", *words]


def in_fresh_process(function: Callable[..., Any], **arguments: Any) -> tuple[Any, Measured]:
    """`function(**arguments)` in a process of its own, with what it cost; both ways only JSON values travel.

    The function must stand at the top of a module of this folder. OpenMP's threads wait there as a peer's do.
    """
    module = Path(inspect.getfile(function)).stem
    command = [sys.executable, "-c", _CHILD, str(HERE), module, function.__name__, json.dumps(arguments)]
    measured = run_measured(command, environment=PEER_ENVIRONMENT)
    return measured.answer(), measured


class PeakMemory:
    """The most memory that a process and all its descendants had at a time: sum of resident set sizes."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, tree_rss_bytes(self._pid))
            if self._ended.wait(SAMPLE_S):
                return


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants now; 0 when it has ended."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def trees_texts(package: Path) -> list[str]:
    """The text that LightGBM reads, of each model of trees in a package."""
    texts = []
    for path in sorted(package.glob("models/*/model.txt.zst")):
        with pa.input_stream(path, compression="zstd") as stream:
            texts.append(stream.read().decode())
    return texts


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _content(file: Any) -> str:
    file.seek(0)
    return str(file.read())


# -- results ---------------------------------------------------------------------------------------------------------


class Results:
    """Appends figures to `<folder>/<name>.jsonl`, and prints all cases as a table in the end."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.path = folder / f"{name}.jsonl"
        self.rows: list[dict[str, Any]] = []

    def add(self, case: str, figures: Mapping[str, Any], **details: Any) -> None:
        """Keep the `figures` of a case for the table, and write them with `details` to the file."""
        self.rows.append({"case": case, **figures})
        line = {"benchmark": self.name, "case": case, **figures, **details, "command": command_line(), **machine()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf8") as file:
            file.write(json.dumps(line) + "\n")

    def print_table(self) -> None:
        print_table(self.rows)


def verdict(value: float, limit: float) -> str:
    """How a figure stands to the highest that is allowed."""
    return "ok" if value <= limit else "MISSED"


def command_line() -> str:
    """What was typed, without places on this machine."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--data", "--results", "--folder", "--cache", "--environments", "--report"):
        parser.add_argument(option)
    script = f"benchmarks/{Path(sys.argv[0]).name}"
    return shlex.join(["python", script, *parser.parse_known_args(sys.argv[1:])[1]])


def machine() -> dict[str, Any]:
    """What figures depend on beside the code: cores and memory that may be used, versions of Python and libraries."""
    return {
        "machine": {
            "cores": cpu_quota(),
            "memory_bytes": memory_limit_bytes(),
            "system": platform.system(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit that was measured, empty outside a repository."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as aligned columns, of all keys that any has."""
    if not rows:
        return
    names = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[str(name) for name in names], *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    print()
    for first, *others in cells:
        aligned = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *aligned]))


def _cell(value: Any) -> str:
    """A value for people: five digits of a fraction, thousands apart in a whole number."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def megabytes(size_bytes: float) -> float:
    return round(size_bytes / 1e6, 1)

"""A run: a folder of its own with a journal, and the ceilings under which it works."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from shardwise.compute.base import Executor, stream
from shardwise.compute.ceiling import MemoryWatch, check_disk, cpu_quota, give_back, memory_limit_bytes
from shardwise.compute.clock import Deadline, Interrupts
from shardwise.compute.engines import make_executor
from shardwise.compute.local import InlineExecutor, ProcessExecutor, ThreadExecutor
from shardwise.core.config import SERVED, RunConfig, dump_config
from shardwise.core.errors import BadInput, ConfigError, DiskFull, context
from shardwise.core.events import Events, RunOpened, Said, StageStarted
from shardwise.core.units import format_size
from shardwise.data.access import AccessCounter
from shardwise.models.families import NETWORKS
from shardwise.plan.memory import MAIN_BYTES, PASS_BYTES, PROCESS_BYTES
from shardwise.plan.training import CONFINED_SHARE
from shardwise.store.blobs import FolderBlobs
from shardwise.store.files import folder_bytes, write_atomic
from shardwise.store.journal import SqliteJournal
from shardwise.store.ledger import Ledger
from shardwise.train.inherit import KIND, Parent, inherit

THREADS_BYTES = 1_000_000_000  # a ceiling below leaves no room for several partitions at a time in this process
WATCH_S = 0.2  # between two looks at the memory of the process tree
ACT_SHARE = 0.985  # of the ceiling, at which the largest worker is ended: memory grows between two looks
FORMAT = 9  # part of every unit's key: work of another format version is not taken over


@dataclass
class Run:
    """What every stage is handed."""

    config: RunConfig
    folder: Path
    ledger: Ledger
    executor: Executor
    confined: Executor  # one process with all threads
    inline: InlineExecutor
    threads: ThreadExecutor
    deadline: Deadline
    watch: MemoryWatch
    interrupts: Interrupts
    events: Events
    stages: list[dict[str, Any]] = field(default_factory=list)
    access: AccessCounter = field(default_factory=AccessCounter)  # how the partitions were read
    parent: Parent | None = None  # that it goes on from
    taken_over: dict[str, set[int]] = field(default_factory=dict)  # pass -> partitions that the parent has read
    short: bool = False  # of memory: models learned from some of the rows, or were given up

    @property
    def blobs(self) -> Path:
        return self.folder / "blobs"

    def model(self, unit: str) -> Path:
        """Folder of the model that a unit of training left."""
        return self.folder / "models" / unit / "model"

    @property
    def package(self) -> Path:
        """Where the best package so far lies."""
        return Path(self.config.out) if self.config.out else self.folder / "package"

    @property
    def memory_bytes(self) -> int:
        """Of this process and what runs below it."""
        return memory_of(self.config)

    def worker_bytes(self) -> int:
        """What workers have: on this machine all of them together, on a cluster each, as far as its engine tells."""
        return self.executor.worker_bytes() or self.memory_bytes

    def executor_for(self, *, side_by_side: bool, needed_bytes: int = 0) -> Executor:
        """The workers where it pays to start them, else this process; what was asked for with --workers stands.

        Work that needs a good part of a ceiling that was asked for gets a process of its own, which may be ended.
        """
        if side_by_side or self.config.workers not in (None, 1) or self.config.engine != "local":
            return self.executor
        ceiling = self.config.memory_bytes
        return self.inline if ceiling is None or needed_bytes < CONFINED_SHARE * ceiling else self.confined

    def executor_for_pass(self, *, parts: int, large: bool) -> Executor:
        """What reads the data: the workers where there is much of it, threads where they would take longer to start."""
        if self.config.workers or (large and parts > 1) or self.config.engine != "local":
            return self.executor
        return self.threads if parts > 1 and self.memory_bytes >= THREADS_BYTES else self.inline

    def check_disk(self, needed_bytes: int) -> None:
        """Raises `DiskFull` when that much does not fit where the run lies, or under the ceiling that was asked for."""
        check_disk(self.folder, needed_bytes)
        ceiling, used = self.config.disk_bytes, folder_bytes(self.folder)
        if ceiling is not None and used + needed_bytes > ceiling:
            what = f"the run takes {format_size(used)} of disk and needs {format_size(needed_bytes)} more"
            least = format_size(used + needed_bytes)
            raise DiskFull(f"{what}; {format_size(ceiling)} are allowed", hint=f"Give --disk {least}, or fewer rows.")

    @property
    def stop_file(self) -> Path:
        return self.folder / "stop"

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What `note` journalled of a kind, in order."""
        return records_of(self.ledger, kind)

    def note(self, kind: str, **content: Any) -> None:
        """Journal something that is no work unit."""
        self.ledger.journal.append([{"kind": kind, **content}])

    def say(self, text: str, level: str = "info") -> None:
        self.events.emit(Said(text=text, level=level))

    @contextmanager
    def stage(self, name: str, total: int = 0) -> Iterator[dict[str, Any]]:
        """Times a stage, names it in errors, shows it, and journals what it took."""
        self.events.emit(StageStarted(stage=name, total=total))
        started = self.deadline.used_s()
        self.watch.lap()
        record: dict[str, Any] = {"stage": name, "rows": 0}
        with context(stage=name):
            yield record
        record["seconds"] = round(self.deadline.used_s() - started, 3)
        record["peak_bytes"] = self.watch.lap()
        give_back()
        self.stages.append(record)
        self.note("stage", **record)


def memory_of(config: RunConfig) -> int:
    """The ceiling that was asked for, or the machine's."""
    return min(config.memory_bytes or 2**62, memory_limit_bytes())


@contextmanager
def open_run(config: RunConfig, fingerprint: str, events: Events, *, spent_s: float = 0.0) -> Iterator[Run]:
    """Open a new run's folder or go on with one; one process at a time. Raises `ConfigError` when the folder belongs to
    a run that was asked for something else or read other data."""
    folder = Path(config.runs_folder) / (config.run or f"{_slug(config.target)}-{config.identity()}-{fingerprint[:6]}")
    interrupts = Interrupts((folder / "stop").touch)
    with ExitStack() as stack, context(run=folder.name):
        stack.callback(interrupts.pass_on)  # at the end, when all is closed
        if not folder.exists():
            stack.enter_context(_nothing_half_written(folder))
        folder.mkdir(parents=True, exist_ok=True)
        journal = stack.enter_context(SqliteJournal(folder / "journal.db"))
        if config.parent is not None and not len(journal):
            inherit(journal, folder, Path(config.parent))
        ledger = Ledger(journal, FolderBlobs(folder / "blobs"))
        again = _check_same(ledger, folder, config, fingerprint)
        write_atomic(folder / "config.yaml", dump_config(config).encode())
        (folder / "stop").unlink(missing_ok=True)
        clock = _Clock(folder / "clock.json", _limit_s(ledger, config, folder / "clock.json"), spent_s)
        stack.enter_context(clock)
        executor, confined = _executors(config)
        stack.callback(executor.close)
        if config.engine != "local":
            _check_shared(executor, folder)
        stack.callback(confined.close)
        threads = stack.enter_context(ThreadExecutor(cpu_quota()))
        stack.enter_context(interrupts)
        watch = stack.enter_context(_watch(config, (executor, confined)))
        used_s, limit_s = clock.deadline.used_s(), clock.deadline.limit_s
        opened = RunOpened(
            name=folder.name, folder=str(folder), used_s=used_s, limit_s=limit_s, memory_bytes=watch.limit_bytes,
            again=again, finished=_has_ended(records_of(ledger, "finished"), config, memory_of(config)),
        )  # fmt: skip
        events.emit(opened)
        yield Run(
            config, folder, ledger, executor, confined, InlineExecutor(), threads, clock.deadline, watch, interrupts,
            events, parent=Parent.of(records_of(ledger, KIND)),
        )  # fmt: skip


def _executors(config: RunConfig) -> tuple[Executor, ProcessExecutor]:
    """The workers, and one process for work that may exceed the memory; both under the ceiling, if there is one.

    There are no more workers than the ceiling has room for, and where it has room for one, that process does all. Of
    another engine the ceiling holds for what it runs below this process; its workers elsewhere are its own.
    """
    if config.memory_bytes is None:
        return _workers(config, config.workers), ProcessExecutor(1, threads=cpu_quota())
    rest = max(PASS_BYTES, config.memory_bytes - MAIN_BYTES)
    confined = ProcessExecutor(
        1, threads=cpu_quota(), memory_bytes=max(PASS_BYTES, config.memory_bytes - PROCESS_BYTES)
    )
    if config.engine != "local":
        return _workers(config, config.workers), confined
    count = min(config.workers or cpu_quota(), rest // PASS_BYTES)
    return (_workers(config, count, rest) if count > 1 else confined), confined


def _workers(config: RunConfig, count: int | None, memory_bytes: int | None = None) -> Executor:
    gpu = gpu_asked(config)
    return make_executor(config.engine, count, memory_bytes=memory_bytes, address=config.address, gpu=gpu)


def gpu_asked(config: RunConfig) -> bool | None:
    """Whether each worker needs a GPU of its own: with `--device cuda`, and, None, with `auto` where the cluster has
    some and networks alone are asked for. Of other runs all but few fits need none, and workers would wait for one."""
    if config.device == "auto" and config.families and set(config.families) <= set(NETWORKS):
        return None
    return config.device == "cuda"


def sees(path: str) -> bool:
    """A task: whether its worker has the file."""
    return Path(path).exists()


def _check_shared(executor: Executor, folder: Path) -> None:
    """Raises `ConfigError` where a worker does not see the run's folder, in which it has to leave what it does."""
    for outcome in stream(executor, sees, [str(folder / "config.yaml")] * executor.slots, retries=2):
        if not outcome.unwrap():
            hint = "Give a --runs-folder on storage that all workers share."
            raise ConfigError(f"a worker does not see the run's folder {folder}", hint=hint)


def _watch(config: RunConfig, executors: Sequence[Executor]) -> MemoryWatch:
    """Measures the process tree; above a ceiling that was asked for, the largest worker is ended."""
    ceiling = config.memory_bytes
    if ceiling is None:
        return MemoryWatch(memory_limit_bytes())

    def shed(used_bytes: int) -> None:
        for executor in executors:
            executor.shed(used_bytes, ceiling)

    return MemoryWatch(ceiling, WATCH_S, on_above=shed, act_share=ACT_SHARE)


@contextmanager
def _nothing_half_written(folder: Path) -> Iterator[None]:
    """A new run that ends because its input cannot be used, before any work was done, leaves no folder."""
    try:
        yield
    except BadInput:
        if not _has_worked(folder / "journal.db"):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _has_worked(path: Path) -> bool:
    """Whether work of the run's own is journalled: what it has from its parent is there still."""
    if not path.exists():
        return False
    with SqliteJournal(path, read_only=True) as journal:
        records = list(journal.read())
    taken = {unit for record in records if record["kind"] == KIND for unit in record["units"]}
    return any(record["kind"] == "unit" and record["unit"] not in taken for record in records)


def _check_same(ledger: Ledger, folder: Path, config: RunConfig, fingerprint: str) -> bool:
    """Whether the run was there before; raises `ConfigError` where it was asked for something else or of other data."""
    opened = records_of(ledger, "opened")
    if not opened:
        ledger.journal.append([{"kind": "opened", "identity": config.identity(), "data": fingerprint}])
        return False
    first = opened[0]
    if first["identity"] != config.identity():
        hint = f"Choose another --run name; what it was asked is in {folder / 'config.yaml'}."
        raise ConfigError("this run was asked for something else before", hint=hint)
    if first["data"] != fingerprint:
        raise ConfigError("the data has changed since this run began", hint="Choose another --run name.")
    return True


def _limit_s(ledger: Ledger, config: RunConfig, clock: Path) -> float | None:
    """Working time in all. `+5m` adds once to what a finished run has used, however often the command is restarted."""
    if not config.extends or config.time_s is None:
        return config.time_s
    extensions, finishes = records_of(ledger, "extended"), records_of(ledger, "finished")
    if extensions and len(finishes) <= extensions[-1]["after"]:
        return float(extensions[-1]["limit_s"])
    limit = _used_s(clock) + config.time_s
    ledger.journal.append([{"kind": "extended", "limit_s": limit, "after": len(finishes)}])
    return limit


def already_finished(run: Run) -> dict[str, Any] | None:
    """The result of the last finish when the same budget is asked for again, and would find no more."""
    finished = run.records("finished")
    if not finished or run.config.extends:
        return None
    last = finished[-1]
    if last["budget"] != _budget(run.config) or last.get("interrupted") or _was_short(last, run.memory_bytes):
        return None
    result: dict[str, Any] = last["result"]
    return result


def _was_short(finish: Mapping[str, Any], memory_bytes: int) -> bool:
    """Whether memory did not suffice, and there is more of it now."""
    return bool(finish.get("short_bytes")) and memory_bytes > finish["short_bytes"]


def _has_ended(finished: Sequence[Mapping[str, Any]], config: RunConfig, memory_bytes: int) -> bool:
    """Whether a run has ended that is given no more time: what is asked for anew is found by what it has."""
    if not finished or config.extends:
        return False
    last = finished[-1]
    goes_on = last.get("interrupted") or (_was_short(last, memory_bytes) and not last["result"]["cut"])
    return last["budget"].get("time") == config.time and not goes_on


def finish(run: Run, result: dict[str, Any]) -> None:
    """Journal the result, with what tells whether the same budget would find more: that the user ended the run, and
    the memory where it did not suffice."""
    if run.interrupts.stop_requested:
        run.say("The run was stopped: the same command goes on with it.")
    run.note(
        "finished", budget=_budget(run.config), result=result, interrupted=run.interrupts.stop_requested,
        short_bytes=run.memory_bytes if run.short else None,
    )  # fmt: skip


def _budget(config: RunConfig) -> dict[str, Any]:
    """What a finished run was given; the same again means that there is nothing to do."""
    return {name: getattr(config, name) for name in ("time", "trials", *SERVED)}


def records_of(ledger: Ledger, kind: str) -> list[dict[str, Any]]:
    return [dict(record) for record in ledger.journal.read() if record["kind"] == kind]


class _Clock:
    """Keeps the working time of a run on disk, twice a second, so that a killed run goes on counting."""

    def __init__(self, path: Path, limit_s: float | None, spent_s: float) -> None:
        self._path = path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="clock", daemon=True)
        self.deadline = Deadline(limit_s, used_s=_used_s(path) + spent_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._write()

    def _tick(self) -> None:
        while not self._stopped.wait(0.5):
            self._write()

    def _write(self) -> None:
        temp = self._path.with_suffix(".new")
        temp.write_text(json.dumps({"used_s": round(self.deadline.used_s(), 3)}), encoding="utf8")
        temp.replace(self._path)


def _used_s(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf8"))["used_s"]) if path.exists() else 0.0


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in name).strip("-")[:40] or "target"

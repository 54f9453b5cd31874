"""What a member of a gang does in `bench_model_parallel.py`: it fits a network, and looks at its own memory."""

import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise.compute.gang.base import Member
from shardwise.core.parallel import Split
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.data.rows import DiskRows
from shardwise.models.neural.model import Neural

TARGET = Target(column="y", task=Task.BINARY, classes=("no", "yes"))


@dataclass(frozen=True)
class Fit:
    """In a member: a fit, with at most `cap` bytes beside what the process has."""

    folder: Path
    features: tuple[Feature, ...]
    params: dict[str, Any]
    split: Split | None
    cap: int | None = None

    def __call__(self, member: Member) -> dict[str, Any]:
        import torch.distributed.tensor  # noqa: F401 - what it takes is no part of the model
        from torch.distributed.pipelining import PipelineStage  # noqa: F401

        from shardwise.models.base import FitRun

        losses: list[float] = []
        train, valid = (DiskRows(self.folder, self.features, (fold,)) for fold in (0, 1))
        run = FitRun(
            seed=1, device="cpu", member=member if member.size > 1 else None, split=self.split,
            report=lambda _step, loss: losses.append(loss) or True,
        )  # fmt: skip
        limits = resource.getrlimit(resource.RLIMIT_DATA)
        with _Peak() as peak:
            if self.cap is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (_bytes("VmData") + self.cap, limits[1]))
            try:
                began = time.perf_counter()
                Neural(TARGET, self.features, **self.params).fit(train, valid, run)
                seconds = time.perf_counter() - began
            finally:
                resource.setrlimit(resource.RLIMIT_DATA, limits)
        return {"losses": losses, "seconds": seconds, "peak": peak.bytes}


class _Peak:
    """The most anonymous memory of this process beyond what it had at the beginning."""

    def __enter__(self) -> "_Peak":
        self.bytes, self._before, self._ended = 0, _bytes("RssAnon"), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.bytes = max(self.bytes, _bytes("RssAnon") - self._before)


def _bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

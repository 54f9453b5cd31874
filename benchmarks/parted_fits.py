"""What a member of a gang does in `bench_model_parallel.py`: it fits a network, and looks at its own memory."""

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.compute.gang.base import Member
from shardwise.core.parallel import Split
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.data.rows import DiskRows
from shardwise.models.neural.model import Neural

TARGET = Target(column="y", task=Task.BINARY, classes=("no", "yes"))


@dataclass(frozen=True)
class Fit:
    """In a member: a fit, with at most `cap` bytes beside what the process has.

    `exact`: in float64, where sums in another order differ by 1e-16. `slices`: gradients of so many pieces of a batch
    are added up.
    """

    folder: Path
    features: tuple[Feature, ...]
    params: dict[str, Any]
    split: Split | None
    cap: int | None = None
    exact: bool = False
    slices: int = 1

    def __call__(self, member: Member) -> dict[str, Any]:
        import torch.distributed.tensor  # noqa: F401 - what it takes is no part of the model
        from torch.distributed.pipelining import PipelineStage  # noqa: F401

        from shardwise.models.base import FitRun

        losses: list[float] = []
        train, valid = (DiskRows(self.folder, self.features, (fold,)) for fold in (0, 1))
        run = FitRun(
            seed=1, device="cpu", member=member if member.size > 1 else None, split=self.split, slices=self.slices,
            report=lambda _step, loss: losses.append(loss) or True,
        )  # fmt: skip
        limits = resource.getrlimit(resource.RLIMIT_DATA)
        square = np.ones((512, 512), np.float32)
        square @ square  # what OpenBLAS reserves for itself, 32 MB, is no part of the model either
        with _Peak() as peak, _lenders() as lenders, _doubles() if self.exact else nullcontext():
            if self.cap is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (_bytes("VmData") + self.cap, limits[1]))
            try:
                began = time.perf_counter()
                Neural(TARGET, self.features, **self.params).fit(train, valid, run)
                seconds = time.perf_counter() - began
            finally:
                resource.setrlimit(resource.RLIMIT_DATA, limits)
        most = max((lender.most for lender in lenders), default=0)
        return {"losses": losses, "seconds": seconds, "peak": peak.bytes, "lent": most}


@contextmanager
def _lenders() -> Iterator[list[Any]]:
    """Those that are made meanwhile: each knows how much was borrowed at once."""
    from shardwise.models.neural.parts.lent import Lender

    made, begin = list[Any](), Lender.__init__

    def begun(self: Lender, *given: Any) -> None:
        begin(self, *given)
        made.append(self)

    try:
        Lender.__init__ = begun  # type: ignore[method-assign]
        yield made
    finally:
        Lender.__init__ = begin  # type: ignore[method-assign]


@contextmanager
def _doubles() -> Iterator[None]:
    """Networks learn in float64 meanwhile."""
    import torch

    from shardwise.models.neural.parts.training import PartedTraining
    from shardwise.models.neural.training import Training

    def placed(of: Callable[[Any], dict[str, torch.Tensor]]) -> Callable[[Any], dict[str, torch.Tensor]]:
        return lambda self: {name: each.detach().double().requires_grad_(each.requires_grad)
                             for name, each in of(self).items()}  # fmt: skip

    def to_device(self: Any, block: Any) -> Any:
        rows = kept[2](self, block)
        return replace(rows, numbers=rows.numbers.double(), y=rows.y.double())

    kept: tuple[Any, ...] = Training._placed, PartedTraining._placed, Training.to_device
    changed: tuple[Any, ...] = placed(kept[0]), placed(kept[1]), to_device
    try:
        torch.set_default_dtype(torch.float64)
        Training._placed, PartedTraining._placed, Training.to_device = changed
        yield
    finally:
        Training._placed, PartedTraining._placed, Training.to_device = kept
        torch.set_default_dtype(torch.float32)


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

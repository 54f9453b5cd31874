"""Networks in parts on real processes (gloo) against the whole network in this one: scores, gradients, memory."""

import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import psutil
import pytest

from shardwise.compute.ceiling import give_back

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.compute.gang.base import Gang, Member  # noqa: E402
from shardwise.compute.gang.local import process_gang  # noqa: E402
from shardwise.core.events import WorkerView  # noqa: E402
from shardwise.core.parallel import Split  # noqa: E402
from shardwise.core.target import Target, Task  # noqa: E402
from shardwise.models.neural.losses import loss_of  # noqa: E402
from shardwise.models.neural.network import forward  # noqa: E402
from shardwise.models.neural.parts.cuts import Cuts  # noqa: E402
from shardwise.models.neural.parts.group import placed  # noqa: E402
from shardwise.models.neural.parts.layers import CutLayers  # noqa: E402
from shardwise.models.neural.parts.pipeline import Pipeline  # noqa: E402
from shardwise.models.neural.shape import Shape, Weights, first_weights  # noqa: E402
from shardwise.models.neural.steps import Batch  # noqa: E402

CLASSES, SMOOTHING, ROWS, DROPOUT = 5, 0.1, 31, 0.3
BASE = Shape(
    numbers=5, codes=2, slots=61, scores=CLASSES, members=2, width=18, depth=3, knots=4, embedding=6, code_embedding=4
)
TABLE = Shape(**{**vars(BASE), "slots": 2000, "activation": "silu"})
WIDE = Shape(**{**vars(BASE), "scores": 40, "activation": "silu"})
EVEN = Shape(**{**vars(BASE), "depth": 6, "width": 24, "activation": "silu"})
CASES = {
    "tensor 2": ("tensor", 2, 2, BASE), "tensor 4": ("tensor", 4, 4, BASE), "data x tensor": ("tensor", 2, 4, BASE),
    "wide 2": ("tensor", 2, 2, WIDE), "wide 4": ("tensor", 4, 4, WIDE), "pipeline 2": ("pipeline", 2, 2, EVEN),
    "pipeline 4": ("pipeline", 4, 4, EVEN), "data x pipeline": ("pipeline", 2, 4, EVEN),
    "embedding 2": ("embedding", 2, 2, TABLE), "embedding 4": ("embedding", 4, 4, TABLE),
    "embedding, a worker without rows": ("embedding", 4, 4, Shape(**{**vars(BASE), "slots": 5})),
}  # fmt: skip


@pytest.fixture(scope="module")
def gang() -> Iterator[Gang]:
    with process_gang(4, threads=1) as gang:
        yield gang


def weights_of(shape: Shape, pieces: Any = None) -> Weights:
    knots = np.sort(np.random.default_rng(0).normal(size=(shape.numbers, shape.knots + 1)), axis=1)
    weights = first_weights(shape, knots, np.zeros(shape.scores), 3, pieces)
    rng = np.random.default_rng(1)
    for name, size in shape.tensors().items():  # what begins at 0 or 1 must not hide a mistake
        noise = rng.normal(0, 0.1, size).astype(np.float32)
        if name in weights and name not in ("knots", "slopes"):
            weights[name] = weights[name] + (noise if pieces is None else noise[pieces[name]])
    return weights


def batch_of(shape: Shape) -> Batch:
    rng = np.random.default_rng(2)
    slots = rng.integers(0, shape.slots, (ROWS, shape.codes))
    return Batch(
        torch.tensor(rng.normal(size=(ROWS, shape.numbers)), dtype=torch.float32), torch.tensor(slots),
        torch.tensor(rng.integers(0, shape.scores, ROWS), dtype=torch.float32),
        torch.tensor(rng.uniform(0.5, 2.0, ROWS), dtype=torch.float32),
    )  # fmt: skip


def loss_for(shape: Shape) -> Any:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(map(str, range(shape.scores))))
    return loss_of(target, np.ones(shape.scores), SMOOTHING)


@dataclass(frozen=True)
class Computed:
    """In a member: scores, the loss, this member's pieces of the gradients, and its share of the parameters."""

    kind: str
    parts: int
    shape: Shape
    dropout: float

    def __call__(self, member: Member) -> dict[str, Any]:
        torch.set_num_threads(1)
        cuts = Cuts(self.shape, Split(kind=self.kind, parts=self.parts), member.size)
        tensors = {
            name: torch.tensor(array) for name, array in weights_of(self.shape, cuts.pieces(member.rank)).items()
        }
        for name, tensor in tensors.items():
            tensor.requires_grad_(cuts.learns(name))
        with placed(member, cuts) as place:
            loss, batch = loss_for(self.shape), batch_of(self.shape)
            if self.kind == "pipeline":
                network: Any = Pipeline(place, tensors, loss, self.dropout, ROWS)
            else:
                network = CutLayers(place, tensors, loss, self.dropout, SMOOTHING)
            torch.manual_seed(7)
            total = place.all_reduce(network.gradients(batch))
            scores = network.scores(batch)
        gradients = {
            name: tensor.grad.to_dense().numpy() for name, tensor in tensors.items() if tensor.grad is not None
        }
        held, lent = sum(tensor.numel() for tensor in tensors.values()), network.layers.lender.most
        return {"loss": total.item(), "scores": scores.numpy(), "gradients": gradients, "held": held, "lent": lent}


@cache
def whole(shape: Shape, dropout: float) -> dict[str, Any]:
    tensors = {name: torch.tensor(array) for name, array in weights_of(shape).items()}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name not in ("knots", "slopes"))
    batch = batch_of(shape)
    torch.manual_seed(7)
    scores = forward(shape, tensors, batch.numbers, batch.slots, dropout=dropout)
    loss = (loss_for(shape)(scores, batch.y) * batch.weight).sum() / ROWS
    loss.backward()
    with torch.no_grad():
        scores = forward(shape, tensors, batch.numbers, batch.slots)
    gradients = {name: tensor.grad.numpy() for name, tensor in tensors.items() if tensor.grad is not None}
    return {"loss": loss.item(), "scores": scores.numpy(), "gradients": gradients}


@pytest.mark.parametrize("case", CASES)
def test_parts_compute_what_the_whole_does(gang: Gang, case: str) -> None:
    kind, parts, size, shape = CASES[case]
    dropout = 0.0 if kind == "pipeline" else DROPOUT  # a stage draws for its own layers alone
    expected, cuts = whole(shape, dropout), Cuts(shape, Split(kind=kind, parts=parts), size)
    told = gang.run(Computed(kind, parts, shape, dropout), size)
    total = sum(np.prod(cells) for cells in shape.tensors().values())
    for rank, found in enumerate(told):
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
        assert (found["held"] + found["lent"]) / total <= 1 / size + 0.15
        pieces = {name: piece for name, piece in cuts.pieces(rank).items() if cuts.learns(name)}
        assert found["gradients"].keys() == pieces.keys()
        for name, piece in pieces.items():
            np.testing.assert_allclose(found["gradients"][name], expected["gradients"][name][piece], atol=1e-5)


@dataclass(frozen=True)
class Bounded:
    """In a member: gradients twice, the second time with room for half of the table beside what there is."""

    shape: Shape

    def __call__(self, member: Member) -> tuple[int, ...]:
        torch.set_num_threads(1)
        cuts = Cuts(self.shape, Split(kind="embedding", parts=member.size), member.size)
        weights = weights_of(self.shape, cuts.pieces(member.rank))
        tensors = {name: torch.tensor(weights.pop(name), requires_grad=cuts.learns(name)) for name in list(weights)}
        limits = resource.getrlimit(resource.RLIMIT_DATA)
        with placed(member, cuts) as place:
            network = CutLayers(place, tensors, loss_for(self.shape), 0.0, SMOOTHING)
            for bounded in (False, True):
                for tensor in tensors.values():
                    tensor.grad = None
                give_back()
                if bounded:
                    room = psutil.Process().memory_info().data + 2 * math.prod(cuts.tensors["categories"])
                    resource.setrlimit(resource.RLIMIT_DATA, (room, limits[1]))
                network.gradients(batch_of(self.shape))
            resource.setrlimit(resource.RLIMIT_DATA, limits)
        return tuple(tensors["categories"].grad.shape)


@pytest.mark.skipif(sys.platform != "linux", reason="bounds what a process may have by RLIMIT_DATA")
def test_no_worker_ever_has_the_gradient_of_the_whole_table(gang: Gang) -> None:
    shape = Shape(**{**vars(BASE), "slots": 2**20, "code_embedding": 8})
    assert gang.run(Bounded(shape), 4) == [(2**18, 8)] * 4


@dataclass(frozen=True)
class Late:
    """In a member: some steps, to each of which the last member comes late."""

    kind: str
    shape: Shape

    def __call__(self, member: Member) -> None:
        torch.set_num_threads(1)
        cuts = Cuts(self.shape, Split(kind=self.kind, parts=member.size), member.size)
        weights = weights_of(self.shape, cuts.pieces(member.rank))
        tensors = {name: torch.tensor(array, requires_grad=cuts.learns(name)) for name, array in weights.items()}
        batch = batch_of(self.shape)
        with placed(member, cuts) as place:
            loss = loss_for(self.shape)
            if self.kind == "pipeline":
                network: Any = Pipeline(place, tensors, loss, 0.0, ROWS)
            else:
                network = CutLayers(place, tensors, loss, 0.0, SMOOTHING)
            for _ in range(4):
                if member.rank == member.size - 1:
                    time.sleep(0.4)
                network.gradients(batch)


@pytest.mark.parametrize(("kind", "shape"), [("tensor", BASE), ("pipeline", EVEN)])
def test_time_in_which_others_are_waited_for_is_no_work(gang: Gang, kind: str, shape: Shape) -> None:
    last: list[WorkerView] = []

    def watch(workers: list[WorkerView]) -> None:
        last[:] = workers

    gang.run(Late(kind, shape), 2, watch=watch)
    assert last[0].wait_s > last[0].work_s

"""One step of the optimiser: gradients of a batch, in smaller parts where the device has no memory for all of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from shardwise.core.errors import OverBudget
from shardwise.models.neural.adamw import FusedAdamW, adamw
from shardwise.models.neural.network import Tensors
from shardwise.models.neural.shape import Weights
from shardwise.models.slices import Slices

CHECKED_STEPS = 32  # on an accelerator: to look at a number is to wait for it
_PLAIN = ("w", "p", "h")  # first letters of the matrices, which decay; vectors and embeddings do not


class NotFinite(Exception):  # an outcome inside of training: the round is taken again
    """The loss or its gradient was NaN or infinite in the batch of this number."""

    def __init__(self, batch: int) -> None:
        super().__init__(batch)
        self.batch = batch


@dataclass(frozen=True)
class Batch:
    """Rows on the device: numbers float32 `(rows, numbers)`, slots int64 `(rows, codes)`, y and weight `(rows,)`."""

    numbers: torch.Tensor
    slots: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.y)

    def part(self, start: int, stop: int) -> "Batch":
        weight = None if self.weight is None else self.weight[start:stop]
        return Batch(self.numbers[start:stop], self.slots[start:stop], self.y[start:stop], weight)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch had no memory: on an accelerator it has a class for that, on the processor words alone."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@dataclass
class Steps:
    """AdamW over the tensors that learn.

    `loss` gives the sum over the rows of a part. `part_rows` is the most rows that go through at once: it is halved
    when the device runs out of memory, and gradients are added up, so that a step is the same. `slices` says which part
    of a batch this process works on, where there are several; `begin(step, slice)` is called before each slice.
    `beta2` says how slowly the second moment forgets.
    """

    tensors: Tensors
    loss: Callable[[Batch], torch.Tensor]
    weight_decay: float
    gradient_clip: float
    part_rows: int
    tell: Callable[[str], None]
    slices: Slices = field(default_factory=lambda: Slices(1, None))
    begin: Callable[[int, int], None] = lambda _step, _slice: None
    beta2: float = 0.999
    optimizer: FusedAdamW | torch.optim.AdamW = field(init=False)
    _unseen: list[tuple[int, torch.Tensor]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        learned = {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}
        self._learned = learned
        decayed = [tensor for name, tensor in learned.items() if name.startswith(_PLAIN)]
        plain = [tensor for name, tensor in learned.items() if not name.startswith(_PLAIN)]
        device = next(iter(learned.values())).device
        self._checked_steps = 1 if device.type == "cpu" else CHECKED_STEPS
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = adamw([g for g in groups if g["params"]], device, (0.9, self.beta2))

    def step(self, batch: Batch, rate: float, number: int, *, going: bool = True) -> bool:
        """One step, unless a member is not `going`: then nothing is changed, and False comes back.

        Raises `NotFinite` (on an accelerator up to 32 steps later), `OverBudget` when one row is too much.
        """
        if self.slices.total == 1 and self.slices.member is None:
            total = self._gradients(batch)
            self.slices.saw(len(batch))
        else:
            total, stopped = self._shared(batch, number, going)
            if stopped:
                return False
        norm = torch.nn.utils.clip_grad_norm_(self._learned.values(), self.gradient_clip)
        self._take(rate, number, total + norm)
        return True

    def _take(self, rate: float, number: int, judged: torch.Tensor) -> None:
        """The optimiser's step, once what is `judged` was found finite."""
        self._unseen.append((number, judged))
        if len(self._unseen) >= self._checked_steps:
            self.check()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._apply()

    def _apply(self) -> None:
        self.optimizer.step()

    def _shared(self, batch: Batch, number: int, going: bool) -> tuple[torch.Tensor, bool]:
        """The batch's mean loss, and whether a member stops; its gradients, from all members, are left in the tensors.

        Losses are weighted by 1 / rows of the batch, so that the slices' gradients are added and not averaged.
        """
        learned = list(self._learned.values())

        def gradient(slice_: int, rows: slice) -> np.ndarray:
            self.begin(number, slice_)
            part = batch.part(rows.start, rows.stop)
            loss = self._gradients(part, len(batch)) if len(part) else self._none()
            flat = [tensor.grad.reshape(-1) if tensor.grad is not None else tensor.new_zeros(tensor.numel())
                    for tensor in learned]  # fmt: skip
            flag = loss.new_full((1,), float(not going))
            return torch.cat([loss.reshape(1), flag, *flat]).cpu().numpy()

        summed = torch.from_numpy(self.slices.sum(gradient, 0, len(batch)))
        place = 2
        for tensor in learned:
            given = summed[place : place + tensor.numel()].reshape(tensor.shape)
            tensor.grad = given.to(tensor.device)
            place += tensor.numel()
        return summed[0], bool(summed[1] > 0)

    def _none(self) -> torch.Tensor:
        """The loss of no rows."""
        self.optimizer.zero_grad()
        return torch.zeros(())

    def check(self) -> None:
        """Look at what was not looked at yet."""
        unseen, self._unseen = self._unseen, []
        if not unseen:
            return
        finite = torch.stack([value for _, value in unseen]).isfinite().tolist()
        if not all(finite):
            raise NotFinite(unseen[finite.index(False)][0])

    def _gradients(self, batch: Batch, of_rows: int | None = None) -> torch.Tensor:
        """The loss of rows as a mean over `of_rows` (default: themselves); its gradients are left in the tensors."""
        while True:
            try:
                return self._added(batch, of_rows or len(batch))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(batch), error)
            if torch.cuda.is_available():  # after the error is gone, and with it what its frames held
                torch.cuda.empty_cache()

    def _added(self, batch: Batch, of_rows: int) -> torch.Tensor:
        self.optimizer.zero_grad()
        total = torch.zeros((), device=batch.y.device)
        for start in range(0, len(batch), self.part_rows):
            loss = self.loss(batch.part(start, start + self.part_rows)) / of_rows
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _halve(self, rows: int, error: BaseException) -> None:
        most = min(self.part_rows, rows)
        if most == 1:
            raise OverBudget(
                "the device has no memory for a single row of the network",
                hint="Give a smaller width or fewer members, more --memory, or --device cpu.",
            ) from error
        self.part_rows = -(-most // 2)
        self.tell(
            f"The device ran out of memory with {most} rows at once. Trying with {self.part_rows}; "
            f"gradients are added up, so that a step still sees {rows}."
        )

    def remembered(self) -> Tensors:
        """What the optimiser remembers: `<tensor>/<name>` -> value; empty before the first step."""
        return {f"{name}/{key}": value.detach() for name, tensor in self._learned.items()
                for key, value in self.optimizer.state.get(tensor, {}).items()}  # fmt: skip

    def restore(self, weights: Weights, moments: Weights) -> None:
        """Go back to weights and moments that were taken together."""
        self._unseen = []
        self.optimizer.state.clear()
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(torch.tensor(weights[name]))
        for place, array in moments.items():
            name, key = place.split("/")
            tensor = self.tensors[name]
            device = tensor.device if key != "step" or self.optimizer.defaults["fused"] else "cpu"
            self.optimizer.state[tensor][key] = torch.tensor(array, device=device)

"""AdamW as PyTorch's fused kernel computes it, without the class around it: that imports PyTorch's compiler when it is
first used, which takes three seconds of each process, and nothing here is compiled."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

FUSED = ("cpu", "cuda")  # devices with such a kernel
MOMENTS = ("exp_avg", "exp_avg_sq")


class FusedAdamW:
    """What is used of `torch.optim.AdamW(groups, lr, betas, fused=True)`, under its names, and with the same bits."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float = 1e-8
    ) -> None:
        self.defaults = {"fused": True}
        self.param_groups = [{"lr": lr, "betas": betas, "eps": eps, **group} for group in groups]
        self.state: defaultdict[torch.Tensor, dict[str, torch.Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        """As PyTorch's own by default: no gradient is there any more."""
        for group in self.param_groups:
            for tensor in group["params"]:
                tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step for the tensors that have a gradient."""
        for group in self.param_groups:
            tensors = [tensor for tensor in group["params"] if tensor.grad is not None]
            for tensor in tensors:
                begin_state(self.state[tensor], tensor)
            if tensors:
                states = [self.state[tensor] for tensor in tensors]
                fused_step(tensors, [tensor.grad for tensor in tensors], states, group)


def begin_state(state: dict[str, torch.Tensor], tensor: torch.Tensor) -> None:
    """What is remembered of a tensor, before its first step."""
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
        state |= {name: torch.zeros_like(tensor) for name in MOMENTS}


def fused_step(
    tensors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], states: Sequence[Mapping[str, torch.Tensor]],
    group: Mapping[str, Any],
) -> None:  # fmt: skip
    """One step of tensors that do not ask for gradients meanwhile, with the rate and the other settings of a group."""
    steps, first, second = ([state[name] for state in states] for name in ("step", *MOMENTS))
    torch._foreach_add_(steps, 1)
    torch._fused_adamw_(
        list(tensors), list(gradients), first, second, [], steps,
        lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"],
        eps=group["eps"], amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
    )  # fmt: skip


def adamw(
    groups: list[dict[str, Any]], device: torch.device, betas: tuple[float, float]
) -> "FusedAdamW | torch.optim.AdamW":
    """Of tensors on a device, with a rate of 0 until one is set."""
    if device.type in FUSED:
        return FusedAdamW(groups, lr=0.0, betas=betas)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=False)

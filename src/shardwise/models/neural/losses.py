"""The loss of each task in PyTorch, on raw scores: those of `links`, whose gradients are written there."""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from shardwise.core.target import Target, Task

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_TINY = 1e-7
_HIGHEST = 30.0  # exp of more is no count


def loss_of(target: Target, constant: np.ndarray, label_smoothing: float = 0.0) -> Loss:
    """(scores `(rows, members, scores)`, y `(rows,)`) -> loss `(rows,)`, the mean over the members.

    `constant` is the best constant prediction: counts are divided by it, so that steps do not depend on their size.
    With `label_smoothing` a class is learned as that share less than sure (Szegedy et al. 2016).
    """
    quantile, mean = target.quantile, max(float(constant[0]), _TINY)

    def binary(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        soft = y * (1.0 - label_smoothing) + label_smoothing / 2
        wanted = soft[:, None].expand(scores.shape[:2])
        return functional.binary_cross_entropy_with_logits(scores[..., 0], wanted, reduction="none").mean(1)

    def multiclass(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        wanted = y.long()[:, None].expand(scores.shape[:2])
        flat = scores.transpose(1, 2)
        return functional.cross_entropy(flat, wanted, reduction="none", label_smoothing=label_smoothing).mean(1)

    def squared(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * (scores[..., 0] - y[:, None]).square().mean(1)

    def poisson(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        score = scores[..., 0].clamp(max=_HIGHEST)
        return ((score.exp() - y[:, None] * score) / mean).mean(1)

    def pinball(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        above = y[:, None] - scores[..., 0]
        return torch.maximum(quantile * above, (quantile - 1) * above).mean(1)

    losses = {
        Task.BINARY: binary,
        Task.MULTICLASS: multiclass,
        Task.REGRESSION: squared,
        Task.COUNT: poisson,
        Task.QUANTILE: pinball,
    }
    return losses[target.task]

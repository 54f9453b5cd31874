"""The network in PyTorch: the same sums as in `forward`, with dropout and gradients."""

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from shardwise.models.neural.grids.learned import outputs
from shardwise.models.neural.shape import FIXED, LIMIT, Shape, Weights

Tensors = dict[str, torch.Tensor]
ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": functional.relu, "silu": functional.silu}


def on_device(weights: Mapping[str, object], device: torch.device) -> Tensors:
    """Copies of NumPy weights as leaves that learn, but for the knots."""
    tensors = {name: torch.tensor(array, device=device) for name, array in weights.items()}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name not in FIXED and tensor.numel() > 0)
    return tensors


def to_numpy(tensors: Tensors) -> Weights:
    """Copies of the weights, float32."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def forward(
    shape: Shape, tensors: Tensors, numbers: torch.Tensor, slots: torch.Tensor, *, dropout: float = 0.0,
    learning: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Raw scores float32 `(rows, members, scores)`; numbers float32 `(rows, numbers)`, slots int64 `(rows, codes)`.

    Where there is a trunk, the cells that it reads follow the numbers; while it is `learning`, it may vary them.
    """
    hidden = torch.cat([embedded_numbers(tensors, numbers[:, : shape.numbers]), embedded_codes(tensors, slots)], dim=1)
    if shape.trunk is not None:
        found = outputs(shape.trunk, tensors, numbers[:, shape.numbers :], learning=learning)
        hidden = torch.cat([hidden, found], dim=1)
    hidden = hidden.unsqueeze(0)
    for layer in range(shape.depth):
        hidden = one_layer(shape, tensors, layer, hidden, dropout)
    return head(tensors, hidden)


def one_layer(shape: Shape, tensors: Tensors, layer: int, hidden: torch.Tensor, dropout: float) -> torch.Tensor:
    """`(members, rows, width)` of hidden `(members or 1, rows, in)`.

    A member's vectors are multiplied into a matrix of its own: that is less work than into the rows of a batch.
    """
    own = tensors[f"r{layer}"].unsqueeze(2) * tensors[f"w{layer}"] * tensors[f"s{layer}"].unsqueeze(1)
    product = torch.baddbmm(tensors[f"b{layer}"].unsqueeze(1), hidden.expand(len(own), -1, -1), own)
    hidden = ACTIVATIONS[shape.activation](product)
    rows, width = hidden.shape[1:]
    return hidden * mask(rows, width, dropout, hidden.device).transpose(0, 1) if dropout else hidden


def head(tensors: Tensors, hidden: torch.Tensor) -> torch.Tensor:
    """Raw scores `(rows, members, scores)` of hidden `(members, rows, width)`, as exact as the tensors are."""
    scores = torch.baddbmm(tensors["bias"].unsqueeze(1), hidden, tensors["head"])
    return scores.transpose(0, 1).to(tensors["bias"].dtype)


def mask(rows: int, width: int, dropout: float, device: torch.device) -> torch.Tensor:
    """Dropout `(rows, 1, width)`: the same for all members, as drawing one for each takes a fourth of a step."""
    kept = torch.empty((rows, 1, width), device=device).uniform_() >= dropout  # `bernoulli_` takes twice as long
    return kept.float().div_(1 - dropout)


def number_places(tensors: Tensors, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers within their limits `(numbers, rows, 1)`, and where in its pieces each lies `(numbers, rows, knots)`."""
    column = numbers.T.clamp(-LIMIT, LIMIT).unsqueeze(2)
    return column, ((column - tensors["knots"].unsqueeze(1)) * tensors["slopes"].unsqueeze(1)).clamp(0, 1)


def embedded_numbers(tensors: Tensors, numbers: torch.Tensor) -> torch.Tensor:
    """`(rows, numbers * embedding)`."""
    column, places = number_places(tensors, numbers)
    line = tensors["shift"].unsqueeze(1) + column * tensors["linear"].unsqueeze(1)
    return beside(torch.baddbmm(line, places, tensors["pieces"]).transpose(0, 1))


def embedded_codes(tensors: Tensors, slots: torch.Tensor) -> torch.Tensor:
    """`(rows, codes * code_embedding)`."""
    return beside(functional.embedding(slots, tensors["categories"]))


def beside(values: torch.Tensor) -> torch.Tensor:
    """`(rows, a * b)` of `(rows, a, b)`, also where there is none."""
    return values.reshape(len(values), values.shape[1] * values.shape[2])

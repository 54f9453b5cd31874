"""The trunks in PyTorch: the same sums as in `trunks`, with gradients, and images that move while they are learned."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from shardwise.models.neural.grids.trunks import ConvTrunk, GruTrunk, Trunk

Tensors = dict[str, torch.Tensor]


def outputs(trunk: Trunk, tensors: Tensors, cells: torch.Tensor, *, learning: bool) -> torch.Tensor:
    """`(rows, outputs)` of prepared cells float32 `(rows, inputs)`."""
    return _LEARNED[type(trunk)](trunk, tensors, cells, learning)


def _convolution(trunk: ConvTrunk, tensors: Tensors, cells: torch.Tensor, learning: bool) -> torch.Tensor:
    images = cells.reshape(len(cells), trunk.height, trunk.width, trunk.channels).permute(0, 3, 1, 2)
    hidden = moved(images, trunk.shift) if learning and trunk.shift else images
    before = trunk.kernel // 2
    around = (before, trunk.kernel - 1 - before) * 2
    for block in range(trunk.blocks):
        depth = trunk.sides(block)[2]
        weight = tensors[f"wc{block}"].reshape(trunk.kernel, trunk.kernel, depth, -1).permute(3, 2, 0, 1)
        hidden = functional.relu(functional.conv2d(functional.pad(hidden, around), weight, tensors[f"bc{block}"]))
        hidden = functional.max_pool2d(hidden, 2, ceil_mode=True)
    flat = hidden.permute(0, 2, 3, 1).reshape(len(cells), trunk.flat)
    return functional.relu(torch.addmm(tensors["bt"], flat, tensors["wt"]))


def moved(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image `(rows, channels, height, width)` moved by up to `most` pixels each way; its edge is carried on."""
    rows, _, height, width = images.shape
    places = torch.randint(0, 2 * most + 1, (2, rows, 1), device=images.device)
    padded = functional.pad(images, (most,) * 4, mode="replicate").permute(0, 2, 3, 1)
    lines = places[0] + torch.arange(height, device=images.device)
    columns = places[1] + torch.arange(width, device=images.device)
    row = torch.arange(rows, device=images.device)[:, None, None]
    return padded[row, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _recurrent(trunk: GruTrunk, tensors: Tensors, cells: torch.Tensor, learning: bool) -> torch.Tensor:
    inputs = _patched(trunk, cells)
    state = inputs.new_zeros((1, len(cells), trunk.hidden))
    flat = [tensors["wi"].T, tensors["wh"].T, tensors["bi"], tensors["bh"]]
    states, last = torch.gru(inputs, state, flat, True, 1, 0.0, learning, False, True)
    return torch.cat([last[0], states.mean(dim=1)], dim=1)


def _patched(trunk: GruTrunk, cells: torch.Tensor) -> torch.Tensor:
    values = cells[:, : trunk.steps * trunk.channels].reshape(len(cells), trunk.steps, trunk.channels)
    flags = cells[:, trunk.steps * trunk.channels :, None]
    missing = cells.new_zeros((len(cells), trunk.patches * trunk.patch - trunk.steps, trunk.channels + 1))
    missing[:, :, -1] = 1.0
    whole = torch.cat([missing, torch.cat([values, flags], dim=2)], dim=1)
    return whole.reshape(len(cells), trunk.patches, trunk.inputs)


_LEARNED: dict[type, Callable[[Any, Tensors, torch.Tensor, bool], torch.Tensor]] = {
    ConvTrunk: _convolution,
    GruTrunk: _recurrent,
}

"""Values on several workers, by PyTorch's DTensor: what is sent for them, and for their gradients on the way back."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from shardwise.models.neural.parts.group import Place

_Way = tuple[Placement, Placement]


def repeated(x: torch.Tensor, place: Place) -> torch.Tensor:
    """What all parts have, for products with a cut matrix: their gradients are summed."""
    return _sent(x, place, place.parts, tuple(x.shape), (Replicate(), Replicate()), (Partial(), Replicate()))


def summed(x: torch.Tensor, place: Place) -> torch.Tensor:
    """The sum of what each part has, in all of them."""
    return _sent(x, place, place.parts, tuple(x.shape), (Partial(), Replicate()), (Replicate(), Replicate()))


def columns(x: torch.Tensor, place: Place) -> torch.Tensor:
    """This part's columns of what all have."""
    there, back = (Replicate(), Shard(x.dim() - 1)), (Shard(x.dim() - 1), Replicate())
    return _sent(x, place, place.parts, tuple(x.shape), there, back)


def joined(x: torch.Tensor, place: Place, width: int, *, partial: bool = False) -> torch.Tensor:
    """All `width` columns, of which each part has some; `partial`: each has other gradients, which are summed."""
    cut = Shard(x.dim() - 1)
    back = (Partial() if partial else Replicate(), cut)
    return _sent(x, place, place.parts, (*x.shape[:-1], width), (cut, Replicate()), back)


def own_rows(x: torch.Tensor, place: Place) -> torch.Tensor:
    """This share's rows of the sum of what each share has for all rows."""
    return _sent(x, place, place.shares, tuple(x.shape), (Partial(), Shard(0)), (Shard(0), Replicate()))


def all_rows(x: torch.Tensor, place: Place, rows: int) -> torch.Tensor:
    """What all shares have, one after the other."""
    whole = (rows, *x.shape[1:])
    return _sent(x, place, place.shares, whole, (Shard(0), Replicate()), (Partial(), Shard(0)))


def _sent(
    x: torch.Tensor, place: Place, mesh: DeviceMesh, whole: tuple[int, ...], there: _Way, back: _Way
) -> torch.Tensor:
    if mesh.size() == 1:
        return x
    result: torch.Tensor = _Sent.apply(x, place, mesh, whole, (there, back))
    return result


class _Sent(torch.autograd.Function):
    """From one placement of a value of the shape `whole` to another, and its gradient from one to another.

    Both are written out, so that the time they take is not counted as work.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, place: Place, mesh: DeviceMesh, whole: tuple[int, ...], ways: tuple[_Way, _Way]
    ) -> torch.Tensor:
        ctx.place, ctx.mesh, ctx.whole, ctx.back = place, mesh, whole, ways[1]
        return _moved(x, place, mesh, whole, ways[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _moved(g, ctx.place, ctx.mesh, ctx.whole, ctx.back), None, None, None, None


def _moved(x: torch.Tensor, place: Place, mesh: DeviceMesh, whole: tuple[int, ...], way: _Way) -> torch.Tensor:
    if way[0] == way[1]:
        return x.view_as(x)
    stride = torch.empty(whole, device="meta").stride()
    with place.member.talking():
        spread = DTensor.from_local(
            x.contiguous(), mesh, [way[0]], run_check=False, shape=torch.Size(whole), stride=stride
        )
        found: torch.Tensor = spread.redistribute(placements=[way[1]]).to_local()
    return found

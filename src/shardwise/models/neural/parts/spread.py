"""Values on several workers, by PyTorch's DTensor: what is sent for them, and for their gradients on the way back."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from shardwise.models.neural.parts.group import Place

_Way = tuple[Placement, Placement]


@dataclass(frozen=True)
class _Trip:
    """From one placement of a value of the shape `whole` to another, and of its gradient back."""

    place: Place
    mesh: DeviceMesh
    whole: tuple[int, ...]
    there: _Way
    back: _Way


def repeated(x: torch.Tensor, place: Place) -> torch.Tensor:
    """What all parts have, for products with a cut matrix: their gradients are summed."""
    return _sent(x, _Trip(place, place.parts, tuple(x.shape), (Replicate(), Replicate()), (Partial(), Replicate())))


def summed(x: torch.Tensor, place: Place) -> torch.Tensor:
    """The sum of what each part has, in all of them."""
    return _sent(x, _Trip(place, place.parts, tuple(x.shape), (Partial(), Replicate()), (Replicate(), Replicate())))


def columns(x: torch.Tensor, place: Place) -> torch.Tensor:
    """This part's columns of what all have."""
    cut = Shard(x.dim() - 1)
    return _sent(x, _Trip(place, place.parts, tuple(x.shape), (Replicate(), cut), (cut, Replicate())))


def joined(x: torch.Tensor, place: Place, width: int, *, partial: bool = False) -> torch.Tensor:
    """All `width` columns, of which each part has some; `partial`: each has other gradients, which are summed."""
    cut = Shard(x.dim() - 1)
    back = (Partial() if partial else Replicate(), cut)
    return _sent(x, _Trip(place, place.parts, (*x.shape[:-1], width), (cut, Replicate()), back))


def own_rows(x: torch.Tensor, place: Place) -> torch.Tensor:
    """This share's rows of the sum of what each share has for all rows."""
    return _sent(x, _Trip(place, place.shares, tuple(x.shape), (Partial(), Shard(0)), (Shard(0), Replicate())))


def all_rows(x: torch.Tensor, place: Place, rows: int) -> torch.Tensor:
    """What all shares have, one after the other."""
    whole = (rows, *x.shape[1:])
    return _sent(x, _Trip(place, place.shares, whole, (Shard(0), Replicate()), (Partial(), Shard(0))))


def _sent(x: torch.Tensor, trip: _Trip) -> torch.Tensor:
    if trip.mesh.size() == 1:
        return x
    result: torch.Tensor = _Sent.apply(x, trip)  # type: ignore[no-untyped-call]
    return result


class _Sent(torch.autograd.Function):
    """Both ways are written out, so that the time they take is not counted as work."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, trip: _Trip) -> torch.Tensor:
        ctx.trip = trip
        return _moved(x, trip, trip.there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _moved(g, ctx.trip, ctx.trip.back), None


def _moved(x: torch.Tensor, trip: _Trip, way: _Way) -> torch.Tensor:
    if way[0] == way[1]:
        return x.view_as(x)
    size, stride = torch.Size(trip.whole), torch.empty(trip.whole, device="meta").stride()
    with trip.place.member.talking():
        spread = DTensor.from_local(x.contiguous(), trip.mesh, [way[0]], run_check=False, shape=size, stride=stride)
        found: torch.Tensor = spread.redistribute(placements=[way[1]]).to_local()
    return found

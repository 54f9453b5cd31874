"""Pieces of a network into one file and back: what is written is what a single process would write.

The first worker writes into a mapped file what the others send, one piece at a time: nobody has the whole in memory.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
import torch.distributed as dist

from shardwise.core.errors import PackageError
from shardwise.models.neural.checkpoint import FILE, KEPT, Progress
from shardwise.models.neural.parts.cuts import Piece
from shardwise.models.neural.parts.group import Place
from shardwise.models.neural.shape import Weights
from shardwise.models.neural.tensors import create_tensors, map_tensors
from shardwise.store.files import staged_file

_SCALAR = "step"  # what an optimiser counts for a tensor


def write_parts(folder: Path, place: Place, progress: Progress, what: str = FILE) -> None:
    """A checkpoint as `write_progress` leaves it; called by all workers."""
    sizes = _sizes(place, progress)
    if place.rank != 0:
        _gathered(place, progress.arrays(), sizes, None)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with staged_file(folder / what) as temp, temp.open("r+b") as file:
        whole = create_tensors(file, sizes, {"state": progress.state})
        _gathered(place, progress.arrays(), sizes, whole)


def read_parts(folder: Path, place: Place, what: str = FILE) -> Progress | None:
    """This worker's pieces of the last checkpoint, however many wrote it; None where there is none to read."""
    if not (folder / what).exists():
        return None
    try:
        arrays, metadata = map_tensors(folder / what)
    except PackageError:
        return None
    kept = {}
    for name, array in arrays.items():
        piece = _piece(place, name, place.rank)
        if piece is not None:
            kept[name] = np.array(array[piece])
    return Progress.of(kept, metadata["state"])


def whole_weights(place: Place, weights: Weights, folder: Path | None) -> Weights:
    """All weights, in the first worker, in a file without a name (in `folder`); what it had itself, in the others."""
    sizes = place.cuts.tensors
    if place.rank != 0:
        _gathered(place, weights, sizes, None)
        return weights
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        whole = create_tensors(file, sizes)
        _gathered(place, weights, sizes, whole)
    return whole


def _gathered(
    place: Place, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, tuple[int, ...]], whole: Weights | None
) -> None:
    """Send to the first worker each piece that it lacks; there, put all of them into `whole`."""
    for name in sorted(sizes):
        for rank in range(place.member.size):
            piece = _piece(place, name, rank)
            if piece is None or _owner(place, name, rank) != rank or 0 in (s.stop - s.start for s in piece):
                continue
            if rank == 0 == place.rank and whole is not None:
                whole[name][piece] = arrays[name]
            elif rank == place.rank:
                dist.send(torch.from_numpy(np.ascontiguousarray(arrays[name])), 0)
            elif whole is not None:
                came = torch.empty([s.stop - s.start for s in piece])
                dist.recv(came, rank)
                whole[name][piece] = came.numpy()


def _sizes(place: Place, progress: Progress) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays of a checkpoint, of which this worker may have some."""
    cuts = place.cuts
    sizes = {f"{kind}/{name}": size for kind in KEPT[:2] for name, size in cuts.tensors.items()}
    keys = sorted({name.partition("/")[2] for name in progress.moments})
    if place.rank == 0:
        place.member.broadcast(json.dumps(keys).encode())
    else:
        keys = json.loads(place.member.broadcast(None))
    learned = [name for name in cuts.tensors if cuts.learns(name)]
    moments = {f"{KEPT[2]}/{name}/{key}": () if key == _SCALAR else cuts.tensors[name]
               for name in learned for key in keys}  # fmt: skip
    return sizes | moments


def _tensor(name: str) -> str:
    """The tensor to which `weights/w0` or `moments/w0/exp_avg` belongs; a bare name is its own."""
    return name.split("/")[1] if "/" in name else name


def _piece(place: Place, name: str, rank: int) -> Piece | None:
    piece = place.cuts.piece(_tensor(name), rank)
    return () if piece is not None and name.endswith(f"/{_SCALAR}") else piece


def _owner(place: Place, name: str, rank: int) -> int:
    """The first worker with the same piece."""
    mine = _piece(place, name, rank)
    return next(other for other in range(rank + 1) if _piece(place, name, other) == mine)

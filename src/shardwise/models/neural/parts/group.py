"""PyTorch's process group (gloo) among the members of a gang: who is lost is the desk's to say, not PyTorch's."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from shardwise.compute.gang.base import GangBroken, Member
from shardwise.models.neural.parts.cuts import Cuts

_PATIENCE = timedelta(hours=1)  # a member that hangs is noticed by the desk long before
_INTERFACE = "GLOO_SOCKET_IFNAME"
_numbers = itertools.count()  # DTensor remembers meshes by their names: those of a group that has ended must not return


@dataclass(frozen=True)
class Place:
    """This process among the workers of a network.

    `shares`: those that have the same part, and see other rows; `parts`: those that have the other parts.
    """

    member: Member
    cuts: Cuts
    shares: DeviceMesh
    parts: DeviceMesh

    @property
    def rank(self) -> int:
        return self.member.rank

    @property
    def share(self) -> int:
        return self.rank // self.cuts.parts

    @property
    def part(self) -> int:
        return self.rank % self.cuts.parts

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all members, in place."""
        with self.member.talking():
            dist.all_reduce(values)
        return values


@contextmanager
def placed(member: Member, cuts: Cuts) -> Iterator[Place]:
    """Join the process group; errors that tell of lost peers become `GangBroken`."""
    before = os.environ.get(_INTERFACE)
    os.environ[_INTERFACE] = _interface(member.address())
    try:
        with _lost_peers():
            store = _store(member)
            dist.init_process_group("gloo", store=store, rank=member.rank, world_size=member.size, timeout=_PATIENCE)
            names = [f"{name}-{next(_numbers)}" for name in ("shares", "parts")]
            mesh = init_device_mesh("cpu", (cuts.shares, cuts.parts), mesh_dim_names=tuple(names))
            yield Place(member, cuts, *(mesh[name] for name in names))
            member.barrier()  # nobody hangs up while others still read
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        if before is None:
            del os.environ[_INTERFACE]
        else:
            os.environ[_INTERFACE] = before


def _store(member: Member) -> TCPStore:
    """The first member's, where all of them find each other."""
    if member.rank == 0:
        store = TCPStore(member.address(), 0, member.size, is_master=True, wait_for_workers=False)
        member.broadcast(json.dumps([member.address(), store.port]).encode())
        return store
    host, port = json.loads(member.broadcast(None))
    return TCPStore(host, port, member.size, is_master=False, wait_for_workers=False)


def _interface(address: str) -> str:
    """The network interface that has an address, under which the others reach this member."""
    found = [name for name, given in psutil.net_if_addrs().items() if any(each.address == address for each in given)]
    return found[0] if found else ""


@contextmanager
def _lost_peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or "gloo" in str(error) or "onnection" in str(error)
        if not lost:
            raise
        first = str(error).strip().partition("\n")[0]
        raise GangBroken(f"another member does not answer: {first}") from error

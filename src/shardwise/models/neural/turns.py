"""Which GPU a member of a gang computes on."""

import torch

from shardwise.compute.gang.base import Member


def take_gpu(member: Member) -> None:
    """The members of one machine take its GPUs in turn; where each sees one alone (as Ray has it), that one."""
    hosts = member.gather(member.address().encode())
    if torch.cuda.is_available():
        before = hosts[: member.rank].count(hosts[member.rank])
        torch.cuda.set_device(before % torch.cuda.device_count())

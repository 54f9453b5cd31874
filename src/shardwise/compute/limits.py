"""Memory limits that hold for worker processes: a control group where one may be made, else a resource limit.

The kernel ends what exceeds a group's limit. Version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) needs a
group that may have children with a memory controller; version 1 needs the right to write. Where neither is there, the
workers get RLIMIT_DATA, under which an allocation fails; it counts what is reserved and not what is used, so that it
is set wider, and the watch over the process tree (`ceiling.MemoryWatch`) does the rest.
"""

import contextlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shardwise.compute.ceiling import ROOT, group_folders, number_in

RESERVED_SHARE = 1.5  # RLIMIT_DATA over the limit: reserved but unused memory counts
_MEMBERS = "cgroup.procs"
_numbers = itertools.count()
_V2 = ("", "memory.max", "memory.swap.max", "memory.events")
_V1 = ("memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control")


@dataclass
class MemoryGroup:
    """A control group of this process's own whose members together stay under a limit."""

    folder: Path
    events: str

    @classmethod
    def make(cls, limit_bytes: int, root: Path = ROOT) -> Self | None:
        """A group below the one that this process is in; None where the system does not let us."""
        for controller, limit, swap, events in (_V2, _V1):
            own = next((each for each in group_folders(root, controller) if (each / _MEMBERS).exists()), None)
            if own is None:
                continue
            folder = own / f"shardwise-{os.getpid()}-{next(_numbers)}"
            try:
                folder.mkdir()
                _set(folder / limit, limit_bytes)
            except OSError:
                _remove(folder)
                continue
            with contextlib.suppress(OSError):  # without swap there is no such file, or nothing to forbid
                _set(folder / swap, limit_bytes if controller else 0)
            return cls(folder, events)
        return None

    def add(self, pid: int) -> bool:
        """Put a process into the group; False when that is not allowed or the process has ended."""
        try:
            _set(self.folder / _MEMBERS, pid)
        except OSError:
            return False
        return True

    def kills(self) -> int:
        """How many members the kernel has ended for want of memory."""
        return number_in(self.folder / self.events, "oom_kill")

    def close(self) -> None:
        """Remove the group; its members must have ended."""
        _remove(self.folder)


def _set(path: Path, value: int) -> None:
    """Write to a file of the kernel's; one that is not there is an error and is not made."""
    with open(path, "r+", encoding="ascii") as file:
        file.write(str(value))


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a member that is still ending keeps it; the kernel forgets it with the parent
        folder.rmdir()

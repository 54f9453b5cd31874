"""Processes that write a registry at the same time, or are killed while they do: run as `python -m`."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shardwise.registry.registry import Registry

STEPS = ("mkdir", "link", "rename", "replace", "fsync", "unlink")


def register_all(registry: Registry, packages: list[Path]) -> list[int]:
    """Register packages of the name `m`, each as champion, and count a promotion of the first version between."""
    numbers = []
    for package in packages:
        numbers.append(registry.register("m", package, aliases=["champion"]).number)
        registry.promote("m@1", "stable")
    return numbers


def killed_at_each_step(registry: Registry, packages: list[Path]) -> list[str]:
    """Fork a writer for each package, killed at its 1st, 2nd ... step on the disk; the state after each."""
    seen = []
    for step, package in enumerate(packages, start=1):
        child = os.fork()
        if child == 0:
            _kill_at(step)
            registry.register("m", package, aliases=["champion"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen.append(f"{os.WTERMSIG(status)} {json.dumps(_state(registry))}")
    return seen


def _state(registry: Registry) -> Any:
    if "m" not in registry.names():
        return None
    state = registry.state("m")
    for version in state.versions.values():
        registry.folder(version)  # its manifest is there, and the one that was registered
    return {"versions": sorted(state.versions), "aliases": dict(state.aliases)}


def _kill_at(step: int) -> None:
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return run

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    work = {"all": register_all, "killed": killed_at_each_step}[request["work"]]
    place = Registry(request["place"], storage=request["storage"], cache=Path(request["cache"]))
    print(json.dumps(work(place, [Path(package) for package in request["packages"]])))

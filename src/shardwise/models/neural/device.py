"""Where PyTorch computes: the device by name, and what it can do."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from shardwise.core.devices import DEVICES
from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest


def find_device(name: str) -> torch.device:
    """The device; `auto` takes CUDA (or ROCm, which PyTorch calls so), else MPS, else the processor.

    Raises `ConfigError` for one that is not known or not there.
    """
    if name not in DEVICES:
        raise ConfigError(f"there is no device {name!r}", hint=nearest(name, DEVICES))
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [kind for kind, usable in there.items() if usable]
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "mps" if there["mps"] else "cpu")
    if name not in found:
        raise ConfigError(f"the device {name!r} is not there", hint=f"Usable here: auto, {', '.join(found)}.")
    return torch.device(name)


def autocast(device: torch.device, *, wanted: bool) -> AbstractContextManager[object]:
    """bfloat16 products on a CUDA device that has them in hardware; else float32 as written.

    float16 is left out: it needs the loss scaled, and cards that gain by it and lack bfloat16 are older than 2020.
    """
    if wanted and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def random_state(device: torch.device) -> dict[str, str]:
    """The state of the random numbers of the processor and of the device, by its type, as hexadecimal digits."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return {kind: state.cpu().numpy().tobytes().hex() for kind, state in states.items()}


def set_random_state(device: torch.device, states: Mapping[str, str]) -> None:
    """Go back to a `random_state`; of another type of device there is none."""
    for kind, digits in states.items():
        state = torch.frombuffer(bytearray.fromhex(digits), dtype=torch.uint8)
        if kind == "cpu":
            torch.set_rng_state(state)
        elif kind == device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        elif kind == device.type == "mps":
            torch.mps.set_rng_state(state)


@contextmanager
def settled(device: torch.device) -> Iterator[None]:
    """One thread, convolutions in full float32, and random numbers of PyTorch's own left as they were.

    Sums that several threads share out depend on their number, and so would the bytes of a model.
    """
    threads, short = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = short

"""The optimiser's step: PyTorch's own bits, without its compiler."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.models.neural.adamw import FusedAdamW, adamw  # noqa: E402

ALONE = """
import sys, torch
from shardwise.models.neural.steps import Batch, Steps
weights = {"w0": torch.ones(3, requires_grad=True)}
steps = Steps(weights, lambda part: (part.numbers @ weights["w0"] - part.y).square().sum(), 0.01, 1.0, 8, print)
rows = Batch(torch.ones(8, 3), torch.zeros((8, 0), dtype=torch.int64), torch.zeros(8), None)
assert steps.step(rows, 0.1, 0)
assert weights["w0"][0] < 1.0
print("torch._dynamo" in sys.modules)
"""


def test_the_same_bits_as_pytorchs_own() -> None:
    found = []
    for theirs in (False, True):
        torch.manual_seed(0)
        tensors = [torch.randn(size, requires_grad=True) for size in ((30, 20), (7,), (3,))]
        groups = [{"params": tensors[:1], "weight_decay": 0.1}, {"params": tensors[1:], "weight_decay": 0.0}]
        made = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), fused=True) if theirs else adamw(
            groups, torch.device("cpu"), (0.9, 0.95)
        )  # fmt: skip
        assert isinstance(made, FusedAdamW) != theirs
        for step in range(20):
            made.zero_grad()
            loss = (tensors[0] ** 2).sum() * step + (tensors[1] ** 3).sum()
            (loss + tensors[2].sum() if step % 3 else loss).backward()  # some have no gradient
            for group in made.param_groups:
                group["lr"] = 0.01 * (step + 1)
            made.step()
        found.append([tensor.detach() for tensor in tensors])
    for ours, other in zip(*found, strict=True):
        assert torch.equal(ours, other)


def test_a_step_does_not_import_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The optimizer of every training: PyTorch's, without its compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from advcomp.training.optimizer import LeanAdamW

STEP = """
import sys
import torch
from advcomp.players.datasets import Part, digits
from advcomp.training.optimizer import LeanAdamW

weight = torch.nn.Parameter(torch.ones(1))
optimizer = LeanAdamW([weight], lr=0.1, fused=True)
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
digits(Part.TRAINING)
print(*{"torch._dynamo", "sklearn"} & sys.modules.keys())
"""


def test_its_steps_are_pytorchs() -> None:
    found = []
    for kind in (AdamW, LeanAdamW):
        weight = nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
        optimizer = kind([weight], lr=0.1, weight_decay=0.2, fused=True)
        for step in range(4):
            if step == 2:
                kept = optimizer.state_dict()
                optimizer = kind([weight], lr=0.3, fused=True)
                optimizer.load_state_dict(kept)
            optimizer.zero_grad()
            assert weight.grad is None
            weight.grad = 3 * weight.detach() ** 2
            optimizer.step()
        assert weight.requires_grad
        found.append(weight.detach())
    assert torch.equal(*found)


@pytest.mark.slow
def test_a_training_on_digits_imports_neither_a_compiler_nor_a_learner() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

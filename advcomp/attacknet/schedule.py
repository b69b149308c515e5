"""How fast the network learns at each step, and what is averaged."""

import math

import torch
from torch import Tensor

from advcomp.attacknet.config import TrainingTable


def learning_rate(table: TrainingTable, step: int) -> float:
    """Climbs in equal steps over the warm-up, then falls along a cosine to 0 after the last."""
    if step < table.warm_up_steps:
        return table.learning_rate * (step + 1) / (table.warm_up_steps + 1)
    done = (step - table.warm_up_steps) / (table.steps - table.warm_up_steps)
    return table.learning_rate * (1 + math.cos(math.pi * done)) / 2


@torch.no_grad()
def move_average(
    average: dict[str, Tensor], weights: dict[str, Tensor], keep: float, step: int
) -> None:
    """An exponential average that begins as a plain one: of few steps it keeps less.

    Args:
        keep: How much of the average stays, after many steps.
        step: Counted from 0.
    """
    keep = min(keep, (step + 1) / (step + 10))
    for name, value in average.items():
        value.lerp_(weights[name], 1 - keep)

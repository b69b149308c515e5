"""How fast a module learns at each step or epoch, and how its weights are averaged."""

import math

import torch
from torch import Tensor


def learning_rate(
    peak: float, at: int, of: int, *, warm_up: int = 0, falls_from_the_start: bool = False
) -> float:
    """A linear warm-up to `peak`, and half a cosine that falls to 0 at the end.

    Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts; the warm-up as in
    Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    Args:
        peak: The largest rate.
        at: Which step, or epoch, counted from 0.
        of: How many there are.
        warm_up: How many of them warm up, in equal parts from `peak / (warm_up + 1)`.
        falls_from_the_start: Whether the cosine begins with the first, under the warm-up, and not
            behind it.
    """
    rate = peak * (at + 1) / (warm_up + 1) if at < warm_up else peak
    before = 0 if falls_from_the_start else warm_up
    fallen = max(0, at - before) / (of - before)
    return rate * (1 + math.cos(math.pi * fallen)) / 2


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

"""How fast a module learns at each step, and how its weights are averaged."""

import math

import torch
from torch import Tensor


def learning_rate(peak: float, at: float, of: int, *, warm_up: int = 0) -> float:
    """A linear warm-up to `peak`, and half a cosine that falls to 0 at the end.

    Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5, without restarts; the warm-up as in
    Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    Args:
        peak: The largest rate.
        at: Which step, counted from 0; between two of them where time counts.
        of: How many there are.
        warm_up: How many of them warm up, in equal parts from `peak / (warm_up + 1)`.
    """
    if at < warm_up:
        return peak * (at + 1) / (warm_up + 1)
    return peak * (1 + math.cos(math.pi * (at - warm_up) / (of - warm_up))) / 2


@torch.no_grad()
def move_average(
    average: dict[str, Tensor],
    weights: dict[str, Tensor],
    keep: float,
    step: int,
    moves: Tensor | None = None,
) -> None:
    """An exponential average that begins as a plain one: of few steps it keeps less.

    Args:
        keep: How much of the average stays, after many steps.
        step: Counted from 0.
        moves: Whether it moves at all, a tensor (), so that nobody waits for the answer.
    """
    keep = min(keep, (step + 1) / (step + 10))
    for name, value in average.items():
        new = weights[name]
        if value.is_floating_point():
            new = value.lerp(new, 1 - keep)
        value.copy_(new if moves is None else torch.where(moves, new, value))

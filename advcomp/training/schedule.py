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
    if moves is not None and moves.device.type == "cpu":
        # Nobody waits for the answer, and there is less to compute.
        if not moves:
            return
        moves = None
    for name, value in average.items():
        new = weights[name]
        if moves is None:
            _move(value, new, keep)
        else:
            moved = _move(value.clone(), new, keep)
            value.copy_(torch.where(moves, moved, value))


def _move(value: Tensor, new: Tensor, keep: float) -> Tensor:
    """In place; integers, such as how many batches a norm has seen, are taken as they are."""
    return value.lerp_(new, 1 - keep) if value.is_floating_point() else value.copy_(new)

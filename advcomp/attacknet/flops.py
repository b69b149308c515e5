"""What a forward pass costs: FLOPs of one image, of the network beside its target classifiers."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advcomp.attacknet.generator import Generator


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of a call; a multiplication and an addition count as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return int(counter.get_total_flops())


def compared(
    generator: Generator,
    classifiers: Mapping[str, nn.Module],
    x: Tensor,
    eps: Tensor,
    targets: Tensor | None,
) -> list[str]:
    """Lines that say what an image costs the network, its hint and every classifier.

    Args:
        x, eps, targets: One image, its budget and its target class; see `Generator`.
    """
    whole = flops(lambda: generator(x, eps, targets))
    hint = generator.hint
    told = 0 if hint is None else generator.passes * flops(lambda: hint(x, targets))
    others = {name: flops(partial(classifier, x)) for name, classifier in classifiers.items()}
    dearest = max(others, key=lambda name: others[name])
    lines = [f"network: {gigaflops(whole - told)} an image"]
    if told:
        lines.append(f"hint: {gigaflops(told)}")
    lines += [f"{name}: {gigaflops(count)}" for name, count in others.items()]
    lines.append(
        f"the network costs {(whole - told) / others[dearest]:.2f} forward passes of {dearest}"
        + (f", {whole / others[dearest]:.2f} with its hint" if told else "")
    )
    return lines


def gigaflops(count: float) -> str:
    """`1.234 GFLOP`."""
    return f"{count / 1e9:.4g} GFLOP"

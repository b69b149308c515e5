"""What a forward pass costs: FLOPs of one image, of the network beside its target classifiers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advcomp.attacknet.network.generator import AdversarialGenerator


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of a call; a multiplication and an addition count as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return int(counter.get_total_flops())


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """FLOPs of one image.

    Args:
        network: All passes, without the hint's.
        hint: Forward and backward through surrogates, gradients by the pixel included; 0 where
            it is told nothing.
        classifiers: A forward pass of each target classifier, by name.
    """

    network: int
    hint: int
    classifiers: Mapping[str, int]

    @property
    def dearest(self) -> str:
        """The target classifier that costs most."""
        return max(self.classifiers, key=lambda name: self.classifiers[name])

    @property
    def in_passes(self) -> tuple[float, float]:
        """The network's in forward passes of the dearest, without and with the hint."""
        one = self.classifiers[self.dearest]
        return self.network / one, (self.network + self.hint) / one


def costs_of(
    generator: AdversarialGenerator,
    classifiers: Mapping[str, nn.Module],
    x: Tensor,
    eps: Tensor,
    targets: Tensor | None = None,
) -> Costs:
    """What an image costs the network, its hint and every classifier.

    Args:
        x, eps, targets: One image, its budget and its target class; see `Generator`.
    """
    whole = flops(lambda: generator(x, eps, targets))
    hint = generator.hint
    told = 0 if hint is None else generator.passes * flops(lambda: hint(x, targets))
    gradients = generator.gradients
    told += 0 if gradients is None else flops(lambda: gradients(x, eps, targets))
    others = {name: flops(partial(classifier, x)) for name, classifier in classifiers.items()}
    return Costs(network=whole - told, hint=told, classifiers=others)


def described(costs: Costs) -> list[str]:
    """Lines for whoever watches a training."""
    alone, told = costs.in_passes
    lines = [f"network: {gigaflops(costs.network)} an image"]
    if costs.hint:
        lines.append(f"hint: {gigaflops(costs.hint)}")
    lines += [f"{name}: {gigaflops(count)}" for name, count in costs.classifiers.items()]
    lines.append(
        f"the network costs {alone:.2f} forward passes of {costs.dearest}"
        + (f", {told:.2f} with its hint" if costs.hint else "")
    )
    return lines


def gigaflops(count: float) -> str:
    """`1.234 GFLOP`."""
    return f"{count / 1e9:.4g} GFLOP"

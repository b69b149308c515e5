"""The attack network at work: hint, one pass or two, and the adversarial image."""

from typing import Self

import torch
from torch import Tensor, nn

from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import HintMode


class AdversarialGenerator(nn.Module):
    """Clean images (N, 3, H, W) in [0, 1] and eps (N,) to adversarial images, unrounded.

    Args:
        network: An `AttackNetwork`, compiled or not.
        hint: None where the network takes none.
        mode: With a recurrent hint a second pass is told the surrogate's gradient at what the
            first one made, and what that was.
        gradients: None where the network is told none by the pixel.
    """

    def __init__(
        self,
        network: nn.Module,
        hint: GradientHint | None = None,
        mode: HintMode = HintMode.NONE,
        gradients: PixelGradients | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.hint = hint
        self.mode = mode
        self.gradients = gradients
        self.passes = 2 if mode is HintMode.RECURRENT else 1

    def with_network(self, network: nn.Module) -> Self:
        """Another network, told the same."""
        return type(self)(network, self.hint, self.mode, self.gradients)

    def forward(
        self,
        x: Tensor,
        eps: Tensor,
        targets: Tensor | None = None,
        passes: int | None = None,
        gradients: Tensor | None = None,
    ) -> Tensor:
        """Adversarial images within eps of x and within [0, 1].

        Args:
            targets: Target labels (N,) of a targeted network.
            passes: Instead of all of them; training takes one and all in turn.
            gradients: Those of x by the pixel, where somebody has kept them.
        """
        radius = eps.view(-1, 1, 1, 1)
        if gradients is None and self.gradients is not None:
            gradients = self.gradients(x, eps, targets)
        adversarial, p = x, None
        for _ in range(passes or self.passes):
            hints = () if self.hint is None else self.hint(adversarial, targets)
            p = self.network(x, eps, targets=targets, hints=hints, gradients=gradients, previous=p)
            adversarial = (x + radius * p).clamp(0, 1)
        return adversarial


def rounded_to_levels(x: Tensor) -> Tensor:
    """To the nearest of 256 levels, with the gradient of the identity (straight through)."""
    return x + ((255 * x).round() / 255 - x).detach()


@torch.no_grad()
def levels_moved(clean: Tensor, adversarial: Tensor) -> Tensor:
    """By how many levels each image's most changed pixel is moved, (N,), after rounding."""
    return (255 * (rounded_to_levels(adversarial) - clean)).abs().amax((1, 2, 3))

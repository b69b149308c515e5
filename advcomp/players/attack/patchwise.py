"""The direction of the patch-wise attack: what a pixel cannot take goes to those around it."""

import torch
from torch import Tensor

from advcomp.players.attack.gradients import filtered
from advcomp.players.image.resizing import in_proportion


class PatchWise:
    """A large sign step, and another along what the pixels around had to cut off.

    Gao et al. 2020, arXiv 2007.06765, algorithm 1, with the project factor equal to the step size.

    Args:
        clean: The images that will be attacked.
        limit: The budget in steps: a pixel that was sent further is cut.
    """

    def __init__(self, clean: Tensor, limit: float) -> None:
        # The paper's kernel of 3x3 is for 299x299, and nothing smaller has a neighbour.
        size = 2 * in_proportion(1, clean.shape[-1], least=1) + 1
        kernel = torch.ones(size, size).to(clean)
        kernel[size // 2, size // 2] = 0
        # Not normalised: only the sign of a sum counts, and sums of whole steps stay exact.
        self.kernel = kernel
        self.limit = limit
        self.sent: Tensor = torch.zeros_like(clean)

    def __call__(self, g: Tensor) -> Tensor:
        """The direction of a step, for the gradient found there."""
        step = g.sign()
        self.sent = self.sent + step
        cut = self.sent - self.sent.clamp(-self.limit, self.limit)
        passed_on = filtered(cut, self.kernel).sign()
        self.sent = self.sent + passed_on
        return step + passed_on

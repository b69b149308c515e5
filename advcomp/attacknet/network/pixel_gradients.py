"""Gradients by the pixel, told to the network's first layer: where one or more steps would lead.

The steps are dual averaging's (`players.attack.transfer.da_fgsm`) on one surrogate or on several,
fused in logits: g_0 at the clean image x, g_{t+1} at clip(x + eps sign(g_0 + ... + g_t)). Each is
over its own mean absolute value, so that a network need not know how sure the surrogates are.
"""

import torch
from torch import Tensor, nn

from advcomp.players.attack.hooks import l1_normalised
from advcomp.players.attack.labels import LabelKind
from advcomp.players.attack.objectives import cross_entropy, leaf
from advcomp.players.ensemble import Ensemble


class PixelGradients(nn.Module):
    """Images (N, 3, H, W) and eps (N,) to gradients (N, count, 3, H, W); none flows back.

    Args:
        surrogates: Frozen.
        count: How many; a forward and a backward pass of all surrogates each.
        labels: What is led away from: the surrogates' likeliest answer or all, with probabilities.
    """

    def __init__(self, surrogates: Ensemble, *, count: int, labels: LabelKind) -> None:
        super().__init__()
        self.surrogates = surrogates
        self.count = count
        self.labels = labels

    @property
    def told(self) -> int:
        """How many gradients an image has."""
        return self.count

    def forward(self, x: Tensor, eps: Tensor, targets: Tensor | None = None) -> Tensor:
        """Up the cross-entropy at the surrogates' own answer, or down at target labels (N,)."""
        with torch.autocast(x.device.type, enabled=False):
            return self._accumulated(x.detach(), eps.view(-1, 1, 1, 1), targets)

    def _accumulated(self, clean: Tensor, radius: Tensor, targets: Tensor | None) -> Tensor:
        labels = None if targets is None else self.surrogates.to_classes(targets)
        towards = 1 if targets is None else -1
        found: list[Tensor] = []
        x, total = clean, torch.zeros_like(clean)
        for _ in range(self.count):
            g, labels = self._gradient(x, labels)
            found.append(towards * l1_normalised(g))
            total = total + found[-1]
            x = (clean + radius * total.sign()).clamp(0, 1)
        return torch.stack(found, 1)

    def _gradient(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Also the labels: those that are given or, at the clean image, the surrogates' own."""
        with torch.enable_grad():
            x = leaf(x)
            # A view: what counts FLOPs takes no module whose input is a leaf.
            logits = self.surrogates(x.view_as(x))
            if labels is None:
                own = logits.detach()
                labels = own.softmax(1) if self.labels is LabelKind.SOFT else own.argmax(1)
            (g,) = torch.autograd.grad(cross_entropy(logits, labels).sum(), x)
        return g, labels

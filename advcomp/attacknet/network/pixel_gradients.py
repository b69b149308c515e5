"""Gradients by the pixel, told to the network's first layer: where one or more steps would lead.

The steps are dual averaging's (`players.attack.transfer.da_fgsm`) on one surrogate or on several,
fused in logits: g_0 at the clean image x, g_{t+1} at clip(x + eps sign(g_0 + ... + g_t)). Each is
over its own mean absolute value, so that a network need not know how sure the surrogates are.

Told *apart*, each surrogate has gradients of its own loss; all of them lead on. Where some are
robust and some are not, this says more than their fused gradient, which is the plain ones' almost
alone: it costs no more.
"""

import torch
from torch import Tensor, nn

from advcomp.players.attack.hooks import l1_normalised
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.attack.objectives import cross_entropy, leaf
from advcomp.players.classifier.answers import logits_of
from advcomp.players.ensemble import Ensemble


class PixelGradients(nn.Module):
    """Images (N, 3, H, W) and eps (N,) to gradients (N, told, 3, H, W); none flows back.

    Args:
        surrogates: Frozen.
        count: How many steps; a forward and a backward pass of all surrogates each.
        labels: What is led away from: the surrogates' likeliest answer or all, with probabilities.
        apart: Whether a step's gradients are told surrogate by surrogate.
    """

    def __init__(
        self, surrogates: Ensemble, *, count: int, labels: LabelKind, apart: bool = False
    ) -> None:
        super().__init__()
        self.apart = apart
        self.surrogates = surrogates
        self.count = count
        self.labels = labels

    @property
    def told(self) -> int:
        """How many gradients an image has."""
        return told_gradients(self.count, len(self.surrogates.members), apart=self.apart)

    def forward(
        self,
        x: Tensor,
        eps: Tensor,
        targets: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Down the cross-entropy at target labels (N,), or up at `labels` (N,).

        Up at the surrogates' own answer where neither is given.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self._accumulated(x.detach(), eps.view(-1, 1, 1, 1), targets, labels)

    def _accumulated(
        self, clean: Tensor, radius: Tensor, targets: Tensor | None, labels: Tensor | None
    ) -> Tensor:
        towards = 1 if targets is None else -1
        known = labels if targets is None else targets
        labels = None if known is None else self.surrogates.to_classes(known)
        found: list[Tensor] = []
        x = clean
        for _ in range(self.count):
            if found:
                x = (clean + radius * torch.stack(found).sum(0).sign()).clamp(0, 1)
            step, labels = self._gradients(x, labels)
            found += [towards * l1_normalised(g) for g in step]
        return torch.stack(found, 1)

    def _gradients(self, x: Tensor, labels: Tensor | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Also the labels: those that are given or, at the clean image, the surrogates' own."""
        asked = list(self.surrogates.members) if self.apart else [self.surrogates]
        with torch.enable_grad():
            seen = [leaf(x) for _ in asked]
            # A view: what counts FLOPs takes no module whose input is a leaf.
            answers = [
                logits_of(one(own.view_as(own)), len(x))
                for one, own in zip(asked, seen, strict=True)
            ]
            if labels is None:
                own = (self.surrogates.fused(answers) if self.apart else answers[0]).detach()
                labels = own.softmax(1) if self.labels is LabelKind.SOFT else own.argmax(1)
            losses = torch.stack([cross_entropy(logits, labels).sum() for logits in answers])
            return torch.autograd.grad(losses.sum(), seen), labels


def told_gradients(count: int, surrogates: int, *, apart: bool) -> int:
    """How many gradients so many steps tell of an image."""
    return count * surrogates if apart else count

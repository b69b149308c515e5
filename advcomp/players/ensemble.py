"""Several classifiers as one: a stronger surrogate for an attack, a steadier defense."""

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from advcomp.players.attacks import cross_entropy


class Fusion(StrEnum):
    """Where the members meet (Dong et al. 2018, arXiv 1710.06081, section 3.4)."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LOSSES = "losses"


class Ensemble(nn.Module):
    """Classifiers with the same classes, averaged; any attack takes it as its classifier.

    Args:
        members: Modules that give logits (N, classes).
        weights: One for each, not negative; divided by their sum. Equal where not given.
        fusion: What is averaged. In losses, the logits are fused in probabilities.

    Raises:
        ValueError: No member, or weights that do not fit them.
    """

    weights: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        *,
        weights: Sequence[float] | None = None,
        fusion: Fusion = Fusion.LOGITS,
    ) -> None:
        super().__init__()
        weights = [1.0] * len(members) if weights is None else weights
        if not members or len(weights) != len(members) or min(weights) < 0 or not sum(weights):
            raise ValueError(
                f"expected at least one member and one weight for each, not negative and not all "
                f"0; got {len(members)} members, weights {list(weights)}"
            )
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights) / sum(weights))
        self.fusion = fusion

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); a softmax of them gives the fused answer."""
        logits = self._logits(x)
        if self.fusion is Fusion.LOGITS:
            return torch.einsum("m,mnc->nc", self.weights, logits)
        log_weights = self.weights.log().view(-1, 1, 1)
        return (logits.log_softmax(2) + log_weights).logsumexp(0)

    def attack_loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of every image, (N,): of the fused logits, or the members' averaged."""
        if self.fusion is not Fusion.LOSSES:
            return cross_entropy(self(x), labels)
        losses = torch.stack([cross_entropy(logits, labels) for logits in self._logits(x)])
        return self.weights @ losses

    def _logits(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members])

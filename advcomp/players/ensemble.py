"""Several classifiers as one: a stronger surrogate for an attack, a steadier defense."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.attack.hooks import l1_normalised
from advcomp.players.attack.objectives import Loss
from advcomp.players.classifier.answers import logits_of
from advcomp.players.classifiers import load_classifier


class Fusion(StrEnum):
    """Where the members meet (Dong et al. 2018, arXiv 1710.06081, section 3.4); or in gradients.

    In gradients each member's, of its own loss, is over its mean absolute value, so that a plain
    network with its steep losses does not drown a robust one's. Source: this project's
    measurements (docs/attack-network.md).
    """

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LOSSES = "losses"
    GRADIENTS = "gradients"


class Ensemble(nn.Module):
    """Classifiers with the same classes, averaged; any attack takes it as its classifier.

    Args:
        members: Modules that give logits (N, classes), or an answer that calls them so.
        weights: One for each, not negative; divided by their sum. Equal where not given.
        fusion: What is averaged. In losses, the logits are fused in probabilities; in gradients,
            in logits.

    Raises:
        ValueError: No member, weights that do not fit them, or members of which some have other
            classes, or call them by other labels.
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
        offsets = [getattr(member, "label_offset", 0) for member in members]
        if len(set(offsets)) > 1:
            raise ValueError(f"expected members with one label offset; got {offsets}")
        classes = [member.classes for member in members if hasattr(member, "classes")]
        if len(set(classes)) > 1:
            raise ValueError(f"expected members with one number of classes; got {classes}")
        self.label_offset = int(offsets[0])
        self.members = nn.ModuleList(members)
        self.register_buffer("weights", torch.tensor(weights) / sum(weights))
        self.fusion = fusion

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); a softmax of them gives the fused answer."""
        return self.fused(self._logits(x))

    def loss_and_logits(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The loss of every image, (N,): of the fused logits, or the members' averaged; logits."""
        members = self._levelled_logits(x) if self.fusion is Fusion.GRADIENTS else self._logits(x)
        fused = self.fused(members)
        if self.fusion not in (Fusion.LOSSES, Fusion.GRADIENTS):
            return loss(fused, labels), fused
        losses = torch.stack([loss(logits, labels) for logits in members])
        return torch.einsum("m,mn->n", self.weights, losses), fused

    def to_labels(self, classes: Tensor) -> Tensor:
        """The labels of classes (N,)."""
        return classes + self.label_offset

    def to_classes(self, labels: Tensor) -> Tensor:
        """The classes of labels (N,)."""
        return labels - self.label_offset

    def fused(self, answers: Sequence[Tensor]) -> Tensor:
        """One answer of the members', (N, classes) each."""
        logits = torch.stack(list(answers))
        if self.fusion in (Fusion.LOGITS, Fusion.GRADIENTS):
            return torch.einsum("m,mnc->nc", self.weights, logits)
        log_weights = self.weights.log().view(-1, 1, 1)
        return (logits.log_softmax(2) + log_weights).logsumexp(0)

    def _logits(self, x: Tensor) -> list[Tensor]:
        return [logits_of(member(x), len(x)) for member in self.members]

    def _levelled_logits(self, x: Tensor) -> list[Tensor]:
        """Each member sees the images through what gives its gradient the size of its weight."""
        return [
            logits_of(member(_levelled(x, weight)), len(x))
            for member, weight in zip(self.members, self.weights.tolist(), strict=True)
        ]


class _Levelled(torch.autograd.Function):
    """The images; on the way back the gradient over its mean absolute value, times a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.weight * l1_normalised(gradients[0]), None


def _levelled(x: Tensor, weight: float) -> Tensor:
    levelled: Tensor = _Levelled.apply(x, weight)
    return levelled


def load_ensemble(
    folder: Path, weights: Mapping[str, float], *, fusion: Fusion = Fusion.LOGITS
) -> Ensemble:
    """The classifiers that lie in a folder as NAME.safetensors, folded and with channels last.

    Args:
        folder: Where they lie.
        weights: The weight of those whose NAME fits a pattern, such as "surrogate*"; the first
            pattern that fits counts, and what fits none is left out.
        fusion: As in `Ensemble`.

    Raises:
        InvalidConfig: A pattern that no file fits, a file that is no classifier, or what makes no
            `Ensemble`.
    """
    files = sorted(folder.glob("*.safetensors"))
    fitting = {file: [p for p in weights if fnmatchcase(file.stem, p)] for file in files}
    if idle := [p for p in weights if not any(p in patterns for patterns in fitting.values())]:
        raise InvalidConfig(
            *(
                f"{folder}: expected a classifier named {pattern}.safetensors; got none; lay one "
                f'over the folder in the tournament file: files."{pattern}.safetensors" = "..."'
                for pattern in idle
            )
        )
    chosen = {file: weights[patterns[0]] for file, patterns in fitting.items() if patterns}
    members = [load_classifier(file, fold=True, channels_last=True) for file in chosen]
    try:
        return Ensemble(members, weights=list(chosen.values()), fusion=fusion)
    except ValueError as error:
        raise InvalidConfig(
            f"{folder}: {', '.join(file.name for file in chosen)}: {error}"
        ) from error

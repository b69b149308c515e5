"""Several classifiers as one: a stronger surrogate for an attack, a steadier defense."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.players.attack.objectives import Loss
from advcomp.players.classifier.answers import logits_of
from advcomp.players.classifiers import load_classifier


class Fusion(StrEnum):
    """Where the members meet (Dong et al. 2018, arXiv 1710.06081, section 3.4)."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LOSSES = "losses"


class Ensemble(nn.Module):
    """Classifiers with the same classes, averaged; any attack takes it as its classifier.

    Args:
        members: Modules that give logits (N, classes), or an answer that calls them so.
        weights: One for each, not negative; divided by their sum. Equal where not given.
        fusion: What is averaged. In losses, the logits are fused in probabilities.

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
        return self._fuse(self._logits(x))

    def loss_and_logits(self, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """The loss of every image, (N,): of the fused logits, or the members' averaged; logits."""
        members = self._logits(x)
        fused = self._fuse(members)
        if self.fusion is not Fusion.LOSSES:
            return loss(fused, labels), fused
        losses = torch.stack([loss(logits, labels) for logits in members])
        return torch.einsum("m,mn->n", self.weights, losses), fused

    def to_labels(self, classes: Tensor) -> Tensor:
        """The labels of classes (N,)."""
        return classes + self.label_offset

    def to_classes(self, labels: Tensor) -> Tensor:
        """The classes of labels (N,)."""
        return labels - self.label_offset

    def _fuse(self, logits: Tensor) -> Tensor:
        if self.fusion is Fusion.LOGITS:
            return torch.einsum("m,mnc->nc", self.weights, logits)
        log_weights = self.weights.log().view(-1, 1, 1)
        return (logits.log_softmax(2) + log_weights).logsumexp(0)

    def _logits(self, x: Tensor) -> Tensor:
        return torch.stack([logits_of(member(x), len(x)) for member in self.members])


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

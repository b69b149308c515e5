"""What a network may learn to write by itself: the gradients of classifiers that know the labels.

The sum over classifiers c of g_c / mean |g_c|, where g_c is the gradient by the pixel of c's
cross-entropy at the true label y, again over its mean absolute value. A perturbation p raises the
sum of these losses by sum_i p_i T_i to first order, so that

    imitation = -mean_i (p_i T_i)

is -1 for p = sign(T), the step of FGSM with labels that no attack has, and 0 for what has nothing
to do with it. It is found without a pass through any classifier where T is kept.
"""

from torch import Tensor, nn

from advcomp.attacknet.data import AttackBatch
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.players.attack.hooks import l1_normalised
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.ensemble import Ensemble


class Teacher(nn.Module):
    """Images of a batch to T, (N, 1, 3, H, W).

    Args:
        classifiers: Frozen; each counts alike.
        count: 1, or with how many accumulated steps (`PixelGradients`), all of which are added.
    """

    told = 1

    def __init__(self, classifiers: Ensemble, *, count: int = 1) -> None:
        super().__init__()
        self.gradients = PixelGradients(
            classifiers, count=count, labels=LabelKind.HARD, apart=True
        )

    def forward(self, batch: AttackBatch) -> Tensor:
        """Away from the true labels or, where the network aims, towards its target labels."""
        found = self.gradients(
            batch.clean,
            batch.eps,
            batch.targets,
            None if batch.targets is not None else batch.labels,
        )
        return l1_normalised(found.sum(1)).unsqueeze(1)

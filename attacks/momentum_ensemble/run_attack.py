"""Iterative FGSM with momentum on the averaged logits of all surrogate_*.safetensors."""

from pathlib import Path

from torch import Tensor

from advcomp.players.attacks import momentum_iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import attack_main
from advcomp.players.ensemble import Ensemble

files = sorted(Path(__file__).parent.glob("surrogate_*.safetensors"))
surrogates = Ensemble([load_classifier(file, fold=True, channels_last=True) for file in files])


def attack(clean: Tensor, eps: float) -> Tensor:
    """Adversarial images for clean ones."""
    labels = surrogates(clean).argmax(1)
    return momentum_iterative_fgsm(surrogates, clean, labels, eps=eps)


attack_main(attack)

"""Small steps along the sign of a surrogate's gradient, away from what the surrogate sees."""

from pathlib import Path

from torch import Tensor

from advcomp.players.attacks import iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import attack_main

file = Path(__file__).with_name("surrogate.safetensors")
surrogate = load_classifier(file, fold=True, channels_last=True)


def attack(clean: Tensor, eps: float) -> Tensor:
    """Adversarial images for clean ones."""
    return iterative_fgsm(surrogate, clean, surrogate(clean).argmax(1), eps=eps)


attack_main(attack)

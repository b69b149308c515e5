"""Small steps along the sign of a surrogate's gradient, towards the given target classes."""

from pathlib import Path

from torch import Tensor

from advcomp.players.attacks import iterative_fgsm
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import targeted_attack_main

file = Path(__file__).with_name("surrogate.safetensors")
surrogate = load_classifier(file, fold=True, channels_last=True)


def attack(clean: Tensor, targets: Tensor, eps: float) -> Tensor:
    """Adversarial images for clean ones and the labels to lead them to."""
    return iterative_fgsm(surrogate, clean, surrogate.to_classes(targets), eps=eps, targeted=True)


targeted_attack_main(attack)

"""A classifier that was trained on adversarial images (PGD, arXiv 1706.06083)."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main

file = Path(__file__).with_name("classifier.safetensors")
classifier = load_classifier(file, fold=True, channels_last=True)


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifier.to_labels(classifier(images).argmax(1))


defense_main(defense)

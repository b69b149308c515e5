"""A classifier behind random resizing and padding (second of 2017's defenses)."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main
from advcomp.players.defenses import random_resize_pad

file = Path(__file__).with_name("classifier.safetensors")
classifier = load_classifier(file, fold=True, channels_last=True)


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifier.to_labels(random_resize_pad(classifier, images, draws=5).argmax(1))


defense_main(defense)

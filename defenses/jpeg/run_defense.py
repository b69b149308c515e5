"""A classifier behind JPEG compression, which drops the fine detail of a perturbation."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main
from advcomp.players.defenses import jpeg

file = Path(__file__).with_name("classifier.safetensors")
classifier = load_classifier(file, fold=True, channels_last=True)


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifier.to_labels(classifier(jpeg(images)).argmax(1))


defense_main(defense)

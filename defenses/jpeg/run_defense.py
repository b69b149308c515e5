"""A classifier behind JPEG compression, which drops the fine detail of a perturbation."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main
from advcomp.players.defenses import jpeg

classifier = load_classifier(Path(__file__).with_name("classifier.safetensors"))


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifier.to_labels(classifier(jpeg(images)).argmax(1))


defense_main(defense)

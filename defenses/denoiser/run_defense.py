"""A classifier behind the denoiser that it guided (first of 2017's defenses)."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main
from advcomp.players.denoiser import load_denoiser

file = Path(__file__).with_name("classifier.safetensors")
classifier = load_classifier(file, fold=True, channels_last=True)
denoiser = load_denoiser(Path(__file__).with_name("denoiser.safetensors"))


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifier.to_labels(classifier(denoiser(images)).argmax(1))


defense_main(defense)

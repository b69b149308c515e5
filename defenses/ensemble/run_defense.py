"""The averaged probabilities of all classifier_*.safetensors, which must share their classes."""

from pathlib import Path

from torch import Tensor

from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import defense_main
from advcomp.players.ensemble import Ensemble, Fusion

files = sorted(Path(__file__).parent.glob("classifier_*.safetensors"))
classifiers = [load_classifier(file, fold=True, channels_last=True) for file in files]
ensemble = Ensemble(classifiers, fusion=Fusion.PROBABILITIES)


def defense(images: Tensor) -> Tensor:
    """The labels of images."""
    return classifiers[0].to_labels(ensemble(images).argmax(1))


defense_main(defense)

"""An exported network at play: what `run_attack.py` of a submission loads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.recipe import HintMode
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import load_classifier
from advcomp.players.contract import Attack, TargetedAttack

NETWORK, SURROGATE = "network.safetensors", "surrogate.safetensors"
SPEC, HINT_MODE, HINT_LAYERS = "spec", "hint_mode", "hint_layers"


def load_attack(folder: Path) -> Attack:
    """The network in a submission's folder as a function of images and eps."""
    generator = load_generator(folder)

    def attack(clean: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            adversarial: Tensor = generator(clean, clean.new_full((len(clean),), eps))
        return adversarial

    return attack


def load_targeted_attack(folder: Path) -> TargetedAttack:
    """The targeted network in a submission's folder as a function of images, targets and eps."""
    generator = load_generator(folder)

    def attack(clean: Tensor, targets: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            adversarial: Tensor = generator(clean, clean.new_full((len(clean),), eps), targets)
        return adversarial

    return attack


def load_generator(folder: Path) -> AdversarialGenerator:
    """The network of `network.safetensors`, and its hint's surrogate beside it.

    Raises:
        InvalidConfig: A file is missing or no export of `advcomp export`.
    """
    path = folder / NETWORK
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        spec = NetworkSpec.model_validate_json(metadata[SPEC])
        mode, layers = HintMode(metadata[HINT_MODE]), json.loads(metadata[HINT_LAYERS])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InvalidConfig(f"{path}: expected a network of `advcomp export`: {error}") from error
    hint = None
    if mode is not HintMode.NONE:
        hint = GradientHint(load_classifier(folder / SURROGATE), layers)
    return filled(spec, tensors, hint, mode)


def filled(
    spec: NetworkSpec, weights: Mapping[str, Any], hint: GradientHint | None, mode: HintMode
) -> AdversarialGenerator:
    """A generator with given weights, frozen."""
    network = AttackNetwork(spec)
    network.load_state_dict(weights)
    return AdversarialGenerator(network, hint, mode).eval().requires_grad_(False)

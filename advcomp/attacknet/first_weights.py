"""Weights that a new run begins with: those of another run, or of an export."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.training.checkpoint import load_checkpoint


def first_weights(path: Path, network: nn.Module) -> Mapping[str, Tensor]:
    """The averaged weights of a checkpoint, or those of an export's network.safetensors.

    Args:
        network: What they must fit.

    Raises:
        InvalidConfig: The file holds none, or those of another network: names each tensor.
    """
    found = _weights_in(path)
    if problems := list(_misfits(found, network.state_dict())):
        raise InvalidConfig(*(f"{path}: {problem}" for problem in problems))
    return found


def _weights_in(path: Path) -> Mapping[str, Tensor]:
    if path.suffix != ".safetensors":
        return load_checkpoint(path).states["average"]
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidConfig(f"{path}: expected weights of `advcomp export`: {error}") from error


def _misfits(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[str]:
    for name in sorted(found.keys() | own.keys()):
        shapes = [tuple(each[name].shape) if name in each else None for each in (own, found)]
        if shapes[0] != shapes[1]:
            expected, got = (shape or "none" for shape in shapes)
            yield (
                f"{name}: expected {expected}, as the recipe's network has it; got {got}; begin "
                "with weights of the same [network], [threat], [hint] and [gradients] count"
            )

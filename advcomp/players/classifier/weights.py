"""Tensors from a file of weights, checked against the network that takes them; no pickle is run.

safetensors files are read as they are, PyTorch's own by a reader that makes tensors and plain
values and nothing else; which of them a file is, its first bytes say and not its name.
"""

import json
import re
import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from advcomp.errors import InvalidConfig
from advcomp.training.file_kind import FileKind, kind_of
from advcomp.training.torch_file import read_torch_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which training scripts put the weights beside other things."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
"""What DataParallel, `torch.compile`, Lightning and our `Classifier` put before every name."""

_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
"""Names in torchvision's published files, which its own builders rewrite."""

_SPARE = ("AuxLogits", "aux1", "aux2")
"""Auxiliary heads, which answer in training only: networks are built without."""

_COUNTER = "num_batches_tracked"
"""Of a batch norm, which networks saved before PyTorch 0.4.1 do not have."""

VERSION = "version"
"""In a file's metadata: of the network's layout, as PyTorch counts it."""

_WANTED = "a file of weights"
_SHOWN = 5


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by their name in the network, and the file's metadata.

    Raises:
        InvalidConfig: The file cannot be read, is something else, or would have to run code.
    """
    read = _read_pytorch if kind_of(path, _WANTED) is FileKind.PYTORCH else _read_safetensors
    tensors, metadata = read(path)
    while prefix := _wrapper(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return {_OLD_DENSENET.sub(r"\1\2", name): t for name, t in tensors.items()}, metadata


def _wrapper(names: Collection[str]) -> str:
    """What was put before every name; nothing where something else stands there."""
    found = [p for p in _PREFIXES if names and all(name.startswith(p) for name in names)]
    return found[0] if found else ""


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InvalidConfig(f"{path}: expected a readable safetensors file: {error}") from error
    if "architecture" in metadata:
        # Advcomp 0.1 kept these among the tensors.
        for name in {"mean", "std"} & tensors.keys():
            metadata[name] = json.dumps(tensors.pop(name).flatten().tolist())
    return tensors, metadata


def _read_pytorch(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    found = read_torch_file(path, _WANTED)
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(x, Tensor) and _is_dense(x)
        for name, x in found.items()
    ):
        raise InvalidConfig(
            f"{path}: expected a state_dict, a mapping of names to dense tensors; got "
            f"{_described(found)}"
        )
    return dict(found), _version_in(found)


def _is_dense(x: Tensor) -> bool:
    return x.layout is torch.strided and not x.is_meta


def _version_in(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The version of the outermost module in what PyTorch keeps beside the tensors."""
    versions = getattr(state, "_metadata", {})
    stated = [
        versions[name][VERSION] for name in ("", "module") if VERSION in versions.get(name, {})
    ]
    return {VERSION: json.dumps(stated[0])} if stated else {}


def _described(found: object) -> str:
    """What a file holds instead of a state_dict, with the first keys of a mapping."""
    if not isinstance(found, Mapping):
        return type(found).__name__
    more = ", ..." if len(found) > _SHOWN else ""
    return f"one with the keys {', '.join(map(str, [*found][:_SHOWN]))}{more}"


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    classes: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Copy the tensors into the network, wherever PyTorch's own strict loading would.

    Args:
        network: Gets them.
        tensors, metadata: As `read_weights` found them.
        path: Where, for messages.
        classes: How many the network has; None where it has none.

    Raises:
        InvalidConfig: Lists what is missing, what is too much, what has another shape and what
            holds NaN or infinity where a fresh network has none.
    """
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    wanted = {n: t for n, t in tensors.items() if not _is_spare(network, n)}
    state = OrderedDict(wanted)
    version = json.loads((metadata or {}).get(VERSION, "null")) or getattr(network, "_version", 1)
    # Only the outermost module's: the others take what old versions had under none.
    state._metadata = {"": {VERSION: version}}  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            # An old MNASNet is said to be one.
            warnings.simplefilter("ignore")
            network.load_state_dict(state)
    except RuntimeError as error:
        problems = _misfits(network, wanted, classes) or [str(error)]
        raise InvalidConfig(*(f"{path}: {problem}" for problem in problems)) from error
    if found := not_finite(network.state_dict(), expected):
        raise InvalidConfig(f"{path}: {found}")


def _is_spare(network: nn.Module, name: str) -> bool:
    head = name.partition(".")[0]
    return head in _SPARE and getattr(network, head, network) is None


def _misfits(network: nn.Module, tensors: Mapping[str, Tensor], classes: int | None) -> list[str]:
    """What keeps the tensors from going into the network."""
    expected = network.state_dict()
    misshapen = [n for n in expected if n in tensors and _differ(expected[n], tensors[n])]
    missing = [n for n in expected if n not in tensors and not n.endswith(_COUNTER)]
    problems = [
        _problem("is missing", missing),
        _problem("does not expect", [name for name in tensors if name not in expected]),
        _problem(
            "has other shapes for",
            [_shapes(name, expected[name], tensors[name]) for name in misshapen],
        ),
        not_finite(
            {n: t for n, t in tensors.items() if n in expected and n not in misshapen}, expected
        ),
    ]
    for name in misshapen:
        ours, theirs = expected[name].shape, tensors[name].shape
        if len(ours) == len(theirs) and ours[0] == classes and ours[1:] == theirs[1:]:
            problems.insert(
                0, f"classes: expected weights for {classes}; got weights for {theirs[0]}"
            )
            break
    return [problem for problem in problems if problem]


def _differ(expected: Tensor, got: Tensor) -> bool:
    """Whether PyTorch refuses the shape; before 0.4 a number was a vector of one."""
    return expected.shape != got.shape and not (expected.dim() == 0 and got.shape == (1,))


def not_finite(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor] | None = None) -> str:
    """Which tensors hold NaN or infinity, as a problem; nothing where all are finite.

    Args:
        tensors: By name.
        expected: Where an infinity is meant, these have it as well: masks, by name and shape.
    """
    found = []
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            bad = ~tensor.float().isfinite()
            if expected is not None and bool(bad.any()):
                bad &= expected[name].float().isfinite()
            if count := int(bad.sum()):
                found.append(f"{name} ({count} of {tensor.numel()})")
    if not found:
        return ""
    return (
        f"expected finite weights; got NaN or infinity in {_listed(sorted(found))}; take an "
        "earlier checkpoint, or one that no conversion to 16 bits has driven beyond its range"
    )


def _shapes(name: str, expected: Tensor, got: Tensor) -> str:
    return f"{name} (expected {tuple(expected.shape)}, got {tuple(got.shape)})"


def _problem(what: str, names: list[str]) -> str:
    return f"the network {what} {_listed(names)}" if names else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

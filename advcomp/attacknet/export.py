"""From a checkpoint to a submission: metadata.json, entry point, weights, recipe, digests.

Weights are the averaged ones. As PyTorch they are stored in 16 bits and computed with in 32; as
ONNX the graph holds them in 32 bits, and the entry point needs onnxruntime, numpy and Pillow only.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save
from torch import Tensor

from advcomp.attacknet.network.hint import GradientHint
from advcomp.attacknet.network.onnx_graph import write_onnx
from advcomp.attacknet.player import (
    GRADIENT_LABELS,
    GRADIENT_SURROGATE,
    GRADIENT_SURROGATES,
    GRADIENTS_APART,
    HINT_LAYERS,
    HINT_MODE,
    NETWORK,
    SPEC,
    SURROGATE,
    filled,
    gradients_from_files,
)
from advcomp.attacknet.recipe import HintMode
from advcomp.attacknet.trained import TrainedNetwork, trained_network
from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.players.classifier.weights import not_finite
from advcomp.players.classifiers import load_classifier
from advcomp.rules.metadata import FILE_NAME
from advcomp.rules.submission_type import SubmissionType
from advcomp.training.checkpoint import About, load_checkpoint

ENTRY_POINT, PROGRAM, RECIPE, DIGESTS = (
    "run_attack.sh",
    "run_attack.py",
    "train.toml",
    "SHA256SUMS",
)
ONNX = "network.onnx"
CONTAINER = "advcomp/runtime"


class Format(StrEnum):
    """What computes the network in the submission."""

    PYTORCH = "pytorch"
    ONNX = "onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A submission's files, and the height and width of the images that it was trained on."""

    files: list[Path]
    image_size: tuple[int, int]


def export_checkpoint(checkpoint: Path, folder: Path, form: Format) -> Exported:
    """Write a submission into a new or empty folder, all of it or nothing.

    Raises:
        InvalidConfig: It is no checkpoint, the folder is occupied, or the hint's surrogate is
            not where it was in training.
    """
    about, trained, weights = _averaged(checkpoint)
    _refuse_occupied(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as whole:
            _fill(Path(whole), about, trained, weights, form)
            for file in Path(whole).iterdir():
                file.replace(folder / file.name)
    except OSError as error:
        raise AdvcompError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return Exported(files=sorted(folder.iterdir()), image_size=trained.image_size)


def _fill(
    folder: Path,
    about: About,
    trained: TrainedNetwork,
    weights: Mapping[str, Tensor],
    form: Format,
) -> None:
    targeted = trained.spec.target_labels is not None
    kind = SubmissionType.TARGETED_ATTACK if targeted else SubmissionType.ATTACK
    metadata = {"type": kind.value, "container": CONTAINER, "entry_point": ENTRY_POINT}
    _write(folder / FILE_NAME, json.dumps(metadata, indent=2) + "\n")
    _write(folder / ENTRY_POINT, _template(ENTRY_POINT)).chmod(0o755)
    # onnxruntime tells the program whether the graph aims.
    name = "pytorch_targeted.py" if targeted and form is Format.PYTORCH else f"{form}.py"
    _write(folder / PROGRAM, _template(name))
    _write(folder / RECIPE, about.recipe)
    if form is Format.ONNX:
        surrogates = gradients_from_files(
            _gradient_surrogates(about, trained),
            trained.spec.gradients,
            trained.gradient_labels,
            apart=trained.gradients_apart,
            quick=False,
        )
        mode = HintMode(trained.hint_mode)
        generator = filled(trained.spec, weights, _hint(about, trained), mode, surrogates)
        write_onnx(folder / ONNX, generator, trained.image_size)
    else:
        _write_pytorch(folder, about, trained, weights)
    files = sorted(folder.iterdir())
    _write(folder / DIGESTS, "".join(f"{_digest(path)}  {path.name}\n" for path in files))


def _averaged(checkpoint: Path) -> tuple[About, TrainedNetwork, dict[str, Tensor]]:
    found = load_checkpoint(checkpoint)
    try:
        trained = trained_network(found.about)
    except InvalidConfig as error:
        raise InvalidConfig(f"{checkpoint}: {error}") from error
    average: Mapping[str, Tensor] = found.states["average"]
    # Rounded once, here: both formats play the same network.
    weights = {name: value.half().float() for name, value in average.items()}
    if problem := not_finite(weights):
        raise InvalidConfig(f"{checkpoint}: {problem}")
    return found.about, trained, weights


def _write_pytorch(
    folder: Path, about: About, trained: TrainedNetwork, weights: Mapping[str, Tensor]
) -> None:
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    metadata = {
        SPEC: trained.spec.model_dump_json(),
        HINT_MODE: trained.hint_mode,
        HINT_LAYERS: json.dumps(trained.hint_layers),
        GRADIENT_SURROGATES: json.dumps(len(trained.gradient_surrogates)),
        GRADIENT_LABELS: trained.gradient_labels.value,
        GRADIENTS_APART: json.dumps(trained.gradients_apart),
    }
    (folder / NETWORK).write_bytes(save(halves, metadata))
    if trained.surrogate is not None:
        shutil.copyfile(_surrogate(about, trained.surrogate), folder / SURROGATE)
    for number, path in enumerate(_gradient_surrogates(about, trained), 1):
        shutil.copyfile(path, folder / GRADIENT_SURROGATE.format(number))


def _hint(about: About, trained: TrainedNetwork) -> GradientHint | None:
    if trained.surrogate is None:
        return None
    return GradientHint(load_classifier(_surrogate(about, trained.surrogate)), trained.hint_layers)


def _surrogate(about: About, name: str) -> Path:
    return _unchanged(Path(name), about.identity["hint.surrogate"])


def _gradient_surrogates(about: About, trained: TrainedNetwork) -> list[Path]:
    return [
        _unchanged(Path(path), about.identity[f"gradients.surrogates[{i}]"])
        for i, path in enumerate(trained.gradient_surrogates)
    ]


def _unchanged(path: Path, digest: str) -> Path:
    if not path.is_file():
        raise InvalidConfig(
            f"{path}: expected the surrogate that the hint was trained with; it is gone"
        )
    if _digest(path) != digest:
        raise InvalidConfig(
            f"{path}: expected the surrogate that the hint was trained with, SHA-256 {digest}; "
            "the file has changed"
        )
    return path


def _template(name: str) -> str:
    return (resources.files("advcomp.attacknet") / "entries" / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise InvalidConfig(f"{folder}: expected a new or an empty folder; name another one")

"""The library's attacks by name, and the small file that says which one to run and how.

```toml
attack = "vmi_fgsm"        # a key of ATTACKS
fusion = "logits"          # of several surrogates: logits | probabilities | losses | gradients
batch_size = 8             # images at once; where not given, what the box's memory is good for
labels = "hard"            # what an untargeted attack leads away from: hard | soft (objectives.py)
labels_from = "predictor.safetensors"   # beside this file: a classifier that tells the labels

[parameters]               # where they shall not be the paper's
samples = 10

[weights]                  # of surrogates, by file name without .safetensors; 1 where not named
surrogate_robust = 4.0
```
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, cast

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from advcomp import plugins
from advcomp.errors import InvalidConfig
from advcomp.players.attack.autopgd import autopgd, autopgd_targets
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.attack.objectives import soft_labels
from advcomp.players.attack.transfer import (
    Loop,
    admix,
    bsr,
    da_fgsm,
    di_fgsm,
    di_ti_si_mi_fgsm,
    ni_fgsm,
    pgn,
    pi_fgsm,
    si_fgsm,
    si_ni_fgsm,
    ssa,
    ti_fgsm,
    vmi_fgsm,
    vni_fgsm,
)
from advcomp.players.attack.universal import universal
from advcomp.players.attacks import fgsm, iterative_fgsm, momentum_iterative_fgsm, pgd
from advcomp.players.classifier.weights import not_finite, read_weights
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.ensemble import Ensemble, Fusion, load_ensemble
from advcomp.players.tsail import tsail
from advcomp.rules.toml_fields import beside_the_file, one_of
from advcomp.rules.toml_file import Table, read_toml, where
from advcomp.rules.toml_parameters import Value, kinds, parameter_problems, unknown_name

AttackFunction = Callable[..., Tensor]
"""`attack(classifier, clean, labels, *, eps, targeted=False, **parameters) -> adversarial`."""

ATTACKS: Mapping[str, AttackFunction] = MappingProxyType(
    {
        "fgsm": fgsm,
        "i_fgsm": iterative_fgsm,
        "pgd": pgd,
        "mi_fgsm": momentum_iterative_fgsm,
        "da_fgsm": da_fgsm,
        "ni_fgsm": ni_fgsm,
        "di_fgsm": di_fgsm,
        "ti_fgsm": ti_fgsm,
        "si_fgsm": si_fgsm,
        "si_ni_fgsm": si_ni_fgsm,
        "di_ti_si_mi_fgsm": di_ti_si_mi_fgsm,
        "admix": admix,
        "vmi_fgsm": vmi_fgsm,
        "vni_fgsm": vni_fgsm,
        "pi_fgsm": pi_fgsm,
        "ssa": ssa,
        "pgn": pgn,
        "bsr": bsr,
        "tsail": tsail,
        "autopgd_ce": partial(autopgd, loss="ce"),
        "autopgd_dlr": partial(autopgd, loss="dlr"),
        "autopgd_targets": autopgd_targets,
        "universal": universal,
    }
)
"""With the paper's defaults, all called alike; `autopgd_targets` is untargeted only. `admix` and
`universal` take tensors besides, without which they make do with the batch; a settings file has to
bring them, since an image in a tournament is not to depend on its neighbours."""

ATTACK_FILE, TENSORS = "attack.toml", "attack.safetensors"
SURROGATES = "surrogate*"


def attack_named(name: str) -> AttackFunction | None:
    """An attack of the library, or one that another package adds; None where there is none.

    Raises:
        InvalidConfig: It is another package's, and cannot be imported.
    """
    if name in ATTACKS:
        return ATTACKS[name]
    return cast(AttackFunction | None, plugins.load(plugins.ExtensionGroup.ATTACKS, name))


def settings_of(attack: AttackFunction) -> dict[str, inspect.Parameter]:
    """What a file may say about an attack: its numbers, words and tensors, but no hooks.

    Where an attack hands on the settings of the loop, they are among them.
    """
    own = inspect.signature(attack).parameters
    found = {name: p for name, p in own.items() if p.kind is p.KEYWORD_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in own.values()):
        loop = inspect.signature(momentum_iterative_fgsm).parameters
        found |= {name: loop[name] for name in Loop.__annotations__}
    given = {"eps", "targeted", *getattr(attack, "keywords", {})}
    sayable = (*kinds(Value), Tensor, type(None))
    return {
        name: p
        for name, p in found.items()
        if name not in given and all(kind in sayable for kind in kinds(p.annotation))
    }


def parameters_of(attack: AttackFunction) -> dict[str, object]:
    """The type of every number and word that a file may say about an attack."""
    return {
        name: p.annotation
        for name, p in settings_of(attack).items()
        if Tensor not in kinds(p.annotation)
    }


class AttackSettings(Table):
    """The content of `attack.toml`."""

    attack: str = Field(description=one_of(ATTACKS))
    fusion: Fusion = Field(default=Fusion.LOGITS, strict=False, description=one_of(Fusion))
    batch_size: int | None = Field(
        default=None, ge=1, description="a number of images, at least 1"
    )
    labels: LabelKind = Field(default=LabelKind.HARD, strict=False, description=one_of(LabelKind))
    labels_from: Annotated[Path, AfterValidator(beside_the_file)] | None = Field(
        default=None, strict=False, description="the path of a classifier's weights"
    )
    parameters: dict[str, Value] = Field(default={}, description="a table of numbers and words")
    weights: dict[str, float] = Field(default={}, description="a table of weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryAttack:
    """An attack of the library with its settings and surrogates.

    Args:
        predictor: Tells the labels that nobody gives: the surrogates, or a classifier apart.
    """

    attack: AttackFunction
    surrogates: Ensemble
    predictor: Ensemble | Classifier
    labels: LabelKind
    batch_size: int | None = None

    def untargeted(self, clean: Tensor, eps: float) -> Tensor:
        """Away from what the predictor sees in the clean images (N, 3, H, W)."""
        if self.labels is LabelKind.SOFT:
            labels = soft_labels(self.predictor, clean)
        else:
            with torch.no_grad():
                labels = self.predictor(clean).argmax(1)
        return self.attack(self.surrogates, clean, labels, eps=eps)

    def targeted(self, clean: Tensor, targets: Tensor, eps: float) -> Tensor:
        """Towards target labels (N,)."""
        classes = self.surrogates.to_classes(targets)
        return self.attack(self.surrogates, clean, classes, eps=eps, targeted=True)


def load_attack(folder: Path) -> LibraryAttack:
    """The attack that `attack.toml` in a folder names, on all `surrogate*.safetensors` there.

    Tensors that an attack needs (the images that Admix mixes in, a universal perturbation) lie
    beside it in `attack.safetensors`, by the names of its parameters; bytes are pixel levels.

    Raises:
        InvalidConfig: Lists all that is wrong.
    """
    path = folder / ATTACK_FILE
    settings = read_toml(path, AttackSettings)
    tensors = _read_tensors(folder / TENSORS)
    if problems := [*_problems(path, settings, tensors)]:
        raise InvalidConfig(*problems)
    surrogates = load_ensemble(
        folder, {**settings.weights, SURROGATES: 1.0}, fusion=settings.fusion
    )
    attack = attack_named(settings.attack)
    assert attack is not None
    attack = partial(attack, **settings.parameters, **tensors)
    predictor: Ensemble | Classifier = surrogates
    if settings.labels_from is not None:
        predictor = _predictor(settings.labels_from, path, surrogates)
    return LibraryAttack(
        attack=attack,
        surrogates=surrogates,
        predictor=predictor,
        labels=settings.labels,
        batch_size=settings.batch_size,
    )


def _predictor(file: Path, path: Path, surrogates: Ensemble) -> Classifier:
    """The classifier that tells an attack its labels, by the surrogates' numbers.

    Raises:
        InvalidConfig: The file holds none, or one of other labels.
    """
    predictor = load_classifier(file)
    surrogate = surrogates.members[0]
    assert isinstance(surrogate, Classifier)
    expected, got = (
        f"{one.label_offset} to {one.label_offset + one.classes - 1}"
        for one in (surrogate, predictor)
    )
    if got != expected:
        raise InvalidConfig(
            f"{where(path, ('labels_from',))}: expected a classifier of the surrogates' labels, "
            f"{expected}; {file.name} has {got}"
        )
    return predictor


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        return {}
    tensors = read_weights(path)[0]
    if problem := not_finite(tensors):
        raise InvalidConfig(f"{path}: {problem}")
    return {
        name: tensor / 255 if tensor.dtype is torch.uint8 and tensor.dim() == 4 else tensor
        for name, tensor in tensors.items()
    }


def _problems(
    path: Path, settings: AttackSettings, tensors: Mapping[str, Tensor]
) -> Iterator[str]:
    """What does not fit together in a folder, though each file by itself can be read."""
    attack = attack_named(settings.attack)
    if attack is None:
        known_names = [*ATTACKS, *plugins.names(plugins.ExtensionGroup.ATTACKS, ATTACKS)]
        yield unknown_name(path, "attack", settings.attack, known_names)
        return
    known = {name: p.annotation for name, p in settings_of(attack).items()}
    needed = {name for name, kind in known.items() if Tensor in kinds(kind)}
    yield from parameter_problems(
        path, settings.attack, parameters_of(attack), settings.parameters
    )
    if needed != set(tensors):
        yield (
            f'{path.with_name(TENSORS)}: expected the tensors of "{settings.attack}": '
            f"{_listed(needed)}; got {_listed(tensors)}"
        )
    if settings.labels_from is not None and not settings.labels_from.is_file():
        yield (
            f"{where(path, ('labels_from',))}: expected the path of a classifier's weights, seen "
            f"from this file; none at {settings.labels_from}; lay one over the folder in the "
            f'tournament file: files."{settings.labels_from.name}" = "..."'
        )
    surrogates = [file.stem for file in path.parent.glob(f"{SURROGATES}.safetensors")]
    for name in settings.weights.keys() - set(surrogates):
        yield (
            f"{where(path, ('weights', name))}: expected a surrogate in the folder: "
            f"{_listed(surrogates)}"
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"

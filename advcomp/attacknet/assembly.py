"""Puts a recipe's parts together: classifiers that fit the images, the network, its hint."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.hint import GradientHint, layer_of
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.network.pixel_gradients import PixelGradients, told_gradients
from advcomp.attacknet.objective.losses import TargetClassifier
from advcomp.attacknet.recipe import AttackNetworkRecipe, HintMode
from advcomp.attacknet.teacher import Teacher
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.ensemble import Ensemble
from advcomp.players.image.pixels import to_float
from advcomp.players.training_images import TrainingImages
from advcomp.rules.threat import eps_of
from advcomp.training.draws import key_of


def names_of(paths: Iterable[Path]) -> list[str]:
    """What files of weights are called: as short as can be, and each differently."""
    paths = list(paths)
    for length in range(1, max((len(path.parts) for path in paths), default=0)):
        names = ["/".join(path.with_suffix("").parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def fitting_classifier(path: Path, images: TrainingImages) -> Classifier:
    """The classifier in a file, frozen, tried on one image.

    Raises:
        InvalidConfig: The file is none, or its classifier does not fit: input size or classes.
    """
    classifier = load_classifier(path)
    height, width = images.size
    try:
        with torch.no_grad():
            logits = classifier(to_float(images.levels[:1]))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InvalidConfig(
            f"{path}: expected a classifier for images of {height}x{width}; "
            f'"{classifier.architecture}" takes none: {str(error).partition(chr(10))[0]}'
        ) from error
    expected = [min(images.classes), max(images.classes)]
    known = [classifier.label_offset, classifier.label_offset + logits.shape[1] - 1]
    if known[0] > expected[0] or known[1] < expected[1]:
        raise InvalidConfig(
            f"{path}: expected a classifier that knows the labels {expected[0]} to "
            f"{expected[1]}; it has {logits.shape[1]} classes, {known[0]} to {known[1]}"
        )
    if not torch.isfinite(logits).all():
        raise InvalidConfig(f"{path}: expected finite logits; the weights give {logits[0, :3]}")
    return classifier


def fitting_classifiers(paths: Iterable[Path], images: TrainingImages) -> list[Classifier]:
    """Those of several files.

    Raises:
        InvalidConfig: All problems of all files.
    """
    found: list[Classifier] = []
    problems: list[str] = []
    for path in paths:
        try:
            found.append(fitting_classifier(path, images))
        except InvalidConfig as error:
            problems += error.problems
    if problems:
        raise InvalidConfig(*problems)
    return found


def target_classifiers(
    recipe: AttackNetworkRecipe, images: TrainingImages, chosen: Sequence[int]
) -> list[TargetClassifier]:
    """Some of a recipe's target classifiers, by their number.

    Raises:
        InvalidConfig: One does not fit, or has no such layer.
    """
    items = [recipe.targets[i] for i in chosen]
    classifiers = fitting_classifiers([item.weights for item in items], images)
    for item, classifier in zip(items, classifiers, strict=True):
        if item.feature_layer is not None:
            _known_layers(item.weights, classifier, [item.feature_layer])
    return [
        TargetClassifier(
            classifier=classifier, weight=item.weight, feature_layer=item.feature_layer
        )
        for item, classifier in zip(items, classifiers, strict=True)
    ]


def hint_of(recipe: AttackNetworkRecipe, images: TrainingImages) -> GradientHint | None:
    """The recipe's hint, if it has one.

    Raises:
        InvalidConfig: The surrogate does not fit, or lacks a layer.
    """
    if recipe.hint.mode is HintMode.NONE or recipe.hint.surrogate is None:
        return None
    surrogate = fitting_classifier(recipe.hint.surrogate, images)
    _known_layers(recipe.hint.surrogate, surrogate, recipe.hint.layers)
    return GradientHint(surrogate, recipe.hint.layers)


def gradients_of(recipe: AttackNetworkRecipe, images: TrainingImages) -> PixelGradients | None:
    """What the recipe's network is told by the pixel, if anything.

    Raises:
        InvalidConfig: A surrogate does not fit, or they are no ensemble.
    """
    table = recipe.gradients
    if not table.count:
        return None
    surrogates = fitting_classifiers(table.surrogates, images)
    return PixelGradients(
        fused(surrogates), count=table.count, labels=table.labels, apart=table.apart
    )


def teacher_of(recipe: AttackNetworkRecipe, images: TrainingImages) -> Teacher | None:
    """What the recipe's network is to imitate, if anything.

    Raises:
        InvalidConfig: A classifier does not fit, or they are no ensemble.
    """
    table = recipe.teacher
    if not table.surrogates:
        return None
    classifiers = fitting_classifiers(table.surrogates, images)
    return Teacher(fused(classifiers, "[teacher]"), count=table.count)


def fused(surrogates: Sequence[Classifier], table: str = "[gradients]") -> Ensemble:
    """Classifiers as one, in logits.

    Raises:
        InvalidConfig: They are no ensemble; names the recipe's table.
    """
    try:
        return Ensemble(surrogates)
    except ValueError as error:
        raise InvalidConfig(f"{table} surrogates: {error}") from error


def refuse_one_class(recipe: AttackNetworkRecipe, images: TrainingImages) -> None:
    """Check that a network that aims has something to aim at.

    Raises:
        InvalidConfig: All images have one label.
    """
    if recipe.threat.targeted and len(images.classes) < 2:
        raise InvalidConfig(
            "[threat] targeted: expected images of two or more labels, to draw target classes "
            f"from; all in [data] have {images.classes[0]}"
        )


def spec_of(
    recipe: AttackNetworkRecipe, images: TrainingImages, hint: GradientHint | None
) -> NetworkSpec:
    """What network a recipe asks for."""
    strides = [recipe.network.stem_stride << level for level in range(len(recipe.network.widths))]
    return NetworkSpec(
        table=recipe.network,
        max_epsilons=recipe.threat.max_epsilons,
        target_labels=images.classes if recipe.threat.targeted else None,
        hint=() if hint is None else hint.spec(images.size, strides),
        gradients=told_gradients(
            recipe.gradients.count,
            len(recipe.gradients.surrogates),
            apart=recipe.gradients.apart,
        ),
    )


def fresh_generator(recipe: AttackNetworkRecipe, images: TrainingImages) -> AdversarialGenerator:
    """A network with its first weights, which come from the recipe's seed alone."""
    hint, gradients = hint_of(recipe, images), gradients_of(recipe, images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of(recipe.seed, "weights"))
        network = AttackNetwork(spec_of(recipe, images, hint), recompute=recipe.device.recompute)
    return AdversarialGenerator(network, hint, recipe.hint.mode, gradients).to(
        recipe.device.precision.kept
    )


def one_image(
    recipe: AttackNetworkRecipe, images: TrainingImages, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """An image, an epsilon and a target label to try a generator on."""
    dtype = recipe.device.precision.kept
    clean = to_float(images.levels[:1]).to(dtype)
    eps = torch.full((1,), eps_of(recipe.threat.max_epsilons[0]), dtype=dtype)
    targets = torch.tensor(images.classes[:1]) if recipe.threat.targeted else None
    return clean.to(device), eps.to(device), None if targets is None else targets.to(device)


def _known_layers(path: Path, classifier: Classifier, layers: Sequence[str]) -> None:
    problems: list[str] = []
    for name in layers:
        try:
            layer_of(classifier, name)
        except InvalidConfig as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
    if problems:
        raise InvalidConfig(*problems)

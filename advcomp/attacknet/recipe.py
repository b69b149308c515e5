"""A recipe: one TOML file that says how an attack network is built and trained.

Every key is a field below, and its description is what a wrong value is answered with. Paths are
seen from the recipe's folder. What no single key can be wrong about (a loss without the layer it
looks at, a batch that no grid can split) is checked here, too, before anything is loaded.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from advcomp.errors import InvalidConfig
from advcomp.players.attack.label_kind import LabelKind
from advcomp.players.training_images import ImageSource
from advcomp.rules.submission import NAME_RULE
from advcomp.rules.toml_fields import Name, at_least, beside_the_file, one_of, some_and_each_once
from advcomp.rules.toml_file import Table, problem, read_toml
from advcomp.training.checkpoint import Free
from advcomp.training.settings import FLAG, DeviceTable, OutputTable, ParallelTable, Plan


class EpsilonInput(StrEnum):
    """How one network serves every epsilon."""

    HEADS = "heads"
    CONDITION = "condition"
    BOTH = "both"


class OutputForm(StrEnum):
    """How the network's output becomes a perturbation within [-1, 1] (`network.model`)."""

    GATED = "gated"
    RESIDUAL = "residual"
    SIGN = "sign"

    @property
    def adds(self) -> bool:
        """Whether it is added to the gradients that the network is told by the pixel."""
        return self is not OutputForm.GATED


class HintMode(StrEnum):
    """How often the network is told the surrogate's gradient."""

    NONE = "none"
    ONE = "one"
    RECURRENT = "recurrent"


class TransformName(StrEnum):
    """What may stand between the network and the classifiers."""

    DIVERSE_INPUTS = "diverse_inputs"
    BLOCK_SHUFFLE = "block_shuffle"
    SCALE = "scale"
    SMOOTH = "smooth"


Located = Annotated[Path, AfterValidator(beside_the_file)]
Levels = Annotated[
    tuple[Annotated[int, Field(ge=1, le=255)], ...], AfterValidator(some_and_each_once)
]


def _levels_or_none(widths: tuple[int, ...]) -> tuple[int, ...]:
    if len(widths) == 1:
        raise ValueError("a single level")
    return widths


Widths = Annotated[
    tuple[Annotated[int, Field(ge=8, multiple_of=8)], ...], AfterValidator(_levels_or_none)
]
WEIGHT = "a number above 0"
SHARE = "a number from 0 to 1"


class DataTable(Table):
    """[data]: the training images. The last `validation_images` are only evaluated on."""

    source: ImageSource = Field(strict=False, description=one_of(ImageSource))
    path: Located | None = Field(
        default=None,
        strict=False,
        description="where the images are (cifar10: torchvision's root or an .npz of JPEGs;"
        " folder: a folder with images/ and images.csv; arrays: one with images.npy and"
        " labels.npy)",
    )
    images: int | None = Field(
        default=None,
        ge=1,
        description="how many images, the first ones, are trained on, at least 1; all that are"
        " not evaluated on where it is not there",
    )
    workers: int = Field(
        default=0, ge=0, description="processes of each rank that make batches, at least 0"
    )
    validation_images: int = Field(default=200, ge=1, description="a number of images, at least 1")
    shift: int = Field(
        default=0, ge=0, description="pixels, at least 0, by which images are moved"
    )
    flip: bool = Field(
        default=False, description="true where an image and its mirror image are alike"
    )

    @model_validator(mode="after")
    def _path_fits_the_source(self) -> Self:
        if (self.path is None) != (self.source is ImageSource.DIGITS):
            raise problem(
                'path: goes only with source = "cifar10", "folder" or "arrays", and they need it; '
                f'source is "{self.source}"'
            )
        return self


class BudgetTable(Table):
    """[threat]: the budgets that the network is trained for, and whether it aims."""

    max_epsilons: Levels = Field(
        default=(4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
        strict=False,
        description="one or more pixel levels, integers 1 to 255, each once",
    )
    targeted: bool = Field(
        default=False, description=f"{FLAG}: lead to a target class, drawn in training"
    )


class NetworkTable(Table):
    """[network]: how large the network is, and how it learns of epsilon."""

    widths: Widths = Field(
        default=(32, 64, 96),
        strict=False,
        description="the channels of two or more levels, each half the resolution of the one"
        " before, in multiples of 8; [] for none, where told gradients are added and no more",
    )
    blocks: int = Field(default=1, ge=1, description="residual blocks in each level, at least 1")
    bottlenecks: int = Field(
        default=1, ge=1, description="residual blocks at the lowest resolution"
    )
    stem_stride: int = Field(
        default=1, ge=1, le=4, description="by how much the first layer shrinks: 1 to 4"
    )
    epsilon: EpsilonInput = Field(
        default=EpsilonInput.HEADS, strict=False, description=one_of(EpsilonInput)
    )
    embedding: int = Field(
        default=32, ge=1, description="numbers that tell of epsilon and target class"
    )
    output: OutputForm = Field(
        default=OutputForm.GATED, strict=False, description=one_of(OutputForm)
    )
    sharpness: float = Field(
        default=4.0, gt=0, description="k of a residual output or a sign, a number above 0"
    )
    filter_size: int = Field(
        default=1,
        ge=1,
        description="pixels along a side, odd, of the filters through which gradients are added",
    )

    @field_validator("filter_size")
    @classmethod
    def _has_a_middle(cls, size: int) -> int:
        if size % 2 == 0:
            raise problem(f"expected an odd number of pixels; got {size}")
        return size


class HintTable(Table):
    """[hint]: the surrogate whose activations and gradients the network is told."""

    mode: HintMode = Field(default=HintMode.NONE, strict=False, description=one_of(HintMode))
    surrogate: Located | None = Field(
        default=None, strict=False, description="the path of a classifier's weights"
    )
    layers: Annotated[tuple[str, ...], at_least(1)] = Field(
        default=("network",),
        strict=False,
        description="one or more names of the surrogate's layers",
    )

    @model_validator(mode="after")
    def _a_surrogate_where_one_is_asked(self) -> Self:
        if self.mode is HintMode.NONE and "layers" in self.model_fields_set:
            raise problem('layers: goes only with mode = "one" or "recurrent"; mode is "none"')
        if (self.surrogate is None) != (self.mode is HintMode.NONE):
            raise problem(
                'surrogate: goes only with mode = "one" or "recurrent", and both need it; '
                f'mode is "{self.mode}"'
            )
        return self


class GradientsTable(Table):
    """[gradients]: what the first layer is told by the pixel (`network.pixel_gradients`)."""

    count: int = Field(default=0, ge=0, description="a number of gradients, at least 0")
    surrogates: tuple[Annotated[Located, Field(strict=False)], ...] = Field(
        default=(), strict=False, description="paths of classifiers' weights, fused in logits"
    )
    labels: LabelKind = Field(default=LabelKind.SOFT, strict=False, description=one_of(LabelKind))
    apart: bool = Field(
        default=False, description=f"{FLAG}: tell those of each surrogate, not of all fused"
    )
    keep: bool = Field(
        default=False,
        description=f"{FLAG}: find those of each image once, and keep them in the run's folder",
    )

    @model_validator(mode="after")
    def _surrogates_where_gradients_are_asked(self) -> Self:
        if bool(self.surrogates) is not (self.count > 0):
            raise problem(
                "surrogates: go only with count above 0, which needs one or more; "
                f"count is {self.count}, surrogates are {len(self.surrogates)}"
            )
        for name in ("labels", "apart", "keep"):
            if name in self.model_fields_set and not self.count:
                raise problem(f"{name}: goes only with count above 0; it is 0")
        return self


class TeacherTable(Table):
    """[teacher]: classifiers whose gradients the perturbation resembles (`[loss] imitation`)."""

    surrogates: tuple[Annotated[Located, Field(strict=False)], ...] = Field(
        default=(), strict=False, description="paths of classifiers' weights, which count alike"
    )
    count: int = Field(default=1, ge=1, description="a number of gradients, at least 1")
    keep: bool = Field(
        default=False,
        description=f"{FLAG}: find those of each image once, and keep them in the run's folder",
    )


class TargetItem(Table):
    """[[targets]]: a classifier that the network is trained against."""

    weights: Located = Field(strict=False, description="the path of a classifier's weights")
    weight: float = Field(default=1.0, gt=0, description=WEIGHT)
    feature_layer: str | None = Field(
        default=None,
        description="the name of a layer in the middle, which feature_distance looks at",
    )


class ValidationItem(Table):
    """[[validation]]: a classifier that the network is only evaluated on."""

    weights: Located = Field(strict=False, description="the path of a classifier's weights")


class LossTable(Table):
    """[loss]: what is minimised, a sum of the losses of this module's names with these weights."""

    cross_entropy: float = Field(default=0.0, ge=0, description="a weight, at least 0")
    relativistic_cross_entropy: float = Field(
        default=0.0, ge=0, description="a weight, at least 0"
    )
    margin: float = Field(default=0.0, ge=0, description="a weight, at least 0")
    feature_distance: float = Field(default=0.0, ge=0, description="a weight, at least 0")
    imitation: float = Field(
        default=0.0, ge=0, description="a weight, at least 0, of what [teacher] is asked for"
    )
    confidence: float = Field(
        default=5.0, ge=0, description="by how much logits must differ before margin is satisfied"
    )

    @property
    def weights(self) -> Mapping[str, float]:
        """The names of the losses that ask [[targets]] and count, with their weights."""
        return {
            name: value
            for name in LossTable.model_fields
            if name not in ("confidence", "imitation") and (value := getattr(self, name)) > 0
        }

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if "confidence" in self.model_fields_set and self.weights and not self.margin:
            raise problem(f"confidence: goes only with margin above 0; it is {self.margin}")
        if not self.weights and not self.imitation:
            names = ", ".join(name for name in LossTable.model_fields if name != "confidence")
            raise problem(f"expected a weight above 0 for one of {names}; all are 0")
        return self


class TransformItem(Table):
    """[[transforms]]: what happens to an image on its way to a classifier; in this order."""

    name: TransformName = Field(strict=False, description=one_of(TransformName))
    probability: float = Field(default=1.0, ge=0, le=1, description=SHARE)
    blocks: int = Field(
        default=2, ge=1, description="block_shuffle: blocks along each side, at least 1"
    )
    max_degrees: float = Field(
        default=24.0, ge=0, le=180, description="block_shuffle: degrees, 0 to 180"
    )
    low: float = Field(
        default=0.5, gt=0, le=1, description="scale: the smallest factor, above 0, at most 1"
    )
    sigma: float = Field(
        default=1.0, gt=0, description="smooth: standard deviation in pixels, above 0"
    )

    @model_validator(mode="after")
    def _keys_belong_to_the_name(self) -> Self:
        takes = _TRANSFORM_KEYS[self.name]
        if others := self.model_fields_set - {"name", "probability", *takes}:
            raise problem(
                f'"{self.name}" takes {", ".join(("probability", *takes))}; '
                f"it has no {', '.join(sorted(others))}"
            )
        return self


_TRANSFORM_KEYS = {
    TransformName.DIVERSE_INPUTS: (),
    TransformName.BLOCK_SHUFFLE: ("blocks", "max_degrees"),
    TransformName.SCALE: ("low",),
    TransformName.SMOOTH: ("sigma",),
}


class TrainingTable(Table):
    """[training]: how long and how fast. The rate warms up, then falls along a cosine."""

    steps: int = Field(
        default=1000, ge=1, lt=10**8, description="a number of steps, at least 1, below 10^8"
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="minutes, above 0, after which training ends with however few steps",
    )
    batch_size: int = Field(
        default=32, ge=1, description="images of a step over all ranks, at least 1"
    )
    targets_per_image: int | None = Field(
        default=None,
        ge=1,
        description="how many of [[targets]] each image meets in a step, drawn anew, at least 1;"
        " all where it is not there",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="a number above 0")
    warm_up_steps: int = Field(default=50, ge=0, description="a number of steps, at least 0")
    weight_decay: float = Field(default=0.0, ge=0, description="a number, at least 0")
    clip_norm: float = Field(
        default=1.0, gt=0, description="the largest norm of the gradient, above 0"
    )
    average: float = Field(
        default=0.99,
        ge=0,
        lt=1,
        description="how much of the averaged weights a step keeps, 0 to below 1",
    )
    round_to_levels: bool = Field(
        default=True, description=f"{FLAG}: classifiers see rounded pixels"
    )
    max_skipped: int = Field(
        default=10, ge=1, description="steps in a row without a finite loss before training stops"
    )


class AttackNetworkRecipe(Table):
    """A recipe, as written, with paths made absolute."""

    name: Name = Field(description=NAME_RULE)
    seed: int = Field(default=0, ge=0, description="an integer, at least 0")
    data: DataTable = Field(description="a table with a source")
    threat: BudgetTable = Field(default=BudgetTable(), description="a table")
    network: NetworkTable = Field(default=NetworkTable(), description="a table")
    hint: HintTable = Field(default=HintTable(), description="a table")
    gradients: GradientsTable = Field(default=GradientsTable(), description="a table")
    teacher: TeacherTable = Field(default=TeacherTable(), description="a table")
    targets: tuple[TargetItem, ...] = Field(
        strict=False, description="one or more tables [[targets]] with the weights of a classifier"
    )
    validation: tuple[ValidationItem, ...] = Field(
        default=(),
        strict=False,
        description="tables [[validation]] with the weights of a classifier",
    )
    loss: LossTable = Field(description="a table with weights of losses")
    transforms: tuple[TransformItem, ...] = Field(
        default=(), strict=False, description="tables [[transforms]] with the name of a transform"
    )
    training: TrainingTable = Field(default=TrainingTable(), description="a table")
    device: DeviceTable = Field(default=DeviceTable(), description="a table")
    parallel: ParallelTable = Field(default=ParallelTable(), description="a table")
    output: OutputTable = Field(default=OutputTable(), description="a table")

    @property
    def plan(self) -> Plan:
        """How long, how fast and in what the network is trained."""
        training, output = self.training, self.output
        return Plan(
            seed=self.seed,
            steps=training.steps,
            minutes=training.minutes,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            warm_up_steps=training.warm_up_steps,
            weight_decay=training.weight_decay,
            clip_norm=training.clip_norm,
            average=training.average,
            max_skipped=training.max_skipped,
            precision=self.device.precision,
            channels_last=self.device.channels_last,
            workers=self.data.workers,
            evaluate_every=output.evaluate_every,
            checkpoint_every=output.checkpoint_every,
            keep=output.keep,
        )


FREE: Free = {
    "parallel": True,
    "output": True,
    "data": {"workers": True},
    "device": {"name": True, "channels_last": True, "compile": True, "recompute": True},
}
"""What may differ when a run goes on."""


def load_network_recipe(path: Path) -> AttackNetworkRecipe:
    """The recipe in a TOML file.

    Raises:
        InvalidConfig: Lists all that is wrong with it, with line and key.
    """
    recipe = read_toml(path, AttackNetworkRecipe)
    if problems := [*_inconsistent(recipe), *_missing_files(recipe)]:
        raise InvalidConfig(*(f"{path}: {text}" for text in problems))
    return recipe


def _inconsistent(recipe: AttackNetworkRecipe) -> Iterator[str]:
    """What no table is wrong about alone."""
    targets, looks = recipe.targets, recipe.loss.feature_distance > 0
    if not targets:
        yield "targets: expected one or more tables [[targets]]; got none"
    if looks and recipe.threat.targeted:
        yield (
            "[loss] feature_distance has no targeted form: take it out, or set"
            " [threat] targeted = false"
        )
    blind = [i for i, item in enumerate(targets) if (item.feature_layer is None) == looks]
    if blind:
        yield (
            f"[targets] {', '.join(f'[{i}]' for i in blind)} feature_layer: goes only with"
            f" [loss] feature_distance above 0, and every target needs it there; it is"
            f" {recipe.loss.feature_distance}"
        )
    if recipe.threat.targeted and "labels" in recipe.gradients.model_fields_set:
        yield (
            "[gradients] labels: goes only with [threat] targeted = false; a targeted network's"
            " gradients lead to its target classes"
        )
    if bool(recipe.teacher.surrogates) is not (recipe.loss.imitation > 0):
        yield (
            "[teacher] surrogates: go only with [loss] imitation above 0, which needs one or"
            f" more; it is {recipe.loss.imitation}, surrogates are"
            f" {len(recipe.teacher.surrogates)}"
        )
    moving = recipe.data.shift or recipe.threat.targeted
    for name, kept in (("gradients", recipe.gradients.keep), ("teacher", recipe.teacher.keep)):
        if not (kept and moving):
            continue
        yield (
            f"[{name}] keep: goes only with [data] shift = 0 and [threat] targeted = false:"
            " an image has other gradients wherever it is moved and whatever it is led to"
        )
    if recipe.network.output.adds and recipe.hint.mode is HintMode.RECURRENT:
        yield (
            f'[network] output: "{recipe.network.output}" has no second pass: set [hint] mode to'
            ' "one" or "none", or output = "gated"'
        )
    each_once = {
        "[targets] [{}] weights": [item.weights for item in targets],
        "[validation] [{}] weights": [item.weights for item in recipe.validation],
        "[gradients] surrogates [{}]": recipe.gradients.surrogates,
        "[teacher] surrogates [{}]": recipe.teacher.surrogates,
    }
    for name, paths in each_once.items():
        files = [path.resolve() for path in paths]
        yield from (
            f"{name.format(i)}: expected each classifier once; {file} is also [{first}]"
            for i, file in enumerate(files)
            if (first := files.index(file)) < i
        )
    if targets and recipe.parallel.model_ranks > len(targets):
        yield (
            f"[parallel] model_ranks: expected at most as many as [[targets]],"
            f" {len(targets)}; got {recipe.parallel.model_ranks}"
        )
    drawn = recipe.training.targets_per_image
    if targets and drawn is not None and drawn > len(targets):
        yield (
            "[training] targets_per_image: expected at most as many as [[targets]],"
            f" {len(targets)}; got {drawn}"
        )
    if recipe.training.warm_up_steps >= recipe.training.steps:
        yield (
            f"[training] warm_up_steps: expected fewer than steps, {recipe.training.steps};"
            f" got {recipe.training.warm_up_steps}"
        )
    table = recipe.network
    if not table.output.adds and "sharpness" in table.model_fields_set:
        yield (
            '[network] sharpness: goes only with output = "residual" or "sign"; output is'
            f' "{table.output}"'
        )
    if table.filter_size > 1 and not (table.output.adds and recipe.gradients.count):
        yield (
            '[network] filter_size: goes only with output = "residual" or "sign", and with'
            f' [gradients] count above 0; output is "{table.output}", count is'
            f" {recipe.gradients.count}"
        )
    if not table.widths:
        yield from _too_little_for_gradients_alone(recipe)
    told = table.epsilon is not EpsilonInput.HEADS or recipe.threat.targeted
    if not told and "embedding" in table.model_fields_set:
        yield (
            '[network] embedding: goes only with epsilon = "condition" or "both", or with'
            f' [threat] targeted = true; epsilon is "{table.epsilon}"'
        )


def _too_little_for_gradients_alone(recipe: AttackNetworkRecipe) -> Iterator[str]:
    """What asks for layers of a network that has none."""
    table = recipe.network
    if not (table.output.adds and recipe.gradients.count):
        yield (
            '[network] widths: none go only with output = "residual" or "sign", and with'
            f' [gradients] count above 0; output is "{table.output}", count is'
            f" {recipe.gradients.count}"
        )
    if recipe.hint.mode is not HintMode.NONE:
        yield (
            '[network] widths: none go only with [hint] mode = "none": nothing can be told the'
            f' hint; mode is "{recipe.hint.mode}"'
        )
    of_layers = ("blocks", "bottlenecks", "stem_stride", "epsilon", "embedding")
    yield from (
        f"[network] {name}: goes only with widths; they are []"
        for name in of_layers
        if name in table.model_fields_set
    )


def _missing_files(recipe: AttackNetworkRecipe) -> Iterator[str]:
    files = {
        "[hint] surrogate": [recipe.hint.surrogate] if recipe.hint.surrogate else [],
        "[gradients] surrogates": recipe.gradients.surrogates,
        "[teacher] surrogates": recipe.teacher.surrogates,
        "[[targets]] weights": [item.weights for item in recipe.targets],
        "[[validation]] weights": [item.weights for item in recipe.validation],
    }
    for key, wanted in files.items():
        yield from (
            f"{key}: expected the path of a file, seen from the recipe; none at {file}"
            for file in wanted
            if not file.is_file()
        )

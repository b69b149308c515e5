"""What an attack network minimises, which is the same on any grid of ranks.

    own images -> network -> adversarial -> all-gather in the group
        -> own classifiers' losses on the group's images, / B

J = 1/B sum over images i and target classifiers c of w_c l_c(x_i); B is the global batch. Where
each image meets only m of the n classifiers, drawn anew, its sum counts n/m times: J is the same
in the mean, and a step costs m/n of the classifiers' passes. What imitates a teacher is added by
the rank that made the image.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from advcomp.attacknet.assembly import (
    fitting_classifiers,
    fresh_generator,
    names_of,
    one_image,
    refuse_one_class,
    target_classifiers,
    teacher_of,
)
from advcomp.attacknet.data import AttackBatch, batch_of, drawn_targets
from advcomp.attacknet.evaluation import evaluate
from advcomp.attacknet.kept_gradients import KeptGradients
from advcomp.attacknet.network.flops import Costs, costs_of
from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.model import AttackNetwork
from advcomp.attacknet.objective.losses import TargetClassifier, imitation
from advcomp.attacknet.recipe import AttackNetworkRecipe, HintMode
from advcomp.attacknet.rivals import Rivals, rivals_of
from advcomp.attacknet.teacher import Teacher
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier
from advcomp.players.training_images import TrainingImages
from advcomp.training.draws import key_of
from advcomp.training.progress import EvaluationReport
from advcomp.training.ranks import Ranks

PICTURES = "pictures"
TOLD, TAUGHT = "gradients", "teacher"
"""Folders of a run for what is kept."""


@dataclass(kw_only=True)
class AttackNetworkTask:
    """An attack network in training on this rank.

    Args:
        images, held_out: To train on, and to evaluate on.
        generator: Its network is compiled where the recipe says so.
        module: The network as it is saved.
        targets: This rank's target classifiers, by their number in the recipe.
        judges: Classifiers that it is only evaluated on, by name.
        rivals: What it is compared with there; None where there are no judges.
        teacher: What the network is to imitate, if anything.
        kept: Where training images' gradients by the pixel are kept; None to find them anew.
        kept_lessons: The same of the teacher's.
    """

    recipe: AttackNetworkRecipe
    ranks: Ranks
    images: TrainingImages
    held_out: TrainingImages
    generator: AdversarialGenerator
    module: AttackNetwork
    targets: Mapping[int, TargetClassifier]
    judges: Mapping[str, Classifier]
    rivals: Rivals | None
    teacher: Teacher | None = None
    kept: KeptGradients | None = None
    kept_lessons: KeptGradients | None = None

    def keep_in(self, folder: Path) -> list[KeptGradients]:
        """Keep in a folder from now on what the recipe says is kept."""
        file, told = f"rank-{self.ranks.rank}.bin", self.generator.gradients
        if self.recipe.gradients.keep and told is not None:
            self.kept = KeptGradients(
                folder / TOLD / file, lambda batch: told(batch.clean, batch.eps), told.told
            )
        if self.recipe.teacher.keep and self.teacher is not None:
            self.kept_lessons = KeptGradients(folder / TAUGHT / file, self.teacher, Teacher.told)
        return [kept for kept in (self.kept, self.kept_lessons) if kept is not None]

    def batch(self, step: int) -> AttackBatch:
        """The group's images of a step, on the CPU."""
        rows = self.ranks.group_rows(self.recipe.training.batch_size)
        return batch_of(self.recipe, self.images, step, rows, self.recipe.device.precision.kept)

    def loss(self, batch: AttackBatch, step: int) -> Tensor:
        """This rank's share of J."""
        own = self._own_adversarial(batch, step)
        return self._own_share_of_loss(batch, self.ranks.all_gather(own)) + self._imitated(
            self._mine(batch), own
        )

    def evaluate(self, average: Mapping[str, Tensor], step: int, folder: Path) -> EvaluationReport:
        """How often images that train nothing fool the classifiers that train nothing."""
        return evaluate(
            self.recipe,
            self.averaged(average),
            self.judges,
            self.held_out,
            self.ranks,
            step=step,
            picture=folder / PICTURES / f"step-{step:08d}.png",
            rivals=self.rivals,
        )

    def whole_batch(self, step: int) -> dict[str, Tensor]:
        """All images of a step over all ranks, clean and as the network makes them now."""
        recipe, ranks = self.recipe, self.ranks
        size, kept = recipe.training.batch_size, recipe.device.precision.kept
        batch = batch_of(recipe, self.images, step, slice(0, size), kept)
        adversarial = torch.zeros_like(batch.clean, device=ranks.device)
        with torch.no_grad(), recipe.device.precision.autocast(ranks.device):
            on_device = self.batch(step).to(ranks.device, recipe.plan.layout)
            own = self._own_adversarial(on_device, step)
        adversarial[ranks.share(size)] = own.to(adversarial)
        ranks.all_reduce([adversarial])
        tensors = {"clean": batch.clean, "labels": batch.labels, "eps": batch.eps}
        return tensors | {"adversarial": adversarial.cpu()}

    def averaged(self, average: Mapping[str, Tensor]) -> AdversarialGenerator:
        """A generator with these weights, which is not compiled."""
        network = copy.deepcopy(self.module)
        network.load_state_dict(average)
        return self.generator.with_network(network)

    def costs(self) -> Costs:
        """What an image costs; all ranks ask together, each counts the targets that it holds."""
        x, eps, targets = one_image(self.recipe, self.images, self.ranks.device)
        held = {str(number): target.classifier for number, target in self.targets.items()}
        own = costs_of(self.averaged(self.module.state_dict()), held, x, eps, targets)
        names = names_of(item.weights for item in self.recipe.targets)
        counts = self.ranks.total(
            *(own.classifiers.get(str(number), 0) for number in range(len(names)))
        )
        copies = self.ranks.size // self.ranks.model_ranks
        all_of_them = {
            name: round(count / copies) for name, count in zip(names, counts, strict=True)
        }
        return replace(own, classifiers=all_of_them)

    def _own_adversarial(self, batch: AttackBatch, step: int) -> Tensor:
        """This rank's share of the group's images.

        With a recurrent hint by one pass and by two, in turn.
        """
        mine = self._mine(batch)
        gradients = None if self.kept is None else self.kept(mine)
        recurrent = self.recipe.hint.mode is HintMode.RECURRENT
        try:
            adversarial: Tensor = self.generator(
                mine.clean, mine.eps, mine.targets, 1 + step % 2 if recurrent else None, gradients
            )
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error).partition("\n")[0]
            raise InvalidConfig(
                "[device] compile: expected a machine on which torch.compile works; set it to "
                f"false, or see to this: {reason}"
            ) from error
        return adversarial

    def _mine(self, batch: AttackBatch) -> AttackBatch:
        """Of the group's images those that this rank makes."""
        size = self.recipe.training.batch_size
        own, first = self.ranks.share(size), self.ranks.group_rows(size)
        return batch.rows(slice(own.start - first.start, own.stop - first.start))

    def _imitated(self, mine: AttackBatch, own: Tensor) -> Tensor:
        """How far this rank's images are from the teacher's, over the global batch."""
        if self.teacher is None:
            return own[:0].sum()
        taught = (self.kept_lessons or self.teacher)(mine)
        losses = imitation(own, mine.clean, mine.eps, taught)
        return self.recipe.loss.imitation * losses.sum() / self.recipe.training.batch_size

    def _own_share_of_loss(self, batch: AttackBatch, adversarial: Tensor) -> Tensor:
        """The losses of this rank's classifiers on the group's images, over the global batch."""
        recipe, count = self.recipe, len(self.recipe.targets)
        if not recipe.loss.weights:
            return adversarial[:0].sum()
        each = recipe.training.targets_per_image or count
        met = drawn_targets(recipe.seed, batch.positions, count, each)
        total = adversarial[:0].sum()  # of the graph, also where no image meets a target here
        for number, target in self.targets.items():
            rows = met[:, number].nonzero().squeeze(1)
            if not len(rows):
                continue
            own, seen = batch, adversarial
            if each < count:
                own = batch.at(rows)
                seen = adversarial[rows.to(adversarial.device, non_blocking=True)]
            keys = [key_of(recipe.seed, "transform", at, number) for at in own.positions]
            losses = target.losses(
                seen,
                own.clean,
                own.labels if own.targets is None else own.targets,
                table=recipe.loss,
                targeted=recipe.threat.targeted,
                transforms=recipe.transforms,
                keys=keys,
                round_to_levels=recipe.training.round_to_levels,
            )
            total = total + losses.sum()
        return total * (count / each) / recipe.training.batch_size


def attack_network_task(
    recipe: AttackNetworkRecipe,
    ranks: Ranks,
    images: TrainingImages,
    held_out: TrainingImages | None = None,
) -> AttackNetworkTask:
    """A network with its first weights, and all that it is trained against.

    Args:
        held_out: What evaluations are on; where not given, there are none.

    Raises:
        InvalidConfig: A classifier or the precision does not fit.
    """
    recipe.device.precision.refuse_unknown(ranks.device)
    refuse_one_class(recipe, images)
    numbers = ranks.own_classifiers(len(recipe.targets))
    targets = dict(zip(numbers, target_classifiers(recipe, images, numbers), strict=True))
    generator = fresh_generator(recipe, images).to(ranks.device)
    for target in targets.values():
        target.classifier.to(ranks.device, recipe.device.precision.kept)
    teacher = teacher_of(recipe, images)
    if teacher is not None:
        teacher.to(ranks.device, recipe.device.precision.kept)
    modules = [generator, *(target.classifier for target in targets.values())]
    for module in modules if teacher is None else [*modules, teacher]:
        module.to(memory_format=recipe.plan.layout)
    network = generator.network
    assert isinstance(network, AttackNetwork)
    if recipe.device.compile:
        generator.network = torch.compile(network)  # type: ignore[assignment]
    judged = [] if held_out is None else [item.weights for item in recipe.validation]
    return AttackNetworkTask(
        recipe=recipe,
        ranks=ranks,
        images=images,
        held_out=images.part(slice(0)) if held_out is None else held_out,
        generator=generator,
        module=network,
        targets=targets,
        judges=named_classifiers(judged, recipe, ranks, images),
        rivals=rivals_of(recipe, generator, images, ranks.device) if judged else None,
        teacher=teacher,
    )


def named_classifiers(
    paths: Iterable[Path], recipe: AttackNetworkRecipe, ranks: Ranks, images: TrainingImages
) -> dict[str, Classifier]:
    """Those of files of weights, on this rank's device, by the names of `names_of`.

    Raises:
        InvalidConfig: All problems of all files.
    """
    paths = list(paths)
    classifiers = fitting_classifiers(paths, images)
    return {
        name: classifier.to(ranks.device, recipe.device.precision.kept)
        for name, classifier in zip(names_of(paths), classifiers, strict=True)
    }

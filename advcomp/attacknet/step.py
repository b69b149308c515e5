"""One step of training, which is the same on any grid of ranks.

    own images -> network -> adversarial -> all-gather in the group
        -> own classifiers' losses on the group's images, / B -> backward
        -> gradients of the network all-reduced (summed) -> clip -> AdamW -> average

J = 1/B sum over images i and target classifiers c of w_c l_c(x_i); B is the global batch.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from advcomp.attacknet.assembly import (
    dtype_of,
    fitting_classifiers,
    fresh_generator,
    names_of,
    one_image,
    refuse_one_class,
    target_classifiers,
)
from advcomp.attacknet.data import AttackBatch, TrainingImages, batch_of
from advcomp.attacknet.network.flops import Costs, costs_of
from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.model import AttackNetwork
from advcomp.attacknet.objective.losses import TargetClassifier
from advcomp.attacknet.recipe import AttackNetworkRecipe, HintMode, Precision
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier
from advcomp.training.draws import key_of
from advcomp.training.progress import StepReport
from advcomp.training.ranks import Ranks
from advcomp.training.schedule import learning_rate, move_average


@dataclass(kw_only=True)
class TrainingRun:
    """All that takes part in training on this rank.

    Args:
        network: The generator's network as it is saved, where that one is compiled.
        average: Exponential average of the network's weights, by name.
        targets: This rank's target classifiers, by their number in the recipe.
        done: Steps that are done.
        skipped, in_a_row: Steps without a finite loss, in all and since the last finite one.
    """

    recipe: AttackNetworkRecipe
    ranks: Ranks
    training: TrainingImages
    generator: AdversarialGenerator
    network: AttackNetwork
    average: dict[str, Tensor]
    targets: Mapping[int, TargetClassifier]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    done: int = 0
    skipped: int = 0
    in_a_row: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """Of images and weights."""
        return dtype_of(self.recipe.device.precision)

    def averaged(self) -> AdversarialGenerator:
        """A generator with the averaged weights."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.average)
        return AdversarialGenerator(network, self.generator.hint, self.recipe.hint.mode)

    def named_classifiers(self, paths: Iterable[Path]) -> dict[str, Classifier]:
        """Those of files of weights, on this rank's device, by the names of `names_of`.

        Raises:
            InvalidConfig: All problems of all files.
        """
        paths = list(paths)
        classifiers = fitting_classifiers(paths, self.training)
        return {
            name: classifier.to(self.ranks.device, self.dtype)
            for name, classifier in zip(names_of(paths), classifiers, strict=True)
        }

    def costs(self) -> Costs:
        """What an image costs; counted on a copy of the network, which is not compiled.

        All ranks ask together: each counts the target classifiers that it holds.
        """
        x, eps, targets = one_image(self.recipe, self.training, self.ranks.device)
        held = {str(number): target.classifier for number, target in self.targets.items()}
        own = costs_of(self.averaged(), held, x, eps, targets)
        names = names_of(item.weights for item in self.recipe.targets)
        counts = self.ranks.total(
            *(own.classifiers.get(str(number), 0) for number in range(len(names)))
        )
        copies = self.ranks.size // self.ranks.model_ranks
        all_of_them = {
            name: round(count / copies) for name, count in zip(names, counts, strict=True)
        }
        return replace(own, classifiers=all_of_them)


def prepared(recipe: AttackNetworkRecipe, ranks: Ranks, training: TrainingImages) -> TrainingRun:
    """A run before its first step.

    Raises:
        InvalidConfig: A classifier or the precision does not fit.
    """
    _refuse_unknown_precision(recipe, ranks.device)
    refuse_one_class(recipe, training)
    numbers = ranks.own_classifiers(len(recipe.targets))
    targets = dict(zip(numbers, target_classifiers(recipe, training, numbers), strict=True))
    generator = fresh_generator(recipe, training).to(ranks.device)
    dtype = dtype_of(recipe.device.precision)
    for target in targets.values():
        target.classifier.to(ranks.device, dtype)
    if recipe.device.channels_last:
        for module in (generator, *(target.classifier for target in targets.values())):
            module.to(memory_format=torch.channels_last)
    network = generator.network
    assert isinstance(network, AttackNetwork)
    if recipe.device.compile:
        generator.network = torch.compile(network)  # type: ignore[assignment]
    return TrainingRun(
        recipe=recipe,
        ranks=ranks,
        training=training,
        generator=generator,
        network=network,
        average=copy.deepcopy(network.state_dict()),
        targets=targets,
        optimizer=torch.optim.AdamW(
            network.parameters(),
            lr=recipe.training.learning_rate,
            weight_decay=recipe.training.weight_decay,
        ),
        scaler=torch.amp.GradScaler(
            ranks.device.type,
            init_scale=2.0**10,
            enabled=recipe.device.precision is Precision.FP16,
        ),
    )


def train_step(run: TrainingRun) -> StepReport:
    """One step; the report says so where it was skipped for want of a finite loss.

    Raises:
        AdvcompError: Too many were skipped in a row.
    """
    recipe, ranks, step = run.recipe, run.ranks, run.done
    run.optimizer.zero_grad(set_to_none=True)
    batch = _on_device(run, step)
    with _autocast(run):
        own = _own_adversarial(run, batch, step)
        share = _own_share_of_loss(run, batch, ranks.all_gather(own))
    (loss,) = ranks.total(share.item())
    norm = _gradients(run, share) if math.isfinite(loss) else math.nan
    table = recipe.training
    rate = learning_rate(table.learning_rate, step, table.steps, warm_up=table.warm_up_steps)
    if math.isfinite(norm):
        run.in_a_row = 0
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.scaler.step(run.optimizer)
        move_average(run.average, run.network.state_dict(), recipe.training.average, step)
    else:
        run.skipped, run.in_a_row = run.skipped + 1, run.in_a_row + 1
    if math.isfinite(loss):
        run.scaler.update()
    run.done += 1
    return StepReport(
        step=step, loss=loss, gradient_norm=norm, learning_rate=rate, skipped=run.skipped
    )


def whole_batch(run: TrainingRun, step: int) -> dict[str, Tensor]:
    """All images of a step over all ranks, clean and as the network makes them now."""
    size = run.recipe.training.batch_size
    batch = batch_of(run.recipe, run.training, step, slice(0, size), run.dtype)
    adversarial = torch.zeros_like(batch.clean, device=run.ranks.device)
    with torch.no_grad(), _autocast(run):
        own = _own_adversarial(run, _on_device(run, step), step)
    adversarial[run.ranks.share(size)] = own.to(adversarial)
    run.ranks.all_reduce([adversarial])
    tensors = {"clean": batch.clean, "labels": batch.labels, "eps": batch.eps}
    return tensors | {"adversarial": adversarial.cpu()}


def _on_device(run: TrainingRun, step: int) -> AttackBatch:
    """The group's images of a step."""
    rows = run.ranks.group_rows(run.recipe.training.batch_size)
    batch = batch_of(run.recipe, run.training, step, rows, run.dtype)
    layout = torch.channels_last if run.recipe.device.channels_last else torch.contiguous_format
    device = run.ranks.device
    return AttackBatch(
        positions=batch.positions,
        clean=batch.clean.to(device, memory_format=layout),
        labels=batch.labels.to(device),
        eps=batch.eps.to(device),
        targets=None if batch.targets is None else batch.targets.to(device),
    )


def _own_adversarial(run: TrainingRun, batch: AttackBatch, step: int) -> Tensor:
    """This rank's share of the group's images; with a recurrent hint, one pass and two in turn."""
    own, first = (
        run.ranks.share(run.recipe.training.batch_size),
        run.ranks.group_rows(run.recipe.training.batch_size),
    )
    mine = batch.rows(slice(own.start - first.start, own.stop - first.start))
    recurrent = run.recipe.hint.mode is HintMode.RECURRENT
    try:
        adversarial: Tensor = run.generator(
            mine.clean, mine.eps, mine.targets, 1 + step % 2 if recurrent else None
        )
    except torch._dynamo.exc.BackendCompilerFailed as error:
        reason = str(error).partition("\n")[0]
        raise InvalidConfig(
            "[device] compile: expected a machine on which torch.compile works; set it to false, "
            f"or see to this: {reason}"
        ) from error
    return adversarial


def _own_share_of_loss(run: TrainingRun, batch: AttackBatch, adversarial: Tensor) -> Tensor:
    """The losses of this rank's classifiers on the group's images, over the global batch."""
    recipe = run.recipe
    total = adversarial.new_zeros(())
    for number, target in run.targets.items():
        keys = [key_of(recipe.seed, "transform", position, number) for position in batch.positions]
        losses = target.losses(
            adversarial,
            batch.clean,
            batch.labels if batch.targets is None else batch.targets,
            table=recipe.loss,
            targeted=recipe.threat.targeted,
            transforms=recipe.transforms,
            keys=keys,
            round_to_levels=recipe.training.round_to_levels,
        )
        total = total + losses.sum()
    return total / recipe.training.batch_size


def _gradients(run: TrainingRun, share: Tensor) -> float:
    """Backward, all-reduced over the ranks and clipped; the norm before, NaN or infinite if so."""
    run.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
    run.ranks.all_reduce_gradients(run.network)
    run.scaler.unscale_(run.optimizer)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), run.recipe.training.clip_norm)
    return float(norm)


def _autocast(run: TrainingRun) -> torch.autocast:
    kinds = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
    kind = kinds.get(run.recipe.device.precision)
    return torch.autocast(
        run.ranks.device.type, dtype=kind or torch.bfloat16, enabled=kind is not None
    )


def _refuse_unknown_precision(recipe: AttackNetworkRecipe, device: torch.device) -> None:
    precision = recipe.device.precision
    asked = device.type == "cuda" and precision is Precision.BF16
    if asked and not torch.cuda.is_bf16_supported():
        raise InvalidConfig(
            f'[device] precision: expected one that the device "{device}" has; got '
            f'"{precision}"; take "fp16" or "float32"'
        )

"""The loop of every training: a step that is the same on any grid of ranks.

    own images -> the task's loss / B -> backward, gradients summed over the ranks meanwhile
        -> clip -> AdamW -> average

What differs is the task: which module, which batch, which loss. A step without a finite loss or
gradient leaves everything as it was. Whether it had one is decided where the module is, so that
the host never waits for a GPU; it reads what steps gave when they are shown.
"""

import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from advcomp.errors import AdvcompError
from advcomp.rules.durable import write_durably
from advcomp.rules.lock import locked
from advcomp.training.checkpoint import (
    About,
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    path_of_step,
    refuse_other_recipe,
    room_in,
    save_checkpoint,
)
from advcomp.training.gradient_buckets import GradientBuckets
from advcomp.training.loader import batches
from advcomp.training.optimizer import LeanAdamW
from advcomp.training.progress import EvaluationReport, StepReport, TrainingObserver
from advcomp.training.ranks import Ranks
from advcomp.training.recorder import Recorder
from advcomp.training.schedule import learning_rate, move_average
from advcomp.training.settings import Plan
from advcomp.training.stopping import stopping

_READ_EVERY = 20
"""Steps of a GPU between two looks at what they gave."""


class TrainingBatch(Protocol):
    """This rank's images of a step."""

    def to(self, device: torch.device, layout: torch.memory_format) -> Self:
        """The same on a device."""

    def pin_memory(self) -> Self:
        """The same where a GPU can fetch it without waiting."""


Batch = TypeVar("Batch", bound=TrainingBatch)


class TrainingTask(Protocol[Batch]):
    """What is trained, and on what."""

    @property
    def module(self) -> nn.Module:
        """What is trained, on this rank's device."""

    def batch(self, step: int) -> Batch:
        """This rank's images of a step, on the CPU; another process may be asked."""

    def loss(self, batch: Batch, step: int) -> Tensor:
        """This rank's share of J, the sum of its images' losses over the size of the batch."""

    def evaluate(
        self, average: Mapping[str, Tensor], step: int, folder: Path
    ) -> EvaluationReport | None:
        """How well the averaged weights do after so many steps; None where nobody asks."""

    def whole_batch(self, step: int) -> dict[str, Tensor]:
        """All images of a step over all ranks, to look at; all ranks ask together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a training comes from.

    Args:
        name: What observers call it.
        identity, recipe, trained: For its checkpoints, see `About`.
        unsaid: Keys of the identity that older checkpoints may lack.
    """

    name: str
    identity: dict[str, str]
    recipe: str
    trained: dict[str, Any]
    unsaid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a training ended: its last checkpoint, and whether somebody stopped it before."""

    checkpoint: Path
    interrupted: bool


class TrainingRun(Generic[Batch]):
    """All that takes part in training on this rank, and changes with a step.

    Args:
        average: Exponential average of the module's weights, by name.
        done: Steps that are done.
        spent_s: Seconds they took by the first rank's clock, when it was last looked at.
        stop: Set, on any rank, to end after a step that all ranks agree on.
        stopped: Whether they have.
        whole: Held while weights, average and moments go from one step to the next.
    """

    def __init__(self, task: TrainingTask[Batch], plan: Plan, ranks: Ranks) -> None:
        self.task, self.plan, self.ranks = task, plan, ranks
        module = task.module
        module.to(memory_format=plan.layout)
        self._trained = [each for each in module.parameters() if each.requires_grad]
        self._gradients = GradientBuckets(module, ranks)
        self._optimizer = LeanAdamW(
            self._trained, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self._scaler = torch.amp.GradScaler(
            ranks.device.type, init_scale=2.0**10, enabled=plan.precision == "fp16"
        )
        # Views: steps change what they show, and nothing puts another tensor in its place.
        self._weights = module.state_dict()
        self.average = {name: value.clone() for name, value in self._weights.items()}
        self.done = 0
        self.spent_s = 0.0
        self._began_s = time.monotonic()
        self.stop = threading.Event()
        self.stopped = False
        self.whole = threading.Lock()
        self._counts = torch.zeros(2, dtype=torch.float64, device=ranks.device)
        self._pending: list[tuple[int, float, Tensor]] = []

    def step(self, batch: Batch | None = None) -> None:
        """Take one step, on the batch of that step; what it gave is there to `read`."""
        plan, step = self.plan, self.done
        if batch is None:
            batch = self.task.batch(step)
        self._gradients.zero()
        with plan.precision.autocast(self.ranks.device):
            share = self.task.loss(batch.to(self.ranks.device, plan.layout), step)
        self._scaler.scale(share).backward()  # type: ignore[no-untyped-call]
        self._gradients.finish()
        told = self._told_by_all(share)
        self._scaler.unscale_(self._optimizer)
        norm = self._clipped()
        finite = torch.isfinite(told[0]) & torch.isfinite(norm)
        rate = learning_rate(plan.learning_rate, self._at, plan.steps, warm_up=plan.warm_up_steps)
        with self.whole:
            self._take(rate, finite)
            self._note(rate, told, norm, finite)
            self.done += 1

    def _clipped(self) -> Tensor:
        """The gradient's norm; the gradient is clipped, where it may not have that."""
        gradients = [each.grad for each in self._trained if each.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.plan.clip_norm < math.inf:
            nn.utils.clip_grads_with_norm_(self._trained, self.plan.clip_norm, norm)
        return norm

    def _told_by_all(self, share: Tensor) -> Tensor:
        """J, how many ranks want to stop, and the seconds that the first rank has counted."""
        told = torch.zeros(3, dtype=torch.float64)
        told[1] = float(self.stop.is_set())
        told[2] = time.monotonic() - self._began_s if self.ranks.is_first else 0.0
        told = told.to(self.ranks.device, non_blocking=True)
        told[0] = share.detach()
        self.ranks.all_reduce([told])
        return told

    def _take(self, rate: float, finite: Tensor) -> None:
        """Move the weights and their average, where the step was finite."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # What a GradScaler tells a fused optimizer: 1 leaves weights and moments as they are.
        self._optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._scaler.update()
        move_average(self.average, self._weights, self.plan.average, self.done, finite)

    def _note(self, rate: float, told: Tensor, norm: Tensor, finite: Tensor) -> None:
        skipped = (~finite).double()
        self._counts = (self._counts + skipped) * torch.stack([torch.ones_like(skipped), skipped])
        row = torch.cat([told, norm.double().reshape(1), self._counts])
        self._pending.append((self.done, rate, row))

    @property
    def _at(self) -> float:
        """Where the schedule is, in steps: by their number or by time, what is further."""
        if self.plan.minutes is None:
            return self.done
        in_time = self.plan.steps * self.spent_s / (60 * self.plan.minutes)
        return min(max(self.done, in_time), self.plan.steps)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or all time is spent; all ranks agree."""
        return self._at >= self.plan.steps

    @property
    def is_shown(self) -> bool:
        """Whether it is time to look at what steps gave; a CPU makes nobody wait."""
        most = min(_READ_EVERY, self.plan.max_skipped)
        return (
            self.ranks.device.type != "cuda"
            or len(self._pending) >= most
            or self.is_due(self.plan.checkpoint_every)
            or self.is_due(self.plan.evaluate_every)
        )

    def is_due(self, every: int) -> bool:
        """Whether something is, that is done every so many steps and at the end."""
        return self.done % every == 0 or self.is_over

    def read(self) -> list[StepReport]:
        """What the steps gave since the last time."""
        if not self._pending:
            return []
        rows = torch.stack([row for _, _, row in self._pending]).tolist()
        reports = []
        for (step, rate, _), (loss, stop, spent_s, norm, skipped, in_a_row) in zip(
            self._pending, rows, strict=True
        ):
            self.spent_s = spent_s
            self.stopped = self.stopped or stop > 0
            report = StepReport(
                step=step,
                loss=loss,
                gradient_norm=norm,
                learning_rate=rate,
                skipped=int(skipped),
                in_a_row=int(in_a_row),
            )
            reports.append(report)
        self._pending.clear()
        return reports

    def average_over_ranks(self) -> None:
        """Batch norm's running statistics, of which each rank keeps its own between the steps."""
        buffers = dict(self.task.module.named_buffers())
        averaged = [self.average[name] for name in buffers if name in self.average]
        self.ranks.average([*buffers.values(), *averaged])

    def has_finite_weights(self) -> bool:
        """Whether they are worth keeping: with others no run can go on.

        Raises:
            AdvcompError: They are not, and this was the last step.
        """
        if all(bool(value.isfinite().all()) for value in self.task.module.state_dict().values()):
            return True
        if self.is_over:
            raise AdvcompError(
                f"step {self.done - 1}: expected finite weights after the last step; training has "
                "driven some to infinity; try a smaller learning_rate; the last checkpoint is "
                "intact"
            )
        return False

    def kept(self, origin: Origin) -> Checkpoint:
        """All that a run needs to go on."""
        skipped, in_a_row = map(int, self._counts.tolist())
        about = About(
            step=self.done,
            skipped=skipped,
            in_a_row=in_a_row,
            spent_s=self.spent_s,
            identity=origin.identity,
            recipe=origin.recipe,
            trained=origin.trained,
        )
        states: dict[str, Mapping[str, Any]] = {
            "module": self.task.module.state_dict(),
            "average": self.average,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        return Checkpoint(about, states)

    def take_over(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint of this recipe."""
        self.task.module.load_state_dict(checkpoint.states["module"])
        for name, value in self.average.items():
            value.copy_(checkpoint.states["average"][name])
        kept = dict(checkpoint.states["optimizer"])
        # Of the groups a checkpoint has nothing that the recipe does not say.
        kept["param_groups"] = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(kept)
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(checkpoint.states["scaler"]))
        about = checkpoint.about
        self.done, self.spent_s = about.step, about.spent_s
        self._began_s = time.monotonic() - about.spent_s
        self._counts.copy_(torch.tensor([about.skipped, about.in_a_row]))


def train(
    run: TrainingRun[Batch], origin: Origin, folder: Path, observer: TrainingObserver
) -> Trained:
    """Take the steps that steps and time are left for, from the last checkpoint in the folder.

    SIGINT and SIGTERM end it after a step, with a checkpoint, and have the step before kept at
    once, for those who do not wait; a second one ends it at once.

    Args:
        folder: Gets checkpoints, losses, files for TensorBoard and what evaluations draw.
        observer: Is told, on the first rank.

    Raises:
        RunConflict: Another process trains in this folder.
        InvalidConfig: Its checkpoint is unreadable, or of another recipe.
        AdvcompError: The disk is full, ranks see different folders, or no step has a finite loss.
    """
    plan, ranks = run.plan, run.ranks
    with room_in(folder), ExitStack() as stack:
        if ranks.is_first:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        _go_on(run, folder, origin, observer)
        observer.started(origin.name, run.done, plan.steps, plan.batch_size)
        records = ranks.is_first and not run.is_over
        recorder = stack.enter_context(Recorder(folder, run.done)) if records else None
        stack.enter_context(stopping(run.stop, lambda: _keep_at_once(run, origin, folder)))
        run.task.module.train()
        for batch in batches(
            run.task.batch,
            range(run.done, run.done if run.is_over else plan.steps),
            workers=plan.workers,
            pinned=ranks.device.type == "cuda",
        ):
            run.step(batch)
            if run.is_shown:
                _show(run, folder, observer, recorder)
            if run.is_due(plan.evaluate_every):
                _evaluate(run, folder, observer, recorder)
            if run.is_due(plan.checkpoint_every) or run.stopped:
                _keep(run, origin, folder)
            if run.stopped or run.is_over:
                break
    ranks.barrier()
    last = latest_checkpoint(folder) or path_of_step(folder, run.done)
    return Trained(checkpoint=last, interrupted=not run.is_over)


def _show(
    run: TrainingRun[Batch], folder: Path, observer: TrainingObserver, recorder: Recorder | None
) -> None:
    for report in run.read():
        observer.stepped(report)
        if recorder:
            recorder.stepped(report)
        if report.in_a_row >= run.plan.max_skipped:
            _stop_with_the_batch(run, report, folder)


def _evaluate(
    run: TrainingRun[Batch], folder: Path, observer: TrainingObserver, recorder: Recorder | None
) -> None:
    run.average_over_ranks()
    found = run.task.evaluate(run.average, run.done, folder)
    if found is not None:
        observer.evaluated(found)
        if recorder:
            recorder.evaluated(found)


def _keep(run: TrainingRun[Batch], origin: Origin, folder: Path) -> None:
    run.average_over_ranks()
    if run.has_finite_weights() and run.ranks.is_first:
        with run.whole:
            save_checkpoint(folder, run.kept(origin), run.plan.keep)


def _keep_at_once(run: TrainingRun[Batch], origin: Origin, folder: Path) -> None:
    """Save what the last whole step left, while the next one is under way.

    A batch norm's running statistics are this rank's, and may have seen some of the next step.
    """
    if not run.ranks.is_first:
        return
    with run.whole, suppress(AdvcompError, OSError):  # the main thread will come to it as well
        if run.done and not path_of_step(folder, run.done).exists() and run.has_finite_weights():
            save_checkpoint(folder, run.kept(origin), run.plan.keep)
    # Not through sys.stderr, which the main thread may be writing to.
    os.write(2, f"\nadvcomp: stopping: step {run.done} is kept, this one ends\n".encode())


def _stop_with_the_batch(run: TrainingRun[Batch], report: StepReport, folder: Path) -> None:
    """Save the batch of the last skipped step, so that somebody can look at it.

    Raises:
        AdvcompError: Always.
    """
    tensors = run.task.whole_batch(report.step)
    path = folder / f"not-finite-step-{report.step:08d}.safetensors"
    if run.ranks.is_first:
        write_durably(path, save(tensors))
    run.ranks.barrier()
    raise AdvcompError(
        f"step {report.step}: expected a finite loss and gradient; got none in {report.in_a_row} "
        f"steps in a row; the last batch is in {path}; try a smaller learning_rate or clip_norm, "
        "or another precision; the last checkpoint is intact"
    )


def _go_on(
    run: TrainingRun[Batch], folder: Path, origin: Origin, observer: TrainingObserver
) -> None:
    """Take over the newest checkpoint, if there is one, and the same one on all ranks."""
    path = latest_checkpoint(folder)
    if path is not None:
        checkpoint = load_checkpoint(path)
        refuse_other_recipe(path, checkpoint.about.identity, origin.identity, origin.unsaid)
        run.take_over(checkpoint)
        observer.note(f"going on after step {run.done} of {path}")
    found = run.ranks.each(run.done)
    if len(set(found)) > 1:
        raise AdvcompError(
            f"{folder}: expected all ranks to see the same checkpoints; rank 0 goes on after step "
            f"{found[0]:.0f}, this one after step {run.done}; the folder must be one that all "
            "machines share (--out)"
        )

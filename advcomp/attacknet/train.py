"""Train an attack network from a recipe: on one device, or on all ranks that were started."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors.torch import save

from advcomp.attacknet.checkpoint import (
    About,
    Checkpoint,
    identity_of,
    latest_checkpoint,
    load_checkpoint,
    path_of_step,
    refuse_other_recipe,
    room_in,
    save_checkpoint,
)
from advcomp.attacknet.data import load_images
from advcomp.attacknet.evaluation import evaluate
from advcomp.attacknet.network.flops import described
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.step import TrainingRun, prepared, train_step, whole_batch
from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.rules.durable import write_durably
from advcomp.rules.lock import locked
from advcomp.training.launch import Launch, launched
from advcomp.training.progress import SilentObserver, TrainingObserver
from advcomp.training.ranks import Ranks, abort_together, joined_ranks
from advcomp.training.recorder import Recorder

PICTURES = "pictures"


def train_attack_network(
    file: Path,
    observer: TrainingObserver,
    *,
    out: Path | None = None,
    model_ranks: int | None = None,
    launch: Launch | None = None,
) -> Path:
    """Train what a recipe says, or go on where a run stopped; returns the last checkpoint.

    Args:
        file: The recipe.
        out: The run's folder; `runs/NAME` where not given.
        model_ranks: Instead of the recipe's.
        launch: What the launcher says that started this process; asked where not given.

    Raises:
        AdvcompError: With several ranks none is raised: the job ends on all of them.
    """
    launch = launched() if launch is None else launch
    with abort_together(launch):
        recipe = load_network_recipe(file)
        wanted = recipe.parallel.model_ranks if model_ranks is None else model_ranks
        _refuse_what_no_grid_can_split(recipe, launch.size, wanted)
        with joined_ranks(
            launch,
            model_ranks=wanted,
            device=recipe.device.name,
            timeout_s=recipe.parallel.timeout_s,
        ) as ranks:
            shown = observer if ranks.is_first else SilentObserver()
            folder = Path("runs", recipe.name) if out is None else out
            return _train(recipe, file.read_text(encoding="utf-8-sig"), ranks, folder, shown)


def _train(
    recipe: AttackNetworkRecipe, text: str, ranks: Ranks, folder: Path, observer: TrainingObserver
) -> Path:
    training, held_out = load_images(recipe.data)
    run = prepared(recipe, ranks, training)
    judges = run.named_classifiers(item.weights for item in recipe.validation)
    for line in described(run.costs()):
        observer.note(line)
    if not judges:
        observer.note("no [[validation]] classifiers: only pictures are made")
    identity = identity_of(recipe)
    with room_in(folder), ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(locked(folder))
        _go_on(run, folder, identity, observer)
        observer.started(run.done, recipe.training.steps, recipe.training.batch_size)
        records = ranks.is_first and run.done < recipe.training.steps
        recorder = stack.enter_context(Recorder(folder, run.done)) if records else None
        while run.done < recipe.training.steps:
            report = train_step(run)
            observer.stepped(report)
            if recorder:
                recorder.stepped(report)
            _stop_after_too_many(run, folder)
            if _is_due(run, recipe.output.evaluate_every):
                found = evaluate(
                    recipe,
                    run.averaged(),
                    judges,
                    held_out,
                    ranks,
                    step=run.done,
                    picture=folder / PICTURES / f"step-{run.done:08d}.png",
                )
                observer.evaluated(found)
                if recorder:
                    recorder.evaluated(found)
            due = _is_due(run, recipe.output.checkpoint_every) and _has_finite_weights(run)
            if due and ranks.is_first:
                save_checkpoint(folder, _kept(run, text, identity), recipe.output.keep)
    ranks.barrier()
    return path_of_step(folder, run.done)


def _is_due(run: TrainingRun, every: int) -> bool:
    return run.done % every == 0 or run.done == run.recipe.training.steps


def _has_finite_weights(run: TrainingRun) -> bool:
    """Whether they are worth keeping: with others no run can go on.

    Raises:
        AdvcompError: They are not, and this was the last step.
    """
    if all(value.isfinite().all() for value in run.network.state_dict().values()):
        return True
    if run.done == run.recipe.training.steps:
        raise AdvcompError(
            f"step {run.done - 1}: expected finite weights after the last step; training has "
            "driven some to infinity; try a smaller learning_rate; the last checkpoint is intact"
        )
    return False


def _stop_after_too_many(run: TrainingRun, folder: Path) -> None:
    """Saves the batch of the last skipped step, so that somebody can look at it."""
    if run.in_a_row < run.recipe.training.max_skipped:
        return
    step = run.done - 1
    tensors = whole_batch(run, step)
    path = folder / f"not-finite-step-{step:08d}.safetensors"
    if run.ranks.is_first:
        write_durably(path, save(tensors))
    run.ranks.barrier()
    raise AdvcompError(
        f"step {step}: expected a finite loss and gradient; got none in {run.in_a_row} steps in a "
        f"row; the last batch is in {path}; try a smaller learning_rate or clip_norm, or another "
        "precision; the last checkpoint is intact"
    )


def _go_on(
    run: TrainingRun, folder: Path, identity: Mapping[str, str], observer: TrainingObserver
) -> None:
    """Take over the newest checkpoint, if there is one, and the same one on all ranks."""
    path = latest_checkpoint(folder)
    if path is not None:
        _take_over(run, path, identity)
        observer.note(f"going on after step {run.done} of {path}")
    found = run.ranks.each(run.done)
    if len(set(found)) > 1:
        raise AdvcompError(
            f"{folder}: expected all ranks to see the same checkpoints; rank 0 goes on after step "
            f"{found[0]:.0f}, this one after step {run.done}; the folder must be one that all "
            "machines share (--out)"
        )


def _take_over(run: TrainingRun, path: Path, identity: Mapping[str, str]) -> None:
    checkpoint = load_checkpoint(path)
    refuse_other_recipe(path, checkpoint.about.identity, identity)
    run.network.load_state_dict(checkpoint.states["network"])
    for name, value in run.average.items():
        value.copy_(checkpoint.states["average"][name])
    run.optimizer.load_state_dict(dict(checkpoint.states["optimizer"]))
    if run.scaler.is_enabled():
        run.scaler.load_state_dict(dict(checkpoint.states["scaler"]))
    run.done = checkpoint.about.step
    run.skipped, run.in_a_row = checkpoint.about.skipped, checkpoint.about.in_a_row


def _kept(run: TrainingRun, text: str, identity: dict[str, str]) -> Checkpoint:
    hint = run.recipe.hint
    about = About(
        step=run.done,
        skipped=run.skipped,
        in_a_row=run.in_a_row,
        identity=identity,
        recipe=text,
        spec=run.network.spec,
        hint_mode=hint.mode,
        hint_layers=hint.layers,
        surrogate=None if hint.surrogate is None else str(hint.surrogate.resolve()),
        image_size=run.training.levels.shape[1:3],
    )
    states: dict[str, Mapping[str, Any]] = {
        "network": run.network.state_dict(),
        "average": run.average,
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
    }
    return Checkpoint(about, states)


def _refuse_what_no_grid_can_split(
    recipe: AttackNetworkRecipe, size: int, model_ranks: int
) -> None:
    problems = []
    if size % model_ranks:
        problems.append(
            f"[parallel] model_ranks: expected a divisor of the number of ranks, {size}; got "
            f"{model_ranks}"
        )
    if model_ranks > len(recipe.targets):
        problems.append(
            f"[parallel] model_ranks: expected at most as many as [[targets]], "
            f"{len(recipe.targets)}; got {model_ranks}"
        )
    if recipe.training.batch_size % size:
        problems.append(
            f"[training] batch_size: expected a multiple of the number of ranks, {size}; got "
            f"{recipe.training.batch_size}"
        )
    if problems:
        raise InvalidConfig(*problems)

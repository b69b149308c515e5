"""Train an attack network from a recipe: on one device, or on all ranks that were started."""

from pathlib import Path

from advcomp.attacknet.data import load_images, places_of
from advcomp.attacknet.first_weights import first_weights
from advcomp.attacknet.network.flops import described
from advcomp.attacknet.recipe import FREE, AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import AttackNetworkTask, attack_network_task
from advcomp.attacknet.trained import TrainedNetwork
from advcomp.errors import InvalidConfig
from advcomp.training.checkpoint import content_of, identity_of, unsaid_in
from advcomp.training.launch import Launch, launched
from advcomp.training.loop import Origin, Trained, TrainingRun, train
from advcomp.training.progress import SilentObserver, TrainingObserver
from advcomp.training.ranks import Ranks, abort_together, joined_ranks


def train_attack_network(
    file: Path,
    observer: TrainingObserver,
    *,
    out: Path | None = None,
    model_ranks: int | None = None,
    init: Path | None = None,
    launch: Launch | None = None,
) -> Trained:
    """Train what a recipe says, or go on where a run stopped.

    Args:
        file: The recipe.
        out: The run's folder; `runs/NAME` where not given.
        model_ranks: Instead of the recipe's.
        init: Whose weights are the first ones: a checkpoint, of any recipe with such a network, or
            an export's network.safetensors.
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
            text = file.read_text(encoding="utf-8-sig")
            return _train(recipe, text, ranks, folder, shown, init)


def _train(
    recipe: AttackNetworkRecipe,
    text: str,
    ranks: Ranks,
    folder: Path,
    observer: TrainingObserver,
    init: Path | None,
) -> Trained:
    images, held_out = load_images(recipe.data)
    task = attack_network_task(recipe, ranks, images, held_out)
    identity = identity_of(recipe, FREE)
    if init is not None:
        task.module.load_state_dict(first_weights(init, task.module))
        identity["--init"] = content_of(str(init.resolve()))
    for kept in task.keep_in(folder):
        size = kept.size_of(task.images.size, places_of(recipe, images))
        observer.note(
            f"gradients are kept in {kept.path}, of {size / 2**30:.2f} GiB when it is full"
        )
    for line in described(task.costs()):
        observer.note(line)
    if not task.judges:
        observer.note("no [[validation]] classifiers: only pictures are made")
    origin = Origin(
        name=recipe.name,
        identity=identity,
        unsaid=unsaid_in(recipe, FREE),
        recipe=text,
        trained=_trained(task).model_dump(mode="json"),
    )
    return train(TrainingRun(task, recipe.plan, ranks), origin, folder, observer)


def _trained(task: AttackNetworkTask) -> TrainedNetwork:
    hint, gradients = task.recipe.hint, task.recipe.gradients
    return TrainedNetwork(
        spec=task.module.spec,
        hint_mode=hint.mode,
        hint_layers=hint.layers,
        surrogate=None if hint.surrogate is None else str(hint.surrogate.resolve()),
        gradient_surrogates=tuple(str(path.resolve()) for path in gradients.surrogates),
        gradient_labels=gradients.labels,
        gradients_apart=gradients.apart,
        image_size=task.images.size,
    )


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

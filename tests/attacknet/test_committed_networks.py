"""The trained networks that come with advcomp, and the recipes that say how they came to be."""

import hashlib
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from advcomp.attacknet.data import load_images
from advcomp.attacknet.network.flops import costs_of
from advcomp.attacknet.network.generator import AdversarialGenerator, levels_moved
from advcomp.attacknet.network.model import AttackNetwork
from advcomp.attacknet.player import load_generator
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import attack_network_task
from advcomp.players.classifier.classifier_recipe import read_classifier_recipes
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.training.launch import launched
from advcomp.training.loop import TrainingRun
from advcomp.training.ranks import joined_ranks

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "attacks" / "attack_network"
DIGITS = ROOT / "tournament" / "digits"
CLASSES = ROOT / "tournament" / "cifar10" / "attack_network"
COMMITTED = ("no_gradient", "one_gradient", "two_gradients")


@pytest.fixture
def recipe() -> AttackNetworkRecipe:
    """That of the digits' demo."""
    return load_network_recipe(DIGITS / "attack_network.toml")


@pytest.fixture
def generator(recipe: AttackNetworkRecipe, tmp_path: Path) -> AdversarialGenerator:
    """The demo's network, with its hint's surrogate beside it as in a submission."""
    folder = tmp_path / "submission"
    shutil.copytree(DIGITS / "weights" / "attack_network", folder)
    assert recipe.hint.surrogate is not None
    shutil.copy(recipe.hint.surrogate, folder / "surrogate.safetensors")
    return load_generator(folder)


def test_the_sample_is_what_an_export_writes() -> None:
    templates = resources.files("advcomp.attacknet") / "entries"
    for name, template in (("run_attack.sh", "run_attack.sh"), ("run_attack.py", "pytorch.py")):
        assert (SAMPLE / name).read_text() == (templates / template).read_text()


def test_the_recipe_in_the_docs_is_that_of_the_demo() -> None:
    recipe = (DIGITS / "attack_network.toml").read_text()
    settings = recipe[recipe.index("name = ") :]
    assert f"```toml\n{settings}```" in (ROOT / "docs" / "attack-network.md").read_text()


def test_the_demo_s_network_is_that_of_its_recipe(
    generator: AdversarialGenerator, recipe: AttackNetworkRecipe
) -> None:
    assert isinstance(generator.network, AttackNetwork)
    spec = generator.network.spec
    assert spec.table == recipe.network
    assert spec.max_epsilons == recipe.threat.max_epsilons
    assert generator.hint is not None
    assert generator.hint.layers == recipe.hint.layers


def test_the_demo_s_network_costs_no_more_than_the_largest_classifier_it_met(
    generator: AdversarialGenerator, recipe: AttackNetworkRecipe
) -> None:
    x, eps = torch.rand(1, 3, 32, 32), torch.tensor([8 / 255])
    targets = {target.weights.stem: load_classifier(target.weights) for target in recipe.targets}
    alone, told = costs_of(generator, targets, x, eps).in_passes
    assert alone <= 1 < told


def test_the_demo_s_network_keeps_and_uses_every_budget(generator: AdversarialGenerator) -> None:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    x = (255 * x).round() / 255
    for levels in (1, 8, 48):
        largest = levels_moved(x, generator(x, torch.full((4,), levels / 255)))
        assert (largest <= levels + 1e-3).all()
        assert (largest >= 0.9 * levels).all()


@pytest.mark.parametrize(
    ("name", "gradients"),
    [
        ("no_gradient_imitation", 0),
        ("no_gradient", 0),
        ("one_gradient", 1),
        ("two_gradients", 2),
    ],
)
def test_a_recipe_of_three_classes_learns_from_targets_and_is_chosen_by_others(
    name: str, gradients: int, tmp_path: Path
) -> None:
    """Of what classifiers.toml trains, and cifar10.toml's surrogates; of nothing held out."""
    trained = read_classifier_recipes(CLASSES / "classifiers.toml")
    recipe = recipe_of_a_class(name, tmp_path)
    assert recipe.name == f"attack_network_{name}"
    assert recipe.gradients.count == gradients
    met = {item.weights.stem for item in recipe.targets}
    targets = {one for one in trained.classifier if one.startswith("target_")}
    assert met <= targets | {"vgg_net_a", "res_net_a", "conv_mixer_a"}
    assert {path.stem for path in recipe.gradients.surrogates} <= met
    assert {path.stem for path in recipe.teacher.surrogates} == met
    judges = {item.weights.stem for item in recipe.validation}
    assert judges == {one for one in trained.classifier if one.startswith("validation_")}
    assert recipe.data.validation_images <= trained.held_back


def recipe_of_a_class(name: str, folder: Path) -> AttackNetworkRecipe:
    """As committed, among empty files in place of images and classifiers."""
    trained = read_classifier_recipes(CLASSES / "classifiers.toml").classifier
    own = folder / "own"
    (own / "weights").mkdir(parents=True)
    (folder / "cifar10_jpeg.npz").touch()
    for classifier in trained:
        (own / "weights" / f"{classifier}.safetensors").touch()
    shutil.copytree(CLASSES.parent / "weights", folder / "weights")
    return load_network_recipe(Path(shutil.copy(CLASSES / f"{name}.toml", own)))


@pytest.mark.parametrize("name", COMMITTED)
def test_a_network_of_three_classes_is_that_of_its_recipe(name: str, tmp_path: Path) -> None:
    recipe = recipe_of_a_class(name, tmp_path)
    generator = network_of_a_class(name, tmp_path)
    network, gradients = generator.network, generator.gradients
    assert isinstance(network, AttackNetwork)
    assert network.spec.table == recipe.network
    assert network.spec.max_epsilons == recipe.threat.max_epsilons
    table = recipe.gradients
    assert network.spec.gradients == 3 * table.count
    assert (gradients is None) == (not table.count)
    if gradients is not None:
        assert (gradients.count, gradients.labels) == (table.count, table.labels)
        assert gradients.apart == table.apart
        assert gradients.told == network.spec.gradients


@pytest.mark.parametrize("name", COMMITTED)
def test_files_of_three_classes_are_small_and_those_of_their_digests(name: str) -> None:
    place = CLASSES / name
    assert (place / "network.safetensors").stat().st_size <= 0.5e6
    lines = [line.split() for line in (place / "SHA256SUMS").read_text().splitlines()]
    assert {file for _, file in lines} == {path.name for path in place.glob("*.safetensors")}
    for digest, file in lines:
        assert hashlib.sha256((place / file).read_bytes()).hexdigest() == digest
    log = (place / "train.log").read_text()
    assert f"attack_network_{name}: [" in log
    assert "all together: fgsm, and the network ahead" in log


def network_of_a_class(name: str, folder: Path) -> AdversarialGenerator:
    """As committed, with the surrogates that all share."""
    played = folder / "played"
    shutil.copytree(CLASSES / "two_gradients", played)
    shutil.copy(CLASSES / name / "network.safetensors", played)
    return load_generator(played)


@pytest.mark.parametrize("name", [name for name in COMMITTED if name != "no_gradient"])
def test_a_network_is_more_than_the_sum_of_its_gradients_and_uses_every_budget(
    name: str, tmp_path: Path
) -> None:
    generator = network_of_a_class(name, tmp_path)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    x = (255 * x).round() / 255
    for levels in (1, 8, 48):
        eps = torch.full((4,), levels / 255)
        made = generator(x, eps)
        assert (levels_moved(x, made) - levels).abs().max() <= 1e-3
        assert generator.gradients is not None
        alone = generator.gradients(x, eps).sum(1).sign()
        assert 0.02 < ((made - x).sign() != alone).float().mean() < 0.5


@pytest.mark.slow
@pytest.mark.long
def test_the_recipe_for_large_images_takes_a_step(tmp_path: Path) -> None:
    """With its classifiers' weights at random, on a CPU: the only changes."""
    file = ROOT / "tournament" / "imagenet" / "attack_network.toml"
    text = file.read_text()
    for old, new in (
        ("validation_images = 1000", "validation_images = 1"),
        ("batch_size = 128 ", "batch_size = 1 "),
        ('name = "cuda"', 'name = "cpu"'),
        ("compile = true", "compile = false"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / file.name).write_text(text)
    (tmp_path / "weights").mkdir()
    for name in ("resnet50", "resnet50_robust", "vgg16_bn", "densenet121", "convnext_tiny"):
        classifier = Classifier(f"torchvision/{name.removesuffix('_robust')}", 1000)
        classifier.save(tmp_path / "weights" / f"{name}.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    write_dataset(
        tmp_path / "data",
        (
            LabelledImage(image_id=f"noise-{i}", image=image, label=0, target_class=1)
            for i, image in enumerate(noise)
        ),
    )
    recipe = load_network_recipe(tmp_path / file.name)
    with joined_ranks(launched(), model_ranks=1, device="cpu", timeout_s=60) as ranks:
        training, _ = load_images(recipe.data)
        task = attack_network_task(recipe, ranks, training)
        run = TrainingRun(task, recipe.plan, ranks)
        run.step()
        (report,) = run.read()
    assert report.skipped == 0
    assert report.gradient_norm > 0
    costs = task.costs()
    assert costs.network <= costs.classifiers["resnet50"]

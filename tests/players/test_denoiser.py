"""The guided denoiser: a network that adds negative noise, and what it is trained to do."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

from advcomp.cli import main
from advcomp.errors import InvalidConfig
from advcomp.players.attacks import momentum_iterative_fgsm
from advcomp.players.classifier.train_classifier import accuracy, as_tensors
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.defense.train_denoiser import (
    DenoiserRecipe,
    DenoiserRecipes,
    attacked,
    train_denoiser,
)
from advcomp.players.denoiser import (
    Denoiser,
    Guide,
    guided_loss,
    load_denoiser,
    representation,
)
from advcomp.players.ensemble import Ensemble
from advcomp.players.fitting.fit import LabelledBatch
from advcomp.players.training_images import ImageSource, TrainingImages, training_images
from advcomp.rules.threat import eps_of
from advcomp.rules.toml_file import read_toml
from advcomp.training.draws import ImageDraws

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def denoiser() -> Denoiser:
    """One that does something: its last layer is drawn, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        drawn = Denoiser((8, 12))
        nn.init.normal_(drawn.negative_noise.weight, std=0.1)
    return drawn


@pytest.fixture
def classifier() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Classifier("conv_net", 10).freeze()


@pytest.fixture(scope="module")
def few() -> TrainingImages:
    return training_images(ImageSource.DIGITS).part(slice(48))


def recipe(**changes: object) -> DenoiserRecipe:
    chosen = {"classifier": "c", "networks": ["c"], "max_epsilon": 40, "epochs": 2, "steps": 2}
    return DenoiserRecipe.model_validate({**chosen, "widths": [8, 12], **changes})


def test_an_untrained_denoiser_changes_nothing(images: Tensor) -> None:
    assert torch.equal(Denoiser()(images), images)


def test_noise_is_added_and_clipped(images: Tensor) -> None:
    denoiser = Denoiser().freeze()
    denoiser.negative_noise.bias = nn.Parameter(torch.full((3,), -0.3))
    torch.testing.assert_close(denoiser(images), (images - 0.3).clamp(0, 1))


@pytest.mark.parametrize("size", [(32, 32), (7, 10), (33, 1)])
def test_images_of_any_size_keep_it(size: tuple[int, int], denoiser: Denoiser) -> None:
    x = torch.rand(2, 3, *size)
    denoised = denoiser(x).detach()
    assert denoised.shape == x.shape
    assert not torch.equal(denoised, x)
    assert 0 <= float(denoised.min()) <= float(denoised.max()) <= 1


def test_an_image_is_denoised_alone_also_in_training_mode(
    images: Tensor, denoiser: Denoiser
) -> None:
    torch.testing.assert_close(denoiser.train()(images)[2:3], denoiser(images[2:3]))


def test_every_resolution_has_its_say(images: Tensor, denoiser: Denoiser) -> None:
    denoiser(images).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in denoiser.parameters())


def test_a_saved_denoiser_comes_back(images: Tensor, denoiser: Denoiser, tmp_path: Path) -> None:
    denoiser.save(tmp_path / "d.safetensors")
    loaded = load_denoiser(tmp_path / "d.safetensors")
    assert torch.equal(loaded(images), denoiser(images))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_that_is_no_denoiser_is_refused(tmp_path: Path, classifier: Classifier) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(InvalidConfig, match="expected a file of weights: No such file"):
        load_denoiser(path)
    classifier.save(path)
    with pytest.raises(InvalidConfig, match="expected denoiser_widths in the file's metadata"):
        load_denoiser(path)
    save_file({"noise": torch.zeros(1)}, path, {"denoiser_widths": "[8, 12]"})
    with pytest.raises(InvalidConfig, match="is missing down"):
        load_denoiser(path)


def test_features_are_what_the_last_linear_layer_takes(images: Tensor) -> None:
    classifier = Classifier("mlp_mixer", 10).freeze()
    features = representation(classifier, images, Guide.FEATURES)
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(last(features), classifier(images))
    assert torch.equal(representation(classifier, images, Guide.LOGITS), classifier(images))
    assert not last._forward_pre_hooks, "nothing is left on the classifier"


@pytest.mark.parametrize("guide", list(Guide))
def test_the_loss_is_the_mean_distance_of_the_representations(
    guide: Guide, images: Tensor, denoiser: Denoiser, classifier: Classifier
) -> None:
    seen = (images + 0.1).clamp(0, 1)
    losses = guided_loss(denoiser, classifier, images, seen, guide)
    for i, loss in enumerate(losses):
        clean, denoised = (
            representation(classifier, x, guide)[0]
            for x in (images[i : i + 1], denoiser(seen[i : i + 1]))
        )
        torch.testing.assert_close(loss, sum(abs(clean - denoised)) / len(clean))
    assert guided_loss(Denoiser(), classifier, images, images, guide).tolist() == [0] * 4


def test_the_loss_trains_the_denoiser_and_nothing_else(
    images: Tensor, denoiser: Denoiser, classifier: Classifier
) -> None:
    clean = images.clone().requires_grad_()
    seen = (images + 0.1).clamp(0, 1)
    guided_loss(denoiser, classifier, clean, seen, Guide.LOGITS).sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in denoiser.parameters())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert clean.grad is None, "the clean image is the goal"


def test_batches_are_clean_or_attacked_within_the_budget(
    images: Tensor, classifier: Classifier
) -> None:
    torch.manual_seed(5)
    networks = [classifier, Classifier("separable_net", 10).freeze()]
    labels = torch.arange(4)
    moved = []
    for step in range(60):
        draws = ImageDraws(0, tuple(range(4)), step)
        batch = LabelledBatch(clean=images, labels=labels, epoch=0, draws=draws)
        seen = attacked(batch, recipe(max_epsilon=3), networks)
        moved.append(round(float((seen - images).abs().max()) * 255, 3))
    assert set(moved) == {0, 1, 2, 3}
    assert 10 <= moved.count(0) <= 30


@pytest.mark.slow
@pytest.mark.parametrize("guide", list(Guide))
def test_training_is_a_function_of_the_recipe(
    guide: Guide, few: TrainingImages, classifier: Classifier, tmp_path: Path
) -> None:
    def trained(seed: int, folder: str) -> Tensor:
        found = train_denoiser(
            recipe(guide=guide, seed=seed),
            few,
            classifier=classifier,
            networks=[classifier],
            folder=tmp_path / folder,
        )
        assert found is not None
        return found.negative_noise.weight

    first = trained(1, "first")
    torch.rand(1)
    assert torch.equal(first, trained(1, "same"))
    assert not torch.equal(first, trained(2, "other"))
    assert first.any()


def test_everything_wrong_with_a_recipe_is_told(tmp_path: Path) -> None:
    path = tmp_path / "denoiser.toml"
    path.write_text(
        'dataset = "digits"\nevaluation = { networks = ["a"], max_epsilons = [256] }\n'
        '[denoiser.b]\nclassifier = "a"\nguide = "logit"\nnetworks = []\nepoch = 3\n'
        "widths = [8, 10]\n"
    )
    done = CliRunner().invoke(main, ["train", str(path)])
    assert done.exit_code == 1
    told = done.stderr
    for expected in (
        f'{path}:5: [denoiser] b guide: expected "logits" or "features"; got "logit"',
        f"{path}:6: [denoiser] b networks: expected names of classifiers in weights/; got []",
        f'{path}:7: [denoiser] b epoch: unknown key; the nearest known one is "epochs"',
        f"{path}:8: [denoiser] b widths[1]: expected two or more multiples of 4; got 10",
        f"{path}:2: [evaluation] max_epsilons[0]: expected a list of pixel levels, 0..255; got",
        "max_epsilon: missing; expected pixel levels, 1..255",
    ):
        assert expected in told
    assert len(told.splitlines()) == 6


def test_an_unknown_denoiser_is_told_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["train", str(DIGITS / "denoiser.toml"), "nobody"])
    assert "expected names among residual_net_b; got nobody" in done.stderr


def test_the_committed_denoisers_are_small_and_those_of_the_recipe() -> None:
    recipes = read_toml(DIGITS / "denoiser.toml", DenoiserRecipes)
    files = {path.stem: path for path in (DIGITS / "weights/denoisers").glob("*.safetensors")}
    assert files.keys() == recipes.denoiser.keys()
    for name, one in recipes.denoiser.items():
        assert load_denoiser(files[name]).widths == one.widths
        assert files[name].stat().st_size < 150e3
        trained_on = {one.classifier, *one.networks}
        assert not trained_on & set(recipes.evaluation.networks)


@pytest.mark.slow
def test_the_committed_denoiser_protects_against_what_it_never_saw() -> None:
    """MI-FGSM on three networks that trained nothing, one of them of a family of its own."""
    x, labels = (tensor[:100] for tensor in as_tensors(digits(Part.TOURNAMENT)))
    names = ("conv_net_a", "residual_net_a", "mlp_mixer_a", "residual_net_b")
    *others, classifier = (load_classifier(DIGITS / f"weights/{n}.safetensors") for n in names)
    denoiser = load_denoiser(DIGITS / "weights/denoisers/residual_net_b.safetensors")
    adversarial = momentum_iterative_fgsm(
        Ensemble(others), x, labels, eps=eps_of(32), steps=5, step_size=eps_of(8)
    )
    protected = nn.Sequential(denoiser, classifier)
    assert accuracy(protected, x, labels) >= 0.95
    assert accuracy(protected, adversarial, labels) > accuracy(classifier, adversarial, labels)

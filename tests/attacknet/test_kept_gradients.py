"""Gradients that are kept on the disk: the same as found anew, found once, whatever is torn."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from advcomp.attacknet.data import AttackBatch, load_images, place_of, places_of
from advcomp.attacknet.kept_gradients import KeptGradients
from advcomp.attacknet.network.pixel_gradients import PixelGradients
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import attack_network_task
from advcomp.attacknet.train import train_attack_network
from advcomp.errors import InvalidConfig
from advcomp.training.progress import SilentObserver
from advcomp.training.ranks import Ranks
from advcomp.training.recorder import read_losses

Toy = Callable[..., Path]

HINT = 'mode = "recurrent"\nsurrogate = "c0.safetensors"\nlayers = ["network.0", "network.1"]\n'
TOLD = '[gradients]\ncount = 2\nsurrogates = ["c0.safetensors", "c1.safetensors"]\n'
CHANGES = ((HINT, f"{TOLD}keep = true\n"), ("shift = 1", "shift = 0\nflip = true"))


@pytest.fixture
def recipe(toy: Toy) -> AttackNetworkRecipe:
    return load_network_recipe(toy(*CHANGES))


class Counted(PixelGradients):
    """Counts the images that it was asked for."""

    asked = 0

    def of(self, batch: AttackBatch) -> torch.Tensor:
        self.asked += len(batch)
        found: torch.Tensor = self(batch.clean, batch.eps)
        return found

    def kept(self, path: Path) -> KeptGradients:
        return KeptGradients(path, self.of, self.told)


def counted(recipe: AttackNetworkRecipe) -> tuple[Counted, AttackBatch]:
    task = attack_network_task(recipe, Ranks(), load_images(recipe.data)[0])
    own = task.generator.gradients
    assert own is not None
    return Counted(own.surrogates, count=own.count, labels=own.labels), task.batch(0)


def test_kept_gradients_are_those_of_the_surrogates_and_found_once(
    recipe: AttackNetworkRecipe, tmp_path: Path
) -> None:
    gradients, batch = counted(recipe)
    path = tmp_path / "new" / "rank-0.bin"
    first = gradients.kept(path)(batch)
    assert gradients.asked == 8
    expected = gradients(batch.clean, batch.eps)
    torch.testing.assert_close(first, expected, rtol=1e-3, atol=1e-6)
    gradients.asked = 0
    assert torch.equal(gradients.kept(path)(batch), first)
    assert gradients.asked == 0


def test_what_was_torn_is_found_again(recipe: AttackNetworkRecipe, tmp_path: Path) -> None:
    """Half of one image's second gradient reads as zeros, as after a loss of power."""
    gradients, batch = counted(recipe)
    path = tmp_path / "rank-0.bin"
    first = gradients.kept(path)(batch)
    gradients.asked = 0
    size = first[0].numel() * 2
    with path.open("r+b") as file:
        file.seek(batch.places[3] * size + size // 2)
        file.write(bytes(size // 4))
    assert torch.equal(gradients.kept(path)(batch), first)
    assert gradients.asked == 1


def test_every_view_of_an_image_has_a_place_of_its_own(recipe: AttackNetworkRecipe) -> None:
    images, _ = load_images(recipe.data)
    views = [
        place_of(recipe, index, mirrored, level)
        for index in range(len(images))
        for mirrored in (False, True)
        for level in (16, 48)
    ]
    assert sorted(views) == list(range(places_of(recipe, images)))


@pytest.mark.slow
def test_training_on_kept_gradients_goes_as_on_fresh_ones(toy: Toy, tmp_path: Path) -> None:
    fresh = ((HINT, TOLD), CHANGES[1])
    found = []
    for name, changes in (("kept", CHANGES), ("fresh", fresh)):
        train_attack_network(toy(*changes), SilentObserver(), out=tmp_path / name)
        found.append([float(row[1]) for row in read_losses(tmp_path / name / "losses.csv")])
    assert (tmp_path / "kept" / "gradients" / "rank-0.bin").is_file()
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    assert found[0] != found[1]


def test_fewer_images_can_be_trained_on(toy: Toy) -> None:
    """The first ones; what is evaluated on stays."""
    whole, held_out = load_images(load_network_recipe(toy()).data)
    few = ("shift = 1", "shift = 1\nimages = 20")
    some, evaluated = load_images(load_network_recipe(toy(few)).data)
    assert (some.levels[:] == whole.levels[:20]).all()
    assert (evaluated.levels[:] == held_out.levels[:]).all()
    all_of_them = ("shift = 1", f"shift = 1\nimages = {len(whole)}")
    assert len(load_images(load_network_recipe(toy(all_of_them)).data)[0]) == len(whole)
    too_many = ("shift = 1", f"shift = 1\nimages = {len(whole) + 1}")
    with pytest.raises(InvalidConfig, match=rf"evaluated on, {len(whole)}; got {len(whole) + 1}"):
        load_images(load_network_recipe(toy(too_many)).data)

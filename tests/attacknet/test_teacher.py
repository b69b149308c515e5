"""What a network imitates: gradients at true labels, and how far it is from their signs."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from advcomp.attacknet.data import AttackBatch, load_images
from advcomp.attacknet.objective.losses import imitation
from advcomp.attacknet.recipe import load_network_recipe
from advcomp.attacknet.task import attack_network_task
from advcomp.attacknet.teacher import Teacher
from advcomp.errors import InvalidConfig
from advcomp.players.classifiers import Classifier
from advcomp.players.ensemble import Ensemble
from advcomp.training.ranks import Ranks

Toy = Callable[..., Path]

TAUGHT = (
    ("margin = 1.0\nrelativistic_cross_entropy = 0.5\n", "imitation = 1.0\n"),
    ("[training]\n", '[teacher]\nsurrogates = ["c0.safetensors", "v.safetensors"]\n[training]\n'),
    ("shift = 1", "shift = 0\nflip = true"),
)


def batch(*, targets: Tensor | None = None) -> AttackBatch:
    torch.manual_seed(1)
    return AttackBatch(
        positions=(0, 1, 2),
        clean=torch.rand(3, 3, 8, 8),
        labels=torch.tensor([7, 0, 3]),
        eps=torch.tensor([0.1, 0.2, 0.05]),
        targets=targets,
    )


def classifiers() -> list[Classifier]:
    torch.manual_seed(0)
    return [Classifier("conv_net", 10).freeze() for _ in range(2)]


def by_hand(members: Iterable[nn.Module], x: Tensor, labels: Tensor, sign: int) -> Tensor:
    """T, written out."""
    total = torch.zeros_like(x)
    for member in members:
        seen = x.clone().requires_grad_()
        loss = nn.functional.cross_entropy(member(seen), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, seen)
        total += sign * gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
    return total / total.abs().mean((1, 2, 3), keepdim=True)


def test_a_teacher_leads_away_from_the_true_labels() -> None:
    members, own = classifiers(), batch()
    taught = Teacher(Ensemble(members))(own)
    assert taught.shape == (3, 1, 3, 8, 8)
    torch.testing.assert_close(taught[:, 0], by_hand(members, own.clean, own.labels, 1))
    assert not any((member(own.clean).argmax(1) == own.labels).all() for member in members)


def test_a_teacher_of_a_network_that_aims_leads_to_its_targets() -> None:
    members, targets = classifiers(), torch.tensor([1, 2, 4])
    own = batch(targets=targets)
    taught = Teacher(Ensemble(members))(own)
    torch.testing.assert_close(taught[:, 0], by_hand(members, own.clean, targets, -1))


def test_further_steps_are_added() -> None:
    members, own = classifiers(), batch()
    one, two = (Teacher(Ensemble(members), count=count) for count in (1, 2))
    told = two.gradients(own.clean, own.eps, labels=own.labels)
    assert told.shape[1] == 4
    total = told.sum(1)
    torch.testing.assert_close(two(own)[:, 0], total / total.abs().mean((1, 2, 3), keepdim=True))
    assert not torch.allclose(one(own), two(own))


def test_who_takes_the_teachers_signs_has_minus_one() -> None:
    own = batch()
    taught = Teacher(Ensemble(classifiers()))(own)
    radius, signs = own.eps.view(-1, 1, 1, 1), taught[:, 0].sign()
    for p, expected in ((signs, -1.0), (-signs, 1.0), (0.5 * signs, -0.5), (0 * signs, 0.0)):
        found = imitation(own.clean + radius * p, own.clean, own.eps, taught)
        assert found.tolist() == pytest.approx([expected] * 3, abs=1e-5)


def test_the_loss_of_a_step_has_what_is_imitated(toy: Toy, tmp_path: Path) -> None:
    """Alone and beside another loss; also from what is kept, which differs by rounding."""
    (_, table, still), loss = TAUGHT, "margin = 1.0\n"
    found = {}
    for changes in ((), (table, (loss, f"{loss}imitation = 0.3\n")), TAUGHT[:2]):
        recipe = load_network_recipe(toy(*changes, still))
        task = attack_network_task(recipe, Ranks(), load_images(recipe.data)[0])
        own = task.batch(0)
        found[changes] = task.loss(own, 0).item()
        if task.teacher is None:
            assert task.keep_in(tmp_path) == []
            continue
        made = task.whole_batch(0)["adversarial"]
        taught = by_hand(task.teacher.gradients.surrogates.members, own.clean, own.labels, 1)
        p = (made - own.clean) / own.eps.view(-1, 1, 1, 1)
        expected = -(p * taught).mean().item()
    plain, both, alone = found.values()
    assert alone == pytest.approx(expected, rel=1e-6)
    assert both == pytest.approx(plain + 0.3 * expected, rel=1e-6)


def test_kept_lessons_are_those_of_the_teacher(toy: Toy, tmp_path: Path) -> None:
    recipe = load_network_recipe(toy(*TAUGHT, ("[training]\n", "keep = true\n[training]\n")))
    task = attack_network_task(recipe, Ranks(), load_images(recipe.data)[0])
    own = task.batch(0)
    fresh = task.loss(own, 0).item()
    (kept,) = task.keep_in(tmp_path)
    assert kept.path == tmp_path / "teacher" / "rank-0.bin"
    assert task.loss(own, 0).item() == pytest.approx(fresh, rel=1e-2)
    task.teacher = None  # nobody is asked again
    first = kept(own)
    assert first.abs().mean().item() == pytest.approx(1, abs=1e-2)
    kept.find = lambda _: pytest.fail("found again")
    assert torch.equal(kept(own), first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (TAUGHT[:1], r"\[teacher\] surrogates: go only with \[loss\] imitation above 0"),
        (TAUGHT[1:], r"\[teacher\] surrogates: go only with \[loss\] imitation above 0"),
        (
            (*TAUGHT[:2], ("[training]\n", "keep = true\n[training]\n")),
            r"\[teacher\] keep: goes only with \[data\] shift = 0",
        ),
        (
            (*TAUGHT, ('"v.safetensors"]', '"c0.safetensors"]')),
            r"\[teacher\] surrogates \[1\]: expected each classifier once",
        ),
        (
            (*TAUGHT, ('"v.safetensors"]', '"none.safetensors"]')),
            r"\[teacher\] surrogates: expected the path of a file",
        ),
    ],
)
def test_what_no_teacher_can_be_is_told(
    changes: tuple[tuple[str, str], ...], message: str, toy: Toy
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        load_network_recipe(toy(*changes))

"""Which adversarial images the gallery shows, and what the defenses said about them.

All attacks are shown on the same images as far as they made them, so that they can be compared:
at every budget the images on which the answers of all defenses to all attacks differ most, since
an image that fools everybody, or nobody, says little.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.report.material import GalleryImage, Material
from advcomp.scoring.report.pictures import MOST_SIDE, amplification, data_uri, perturbation
from advcomp.scoring.results import MISSING, Results
from advcomp.scoring.scores import Scores

MOST_PIXELS = 1_000_000
"""Pixels of all pictures together, which bounds their share of the file to 4 MB."""

MOST_PIXELS_BESIDE_MANY = 120_000
"""The same beside many answers, so that the file stays below 2 MB."""

MANY_ANSWERS = 1_000
"""Attacks times defenses."""

MOST_SAMPLES = 72
MOST_PER_ATTACK = 4
_PICTURES = 3


class Outcome(StrEnum):
    """What a defense's answer to an adversarial image is."""

    RIGHT = "right"
    WRONG = "wrong"
    HIT = "hit"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One defense's answer; `label` is None where there is none."""

    defense: str
    label: int | None
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the gallery. The pictures are data URIs."""

    image_id: str
    max_epsilon: int
    label: int
    target_class: int | None
    clean: str
    adversarial: str
    perturbation: str
    amplification: float
    changed: float
    answers: tuple[Answer, ...]

    @property
    def fooled(self) -> int:
        """How many defenses gave the attack what it wanted."""
        wanted = Outcome.WRONG if self.target_class is None else Outcome.HIT
        return sum(answer.outcome is wanted for answer in self.answers)


def choose_samples(
    results: Results, scores: Scores, height: int, width: int
) -> Iterator[tuple[int, int]]:
    """The (attack, pair) of every sample, attacks by track and rank: as many as are affordable."""
    longer = max(height, width)
    shown = height * width * min(1, MOST_SIDE / longer) ** 2
    many = len(results.attacks) * len(results.defenses) > MANY_ANSWERS
    pixels = MOST_PIXELS_BESIDE_MANY if many else MOST_PIXELS
    affordable = min(MOST_SAMPLES, int(pixels / (_PICTURES * shown)))
    attacks = [a for a in _by_rank(scores) if results.exists[a].any()][:affordable]
    if not attacks:
        return
    order = _most_telling_first(results)
    each = _whole_turns(min(MOST_PER_ATTACK, affordable // len(attacks)), results)
    for attack in attacks:
        yield from ((attack, pair) for pair in _of_attack(results, order, attack, each))


def figures(material: Material, sample: GalleryImage, defenses: Sequence[int]) -> Figure:
    """What the gallery shows of a sample, with the answers of these defenses in this order."""
    results = material.standings.results
    image = int(results.pair_image[sample.pair])
    max_epsilon = int(results.pair_max_epsilon[sample.pair])
    targets = results.target_classes
    is_targeted = results.attacks[sample.attack].type is SubmissionType.TARGETED_ATTACK
    target = int(targets[image]) if is_targeted and targets is not None else None
    label = int(results.labels[image])
    answers = results.predictions[:, sample.attack, sample.pair]
    return Figure(
        image_id=results.image_ids[image],
        max_epsilon=max_epsilon,
        label=label,
        target_class=target,
        clean=data_uri(sample.clean),
        adversarial=data_uri(sample.adversarial),
        perturbation=data_uri(
            perturbation(sample.adversarial, sample.clean, max_epsilon), averaged=False
        ),
        amplification=amplification(max_epsilon),
        changed=float((sample.adversarial != sample.clean).any(axis=2).mean()),
        answers=tuple(
            _answer(results.defenses[d].name, int(answers[d]), label, target) for d in defenses
        ),
    )


def _by_rank(scores: Scores) -> list[int]:
    """Indices of the attacks: non-targeted, then targeted, each by rank, then by name."""

    def place(attack: int) -> tuple[bool, float, str]:
        score = scores.attacks[attack]
        is_targeted = score.entry.type is SubmissionType.TARGETED_ATTACK
        return is_targeted, score.rank or np.inf, score.entry.name

    return sorted(range(len(scores.attacks)), key=place)


def _most_telling_first(results: Results) -> list[int]:
    """All pairs, those first on which about half of all answers are right."""
    labels = results.labels[results.pair_image]
    right = (results.predictions == labels).sum(axis=(0, 1))
    answers = (results.predictions != MISSING).sum(axis=(0, 1))
    share = right / np.maximum(1, answers)
    distance: NDArray[np.float64] = np.where(answers > 0, np.abs(share - 0.5), 1.0)
    order: list[int] = np.argsort(distance, kind="stable").tolist()
    return order


def _whole_turns(most: int, results: Results) -> int:
    """At most this many samples, every budget as often as the others where there is room."""
    budgets = len(np.unique(results.pair_max_epsilon))
    return most - most % budgets if most > budgets else most


def _of_attack(results: Results, order: Sequence[int], attack: int, most: int) -> list[int]:
    """An attack's pairs: the budgets in turn, another image each time while there is one."""
    budgets = np.unique(results.pair_max_epsilon).tolist()
    chosen: list[int] = []
    for turn in range(most):
        budget = budgets[turn % len(budgets)]
        shown = {int(results.pair_image[pair]) for pair in chosen}
        candidates = (
            pair
            for pair in order
            if results.pair_max_epsilon[pair] == budget
            and results.exists[attack, pair]
            and int(results.pair_image[pair]) not in shown
        )
        chosen.extend(islice(candidates, 1))
    return sorted(chosen, key=lambda pair: (results.pair_max_epsilon[pair], pair))


def _answer(defense: str, answer: int, label: int, target: int | None) -> Answer:
    if answer == MISSING:
        outcome = Outcome.MISSING
    elif answer == label:
        outcome = Outcome.RIGHT
    else:
        outcome = Outcome.HIT if answer == target else Outcome.WRONG
    return Answer(
        defense=defense,
        label=None if answer == MISSING else answer,
        outcome=outcome,
    )

"""The budget, in integers: every level, epsilon and sign, against plain Python ints."""

import numpy as np
import pytest
from numpy.typing import NDArray

from advcomp.rules.threat import Pair, Schedule, eps_of, project, schedule_pairs


def project_one(adversarial: int, clean: int, max_epsilon: int) -> int:
    return min(max(adversarial, clean - max_epsilon, 0), clean + max_epsilon, 255)


def test_projection_equals_plain_integers_for_every_level_epsilon_and_sign() -> None:
    """Moves every level by one less than epsilon, epsilon and one more, either way."""
    for max_epsilon in range(256):
        pairs = [
            (level + sign * (max_epsilon + beyond), level)
            for level in range(256)
            for sign in (-1, 1)
            for beyond in (-1, 0, 1)
            if 0 <= level + sign * (max_epsilon + beyond) <= 255
        ]
        adversarial, clean = np.array(pairs, np.uint8).T
        projected = project(adversarial, clean, max_epsilon)
        assert projected.dtype == np.uint8
        assert projected.tolist() == [project_one(a, c, max_epsilon) for a, c in pairs]


@pytest.mark.parametrize("max_epsilon", [0, 1, 16, 127, 128, 254, 255])
def test_projection_equals_plain_integers_for_every_pair_of_levels(max_epsilon: int) -> None:
    levels = np.arange(256, dtype=np.uint8)
    clean, adversarial = np.meshgrid(levels, levels)
    expected = [[project_one(a, c, max_epsilon) for c in range(256)] for a in range(256)]
    assert project(adversarial, clean, max_epsilon).tolist() == expected


def test_projection_of_an_image_keeps_its_shape_and_its_input() -> None:
    clean: NDArray[np.uint8] = np.full((2, 3, 3), 250, np.uint8)
    adversarial = np.zeros_like(clean)
    assert project(adversarial, clean, 16).tolist() == np.full((2, 3, 3), 234).tolist()
    assert not adversarial.any()


def test_projection_refuses_shapes_and_types_that_would_be_broadcast_or_wrap() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="shapes differ"):
        project(image, image[:1], 1)
    with pytest.raises(ValueError, match="expected uint8"):
        project(image.astype(np.int16), image, 1)


def test_eps_is_the_budget_on_the_unit_scale() -> None:
    assert [eps_of(0), eps_of(51), eps_of(255)] == [0, 0.2, 1]


def test_grid_has_every_pair_once() -> None:
    pairs = schedule_pairs(3, [16, 4], Schedule.GRID)
    assert [(pair.max_epsilon, pair.image) for pair in pairs] == [
        (16, 0), (16, 1), (16, 2), (4, 0), (4, 1), (4, 2)
    ]  # fmt: skip


def test_round_robin_gives_each_image_the_epsilon_of_its_batch_of_100() -> None:
    pairs = schedule_pairs(350, [4, 8, 12], Schedule.ROUND_ROBIN)
    by_image = {pair.image: pair.max_epsilon for pair in pairs}
    assert len(pairs) == len(by_image) == 350
    expected = [4] * 100 + [8] * 100 + [12] * 100 + [4] * 50
    assert [by_image[image] for image in range(350)] == expected
    assert schedule_pairs(1, [4, 8], Schedule.ROUND_ROBIN) == (Pair(image=0, max_epsilon=4),)


def test_an_epsilon_given_twice_in_a_round_robin_keeps_its_turns() -> None:
    pairs = schedule_pairs(300, [4, 8, 4], Schedule.ROUND_ROBIN)
    assert sorted(pair.image for pair in pairs) == list(range(300))

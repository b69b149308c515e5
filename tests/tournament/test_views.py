"""The shards that defenses see."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advcomp.tournament.job.defense_views import CLEAN, DefenseView, Item, cut


@st.composite
def waves(draw: st.DrawFn) -> tuple[NDArray[np.bool_], list[int]]:
    columns, images = draw(st.integers(0, 4)), draw(st.integers(1, 7))
    flags = draw(st.lists(st.booleans(), min_size=columns * images, max_size=columns * images))
    offsets = draw(st.lists(st.integers(0, columns), min_size=images, max_size=images))
    return np.array(flags, np.bool_).reshape(columns, images), offsets


@settings(derandomize=True, deadline=None)
@given(waves(), st.sampled_from(DefenseView))
def test_every_view_shows_each_existing_image_exactly_once(
    wave: tuple[NDArray[np.bool_], list[int]], view: DefenseView
) -> None:
    exists, offsets = wave
    shards = cut(view, exists, offsets, first_wave=True)
    shown = Counter(item for shard in shards.values() for item in shard)
    expected = {Item(k, CLEAN) for k in range(exists.shape[1])}
    expected |= {Item(int(k), int(c)) for c, k in np.argwhere(exists)}
    assert shown == Counter(expected)


@settings(derandomize=True, deadline=None)
@given(waves())
def test_no_latin_shard_shows_a_source_image_twice(
    wave: tuple[NDArray[np.bool_], list[int]],
) -> None:
    exists, offsets = wave
    for number, shard in cut(DefenseView.LATIN, exists, offsets, first_wave=True).items():
        assert len({item.image for item in shard}) == len(shard)
        for item in shard:
            column = (number + offsets[item.image]) % (len(exists) + 1)
            assert item.column == (column if column < len(exists) else CLEAN)


def test_a_latin_shard_without_gaps_shows_every_source_image() -> None:
    shards = cut(DefenseView.LATIN, np.ones((3, 5), np.bool_), [0, 3, 1, 2, 0], first_wave=True)
    assert sorted(shards) == [0, 1, 2, 3]
    assert all([item.image for item in shard] == list(range(5)) for shard in shards.values())


def test_the_pooled_view_is_one_run() -> None:
    shards = cut(DefenseView.POOLED, np.ones((2, 3), np.bool_), [0, 0, 0], first_wave=False)
    assert {number: len(shard) for number, shard in shards.items()} == {0: 9}


@pytest.mark.parametrize("first_wave", [True, False])
def test_a_per_attack_run_shows_one_column_and_at_most_100_images(first_wave: bool) -> None:
    shards = cut(DefenseView.PER_ATTACK, np.ones((2, 250), np.bool_), [], first_wave=first_wave)
    assert max(map(len, shards.values())) == 100
    assert all(len({item.column for item in shard}) == 1 for shard in shards.values())
    columns = {item.column for shard in shards.values() for item in shard}
    assert columns == ({CLEAN, 0, 1} if first_wave else {0, 1})

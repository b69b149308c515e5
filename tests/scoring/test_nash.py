"""The equilibrium of maximum entropy, against brute force over small games."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from advcomp.scoring.nash import equilibrium

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


def entropy(mix: Vector) -> float:
    positive = mix[mix > 0]
    return float(-(positive * np.log(positive)).sum())


def optimal_vertices(payoffs: Matrix) -> tuple[float, list[Vector]]:
    """The game's value to the row player, and every vertex of the set of its optimal mixes.

    Every vertex solves a square system: as many rows unplayed or columns tied as there are rows.
    """
    m, n = payoffs.shape
    total = np.append(np.ones(m), 0)
    unplayed = np.hstack([np.eye(m), np.zeros((m, 1))])
    tied = np.hstack([payoffs.T, -np.ones((n, 1))])
    found: list[tuple[float, Vector]] = []
    for chosen in itertools.combinations(np.vstack([unplayed, tied]), m):
        system = np.vstack([*chosen, total])
        if abs(np.linalg.det(system)) < 1e-9:
            continue
        mix, value = np.split(np.linalg.solve(system, np.append(np.zeros(m), 1)), [m])
        if mix.min() > -1e-9 and (mix @ payoffs).min() > value[0] - 1e-9:
            found.append((float(value[0]), np.clip(mix, 0, None)))
    best = max(value for value, _ in found)
    return best, [mix for value, mix in found if value > best - 1e-9]


def greatest_entropy(vertices: list[Vector]) -> float:
    """The maximum over the convex hull, by a general-purpose optimiser."""
    corners = np.unique(np.round(vertices, 12), axis=0)
    start = np.full(len(corners), 1 / len(corners))
    found = minimize(
        lambda weights: -entropy(np.abs(weights) @ corners / np.abs(weights).sum()),
        start,
        bounds=[(0, 1)] * len(start),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return float(-found.fun)


@st.composite
def games(draw: st.DrawFn) -> Matrix:
    """Games of up to 4 by 4; few levels make them degenerate."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    levels = draw(st.sampled_from([1, 2, 3, 10, 1000]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return generator.integers(0, levels + 1, shape) / levels


@given(games())
@settings(max_examples=150, derandomize=True, deadline=None)
def test_equilibrium_equals_brute_force(payoffs: Matrix) -> None:
    found = equilibrium(payoffs)
    value, rows = optimal_vertices(payoffs)
    minus_value, columns = optimal_vertices(-payoffs.T)
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.value == pytest.approx(-minus_value, abs=1e-9)
    assert (found.rows @ payoffs).min() >= value - 1e-9
    assert (payoffs @ found.columns).max() <= value + 1e-9
    for mix, vertices in ((found.rows, rows), (found.columns, columns)):
        assert mix.min() >= 0
        assert mix.sum() == pytest.approx(1, abs=1e-12)
        assert entropy(mix) == pytest.approx(greatest_entropy(vertices), abs=1e-6)


@given(games())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_order_of_strategies_does_not_matter(payoffs: Matrix) -> None:
    rows = np.random.default_rng(0).permutation(payoffs.shape[0])
    columns = np.random.default_rng(1).permutation(payoffs.shape[1])
    found, shuffled = equilibrium(payoffs), equilibrium(payoffs[np.ix_(rows, columns)])
    assert shuffled.rows == pytest.approx(found.rows[rows], abs=1e-6)
    assert shuffled.columns == pytest.approx(found.columns[columns], abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 4), (40, 30)])
def test_where_all_payoffs_are_equal_everybody_plays_alike(shape: tuple[int, int]) -> None:
    found = equilibrium(np.full(shape, 0.3))
    assert found.value == pytest.approx(0.3)
    assert found.rows == pytest.approx(np.full(shape[0], 1 / shape[0]))
    assert found.columns == pytest.approx(np.full(shape[1], 1 / shape[1]))


def test_an_active_inequality_bounds_the_spread() -> None:
    """Three rows give 1/2 against the first column; the second allows row 3 at most 1/4.

    Entropy alone would play (1/3, 1/3, 1/3).
    """
    payoffs = np.array([[0.5, 0.6], [0.5, 0.6], [0.5, 0.2]])
    found = equilibrium(payoffs)
    assert found.rows == pytest.approx([3 / 8, 3 / 8, 1 / 4], abs=1e-7)
    assert found.columns == pytest.approx([1, 0])


@pytest.mark.parametrize("levels", [1, 4, 5000])
def test_a_game_of_2017s_size_is_solved_to_nine_digits(levels: int) -> None:
    generator = np.random.default_rng(levels)
    payoffs = generator.integers(0, levels + 1, (156, 107)) / levels
    found = equilibrium(payoffs)
    assert (found.rows @ payoffs).min() == pytest.approx(found.value, abs=1e-9)
    assert (payoffs @ found.columns).max() == pytest.approx(found.value, abs=1e-9)


def test_games_of_near_copies_are_solved() -> None:
    """Copies whose rates differ by an image or two, as those of similar entries do."""
    for seed in range(25):
        generator = np.random.default_rng(seed)
        images = (300, 5000, 20000)[seed % 3]
        m, n = generator.integers(2, 40, 2)
        originals = generator.random((1 + m // 3, 1 + n // 3))
        rows, columns = (
            generator.integers(1 + m // 3, size=m),
            generator.integers(1 + n // 3, size=n),
        )
        payoffs = originals[np.ix_(rows, columns)] + generator.integers(-1, 2, (m, n)) / images
        payoffs = np.clip(np.round(payoffs * images) / images, 0, 1)
        found = equilibrium(payoffs)
        assert (found.rows @ payoffs).min() == pytest.approx(found.value, abs=1e-8)
        assert (payoffs @ found.columns).max() == pytest.approx(found.value, abs=1e-8)

"""Rankings against the golden values of the rulebook and against independent implementations."""

import evalica
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from advcomp.scoring.ranking import nash, pagerank, pagerank_2017

CORRECT = np.array([[90, 40, 95], [60, 50, 80], [20, 10, 70]])
ERROR = 100 - CORRECT
HIT = np.array([[0, 0, 1], [0, 0, 5], [0, 0, 20]])
TARGETED = np.array([False, False, True])
RATES = np.where(TARGETED, HIT, ERROR) / 100

Matrix = NDArray[np.float64]


@st.composite
def counts(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Correct and won pairs of 1 to 6 defenses (rows) and 1 to 6 attacks, of 100 each."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    correct = generator.integers(0, 101, shape)
    correct[generator.random(shape) < draw(st.sampled_from([0.0, 0.4]))] = 0
    wins = generator.integers(0, 101 - correct)
    wins[generator.random(shape) < draw(st.sampled_from([0.0, 0.4]))] = 0
    return correct, wins


def test_pagerank_2017_golden() -> None:
    ranking = pagerank_2017(CORRECT, ERROR, HIT, targeted=TARGETED)
    assert ranking.defenses == pytest.approx([0.453901, 0.420179, 0.125921], abs=5e-7)
    assert ranking.attacks == pytest.approx([0.327055, 0.620137, 0.052808], abs=5e-7)
    assert ranking.parameters == {"rounds": 8}


def test_pagerank_2017_stops_after_eight_rounds_without_damping() -> None:
    """Written out a second time, element by element, with the two kinds of columns apart."""
    w_d, w_a = [1 / 3] * 3, [1 / 3] * 3
    for _ in range(8):
        e = [sum(w_d[d] * ERROR[d, a] for d in range(3)) for a in (0, 1)]
        h = [sum(w_d[d] * HIT[d, 2] for d in range(3))]
        c = [sum(CORRECT[d, a] * w_a[a] for a in range(3)) for d in range(3)]
        w_d = [x / sum(c) for x in c]
        w_a = [x / (sum(e) + sum(h)) for x in e + h]
    ranking = pagerank_2017(CORRECT, ERROR, HIT, targeted=TARGETED)
    assert ranking.values == pytest.approx([*w_a, *w_d], rel=1e-12)


@pytest.mark.parametrize(("correct", "error"), [(0, 5), (5, 0), (0, 0)])
def test_pagerank_2017_ranks_nobody_where_a_sum_is_0(correct: int, error: int) -> None:
    ranking = pagerank_2017(
        np.full((2, 3), correct),
        np.full((2, 3), error),
        np.zeros((2, 3), np.int64),
        targeted=np.zeros(3, bool),
    )
    assert ranking.values == (None,) * 5


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (2, 0)])
def test_nobody_is_ranked_without_the_other_side(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, np.int64)
    targeted = np.zeros(shape[1], bool)
    ranking = pagerank_2017(nothing, nothing, nothing, targeted=targeted)
    assert ranking.values == (None,) * sum(shape)
    assert nash(nothing.astype(float)).values == (None,) * sum(shape)


def test_pagerank_golden() -> None:
    ranking = pagerank(RATES, CORRECT / 100)
    assert ranking.defenses == pytest.approx([0.211438, 0.211832, 0.076730], abs=5e-7)
    assert ranking.attacks == pytest.approx([0.153588, 0.302539, 0.043873], abs=5e-7)
    assert ranking.parameters == {"damping": 0.85}


@given(counts())
@settings(max_examples=60, derandomize=True, deadline=None)
def test_pagerank_equals_power_iteration(
    correct_wins: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    correct, wins = correct_wins
    d, a = correct.shape
    n = d + a
    links = np.zeros((n, n))
    for i, j in np.ndindex(d, a):
        links[i, d + j] = wins[i, j]
        links[d + j, i] = correct[i, j]
    for row in links:
        row[:] = row / row.sum() if row.sum() else 1 / n
    ranks = np.full(n, 1 / n)
    for _ in range(300):
        ranks = 0.15 / n + 0.85 * ranks @ links
    ranking = pagerank(wins / 100, correct / 100)
    assert ranking.values == pytest.approx([*ranks[d:], *ranks[:d]], abs=1e-12)
    assert sum(ranks) == pytest.approx(1)


@given(counts())
@settings(max_examples=40, derandomize=True, deadline=None)
def test_pagerank_equals_networkx(
    correct_wins: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    correct, wins = correct_wins
    graph = nx.DiGraph()
    graph.add_nodes_from(f"a{j}" for j in range(correct.shape[1]))
    graph.add_nodes_from(f"d{i}" for i in range(correct.shape[0]))
    for i, j in np.ndindex(correct.shape):
        for loser, winner, weight in (
            (f"d{i}", f"a{j}", wins[i, j]),
            (f"a{j}", f"d{i}", correct[i, j]),
        ):
            if weight:
                graph.add_edge(loser, winner, weight=int(weight))
    ranks = nx.pagerank(graph, alpha=0.85, tol=1e-14, max_iter=1000)
    values = pagerank(wins / 100, correct / 100).values
    assert values == pytest.approx(list(ranks.values()), abs=1e-9)


@given(counts())
@settings(max_examples=40, derandomize=True, deadline=None)
def test_pagerank_equals_evalica(
    correct_wins: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    correct, wins = correct_wins
    matches = [
        (f"d{i}", f"a{j}", winner, float(weight))
        for i, j in np.ndindex(correct.shape)
        for winner, weight in (
            (evalica.Winner.X, correct[i, j]),
            (evalica.Winner.Y, wins[i, j]),
        )
    ]
    xs, ys, winners, weights = zip(*matches, strict=True)
    ranks = evalica.pagerank(
        xs, ys, winners, weights=list(weights), damping=0.85, tolerance=1e-14, limit=1000
    ).scores
    names = [f"a{j}" for j in range(correct.shape[1])] + [f"d{i}" for i in range(len(correct))]
    values = pagerank(wins / 100, correct / 100).values
    assert values == pytest.approx([ranks[name] for name in names], abs=1e-9)


def test_nash_golden() -> None:
    ranking = nash(RATES)
    assert ranking.attacks == pytest.approx([0.4, 0.5, 0.05], abs=1e-9)
    assert ranking.defenses == pytest.approx([0.4, 0.5, 0.1], abs=1e-9)
    mixed = nash(np.array([[0.1, 0.6], [0.4, 0.2]]).T)
    assert mixed.attacks == pytest.approx([0.314286, 0.314286], abs=5e-7)
    assert mixed.defenses == pytest.approx([0.685714, 0.685714], abs=5e-7)


def test_a_pair_that_is_not_played_pays_what_its_two_are_expected_to() -> None:
    """The mean of its row and of its column, less the mean of all; itself left out of each."""
    rates = np.array([[0.1, 0.3, 0.6], [0.4, 0.6, 0.9]])
    played = np.array([[True, True, True], [True, True, False]])
    expected = (0.4 + 0.6) / 2 + 0.6 - (0.1 + 0.3 + 0.6 + 0.4 + 0.6) / 5
    filled = np.where(played, rates, expected)
    assert nash(rates, played=played).values == pytest.approx(nash(filled).values, abs=1e-12)
    assert nash(rates).values != pytest.approx(nash(filled).values)


def test_what_a_pair_is_expected_to_pay_is_a_rate() -> None:
    rates = np.array([[0.0, 0.1, 0.9], [0.9, 1.0, 0.0]])
    played = np.array([[True, True, True], [True, True, False]])
    filled = np.where(played, rates, 1.0)  # 0.95 + 0.9 - 2.9 / 5 would be 1.27
    assert nash(rates, played=played).values == pytest.approx(nash(filled).values, abs=1e-12)

"""The maximum-entropy equilibrium of a zero-sum game, for games with hundreds of strategies.

Theory of operation. The equilibria of a zero-sum game are a product of two polytopes, the optimal
mixes of either player. Its interior is found first, then entropy is maximised there.

1. *One linear program* finds an equilibrium in the interior of the set. By Goldman and Tucker
   there is a strictly complementary one: every strategy either is played with positive weight or
   loses against the other mix, never neither. Scaling all weights by a free factor turns
   "positive" into "at least 1", which a linear program can ask of all strategies at once (Freund,
   Roundy and Todd 1985). Its answer tells apart, by wide margins, which strategies some
   equilibrium plays and which of the other player's are best replies to all of them.
2. *Newton's method*, for either player: on the strategies that are played, with equality against
   the other player's played strategies (a null space takes care of it), and a logarithmic barrier
   for the rest, whose margins are positive in the interior. Entropy keeps weights positive by
   itself. There is a unique maximum, and nothing to tune.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

SCALES = (1e4, 1e2, 1.0)
"""The linear program makes all weights above 1 / this count alike; the next where one fails.

At 1e7 it fails for one in fifteen games of near-copies, whose payoffs differ by 1 / images; at 1e4
it did for none of thousands.
"""

LEAST_WEIGHT = 1e-12
LEAST_MARGIN = 1e-9
"""What is smaller is rounding."""

BARRIERS = tuple(10.0**-power for power in range(2, 13))
NEWTON_STEPS = 100
"""At most, per barrier; a handful is what it takes."""
SHORTEST_STEP = 1e-6
DECREASE = 1e-18
"""Newton's method has arrived when it expects no more than this from a step."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equilibrium:
    """The value of a game to the row player, and the players' mixes: (m,) and (n,)."""

    value: float
    rows: Vector
    columns: Vector


def equilibrium(payoffs: Matrix) -> Equilibrium:
    """Solve a zero-sum game; among its equilibria, the one of maximum entropy.

    Args:
        payoffs: (m, n), what the row player wins; of the order of 1.
    """
    inside = _interior(payoffs)
    rows_lose = inside.value - payoffs @ inside.columns
    columns_lose = inside.rows @ payoffs - inside.value
    return Equilibrium(
        value=inside.value,
        rows=_spread(payoffs - inside.value, inside.rows, rows_lose, columns_lose),
        columns=_spread(inside.value - payoffs.T, inside.columns, columns_lose, rows_lose),
    )


def _interior(payoffs: Matrix) -> Equilibrium:
    """An equilibrium in which every strategy is played, or loses against the other mix."""
    from scipy.optimize import linprog  # 0.2 s that only this ranking needs

    m, n = payoffs.shape
    # Unknown: x (m), y (n), value, z (m + n); all times the same factor, which is sum(x) = sum(y).
    margins = np.block(
        [
            [np.zeros((m, m)), -payoffs, np.ones((m, 1))],
            [payoffs.T, np.zeros((n, n)), -np.ones((n, 1))],
        ]
    )
    weights = np.hstack([np.eye(m + n), np.zeros((m + n, 1))])
    none = np.zeros((m + n, m + n))
    same_scale = np.concatenate([np.ones(m), -np.ones(n), np.zeros(1 + m + n)])
    for scale in SCALES:
        solution = linprog(
            c=np.concatenate([np.zeros(m + n + 1), -np.ones(m + n)]),
            A_ub=np.block([[-margins, none], [-margins - weights, np.eye(m + n)]]),
            b_ub=np.zeros(2 * (m + n)),
            A_eq=same_scale[None],
            b_eq=[0],
            bounds=[(0, scale)] * (m + n) + [(None, None)] + [(0, 1)] * (m + n),
        )
        if solution.success:
            break
    assert solution.success, solution.message
    x, y, value = np.split(solution.x[: m + n + 1], [m, m + n])
    return Equilibrium(value=float(value[0] / x.sum()), rows=x / x.sum(), columns=y / y.sum())


def _spread(surplus: Matrix, start: Vector, lose: Vector, others_lose: Vector) -> Vector:
    """The row player's optimal mix of maximum entropy.

    Args:
        surplus: (m, n), what the row player wins above the value of the game.
        start: (m,), an optimal mix in the interior.
        lose: (m,), what each row loses against the other player's mix in the interior.
        others_lose: (n,), what each column loses against `start`.
    """
    played = start > np.maximum(lose, LEAST_WEIGHT)
    losing = others_lose > LEAST_MARGIN
    equalities = np.vstack([surplus[np.ix_(played, ~losing)].T, np.ones(played.sum())])
    free = _null_space(equalities)
    weights = start[played] / start[played].sum()
    for barrier in BARRIERS:
        weights = _newton(weights, free, surplus[np.ix_(played, losing)].T, barrier)
    mix = np.zeros(len(start))
    mix[played] = weights
    return mix


def _null_space(matrix: Matrix) -> Matrix:
    """An orthonormal basis, as columns, of the vectors that `matrix` sends to 0."""
    _, singular, rows = np.linalg.svd(matrix)
    rank = int((singular > singular[0] * 1e-9).sum())
    return rows[rank:].T


def _newton(weights: Vector, free: Matrix, rest: Matrix, barrier: float) -> Vector:
    """Minimise sum(w log w) - barrier * sum(log(rest @ w)) along the free directions."""
    if not free.shape[1]:
        return weights

    def cost(w: Vector) -> float:
        if min(w.min(), (rest @ w).min(initial=np.inf)) <= 0:  # rounding, next to a bound
            return np.inf
        return float(w @ np.log(w) - barrier * np.log(rest @ w).sum())

    for _ in range(NEWTON_STEPS):
        margins = rest @ weights
        gradient = free.T @ (np.log(weights) - barrier * (rest.T @ (1 / margins)))
        scaled = (rest / margins[:, None]) @ free
        hessian = free.T @ (free / weights[:, None]) + barrier * (scaled.T @ scaled)
        direction = -np.linalg.solve(hessian, gradient)
        decrease = -float(gradient @ direction)
        if decrease < DECREASE:
            break
        move = free @ direction
        step = min(1.0, 0.99 * _longest(weights, move), 0.99 * _longest(margins, rest @ move))
        before = cost(weights)
        while cost(weights + step * move) > before - 0.1 * step * decrease:
            step /= 2
            if step < SHORTEST_STEP:  # the cost is flat to the last digit
                return weights
        weights = weights + step * move
    return weights


def _longest(position: Vector, move: Vector) -> float:
    """The longest step that leaves every coordinate at 0 or above."""
    falling = move < 0
    return float(np.min(position[falling] / -move[falling], initial=np.inf))

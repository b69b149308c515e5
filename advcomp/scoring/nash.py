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

LARGEST_SCALE = 1e7
"""The linear program sees weights above 1 / this."""

BARRIERS = tuple(10.0**-power for power in range(2, 15))
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
    rows_win = inside.value - payoffs @ inside.columns
    columns_win = inside.rows @ payoffs - inside.value
    played_rows = inside.rows > rows_win
    played_columns = inside.columns > columns_win
    rows = _spread(payoffs, inside.value, inside.rows, played_rows, played_columns)
    columns = _spread(-payoffs.T, -inside.value, inside.columns, played_columns, played_rows)
    return Equilibrium(value=float(rows @ payoffs @ columns), rows=rows, columns=columns)


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
    solution = linprog(
        c=np.concatenate([np.zeros(m + n + 1), -np.ones(m + n)]),
        A_ub=np.block([[-margins, none], [-margins - weights, np.eye(m + n)]]),
        b_ub=np.zeros(2 * (m + n)),
        A_eq=same_scale[None],
        b_eq=[0],
        bounds=[(0, LARGEST_SCALE)] * (m + n) + [(None, None)] + [(0, 1)] * (m + n),
    )
    assert solution.success, solution.message
    x, y, value = np.split(solution.x[: m + n + 1], [m, m + n])
    scale = x.sum()
    return Equilibrium(value=float(value[0] / scale), rows=x / scale, columns=y / y.sum())


def _spread(
    payoffs: Matrix,
    value: float,
    start: Vector,
    played: NDArray[np.bool_],
    replies: NDArray[np.bool_],
) -> Vector:
    """The row player's optimal mix of maximum entropy.

    Args:
        start: An optimal mix in the interior.
        played: Rows that optimal mixes play.
        replies: Columns that are best replies to every optimal mix.
    """
    surplus = payoffs[played] - value
    equalities = np.vstack([surplus[:, replies].T, np.ones(played.sum())])
    rest = surplus[:, ~replies].T
    weights = start[played] / start[played].sum()
    free = _null_space(equalities)
    for barrier in BARRIERS:
        weights = _newton(weights, free, rest, barrier)
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

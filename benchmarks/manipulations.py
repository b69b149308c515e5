"""What a team gains by entries whose only use is to change the opponents of others.

For each manipulation, rule for opponents and absence rule: how many ranks a team's entry of the
other kind gains by it, on average over many drawn tournaments, with the upper end of a 95 %
interval, and the largest gain in one of them. A tournament is six entries against six, drawn from
rates with effects of both sides and interactions, or cut out of a table of counts (`--table`).

    python benchmarks/manipulations.py --table tournament/cifar10/expected/error_matrix.csv

* clone: three copies of the opponent that is hardest for everybody.
* near-clone: the same, each with answers of its own on a few images.
* shield: an opponent that is hard for others and would be easy for its own team.
* omitted label: an easy opponent of the team leaves out one image, and is left out as incomplete.
* withdrawn: an easy opponent of the team is withdrawn.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence, score

Rates = NDArray[np.float64]
SIDE, IMAGES, CLONES = 6, 100, 3
OWN = "the team"


def drawn(generator: np.random.Generator) -> Rates:
    """Rates (opponents, entries) at which entries win, of additive effects and interactions."""
    effects = generator.normal(0, 0.15, (SIDE, 1)) + generator.normal(0, 0.1, (1, SIDE))
    rates: Rates = np.clip(0.5 + effects + generator.normal(0, 0.07, (SIDE, SIDE)), 0, 1)
    return rates


def cut(table: Rates, generator: np.random.Generator) -> Rates:
    """Six opponents and six entries of a table."""
    rows, columns = (generator.choice(n, SIDE, replace=False) for n in table.shape)
    return table[np.ix_(rows, columns)]


def clone(rates: Rates, generator: np.random.Generator) -> tuple[Rates, Rates]:
    hardest = rates[[rates.mean(axis=1).argmin()]]
    return rates, np.concatenate([rates, np.repeat(hardest, CLONES, axis=0)])


def near_clone(rates: Rates, generator: np.random.Generator) -> tuple[Rates, Rates]:
    without, more = clone(rates, generator)
    more[SIDE:] = np.clip(more[SIDE:] + generator.normal(0, 0.02, (CLONES, SIDE)), 0, 1)
    return without, more


def shield(rates: Rates, generator: np.random.Generator) -> tuple[Rates, Rates]:
    wall = np.clip(rates.min(axis=0, keepdims=True) + generator.normal(0, 0.03, (1, SIDE)), 0, 1)
    wall[:, 0] = rates.max()
    return rates, np.concatenate([rates, wall])


def easy(rates: Rates, generator: np.random.Generator) -> Rates:
    """With an opponent of the team that is easy for everybody, the last one."""
    target = np.clip(rates.max(axis=0, keepdims=True) + generator.normal(0, 0.05, (1, SIDE)), 0, 1)
    return np.concatenate([rates, target])


def withdrawn(rates: Rates, generator: np.random.Generator) -> tuple[Rates, Rates]:
    return easy(rates, generator), rates


def omitted(rates: Rates, generator: np.random.Generator) -> tuple[Rates, Rates]:
    whole = easy(rates, generator)
    return whole, whole


Manipulation = Callable[[Rates, np.random.Generator], tuple[Rates, Rates]]
MANIPULATIONS: dict[str, Manipulation] = {
    "clone": clone,
    "near-clone": near_clone,
    "shield": shield,
    "omitted label": omitted,
    "withdrawn": withdrawn,
}


def tournament(rates: Rates, track: SubmissionType, *, incomplete: bool = False) -> Results:
    """One in which entries of a track win at these rates; the first is the team's, as are all
    opponents beyond the sixth."""
    opponents, entries = rates.shape
    attacking = track is SubmissionType.ATTACK
    wins = np.arange(IMAGES) < np.round(rates * IMAGES)[:, :, None]
    order = np.random.default_rng(0).permutation(IMAGES)
    wins = wins[:, :, order]
    if not attacking:  # entries are defenses, which win by right answers
        wins = ~wins.transpose(1, 0, 2)
    predictions = np.where(wins, 2, 1).astype(np.int16)
    if incomplete and attacking:
        predictions[-1, 1, 0] = MISSING
    exists = np.ones((predictions.shape[1], IMAGES), bool)
    if incomplete and not attacking:
        exists[-1, 0] = False
        predictions[:, -1, 0] = MISSING
    own = [OWN, *[None] * (entries - 1)]
    others = [*[None] * SIDE, *[OWN] * (opponents - SIDE)]
    teams = (own, others) if attacking else (others, own)
    return Results(
        image_ids=tuple(f"{i:04d}" for i in range(IMAGES)),
        labels=np.ones(IMAGES, np.int16),
        target_classes=None,
        pair_image=np.arange(IMAGES),
        pair_max_epsilon=np.full(IMAGES, 8),
        attacks=_entries("a", SubmissionType.ATTACK, teams[0]),
        defenses=_entries("d", SubmissionType.DEFENSE, teams[1]),
        exists=exists,
        predictions=predictions,
        clean_predictions=np.ones((predictions.shape[0], IMAGES), np.int16),
        infra_pairs=np.zeros(IMAGES, bool),
        infra_images=np.zeros(IMAGES, bool),
    )


def _entries(letter: str, kind: SubmissionType, teams: Sequence[str | None]) -> tuple[Entry, ...]:
    return tuple(Entry(name=f"{letter}{i}", type=kind, team=t) for i, t in enumerate(teams))


def rank(results: Results, track: SubmissionType, absence: Absence, rule: Opponents) -> int:
    """Of the team's entry in the track."""
    for entry in score(results, absence, rule).entries:
        if entry.entry.team == OWN and entry.entry.type is track:
            assert entry.rank is not None
            return entry.rank
    raise AssertionError("the team has no entry")


def gains(
    draw: Callable[[np.random.Generator], Rates],
    name: str,
    track: SubmissionType,
    absence: Absence,
    rule: Opponents,
    rounds: int,
) -> NDArray[np.int64]:
    """Ranks that the team gains, in every round; the same rounds for every rule."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(rounds):
        rates = draw(generator)
        without, with_it = MANIPULATIONS[name](rates, generator)
        before = tournament(without, track)
        after = tournament(with_it, track, incomplete=name == "omitted label")
        found.append(rank(before, track, absence, rule) - rank(after, track, absence, rule))
    return np.array(found)


def upper(gained: NDArray[np.int64]) -> float:
    """The upper end of a 95 % interval of the mean."""
    return float(gained.mean() + 1.96 * gained.std(ddof=1) / np.sqrt(len(gained)))


def read_table(path: Path, images: int) -> Rates:
    """Rates (defenses, attacks) of a matrix of counts."""
    with path.open(newline="") as file:
        rows = [[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    return np.array(rows) / images


def lines(
    draws: dict[str, Callable[[np.random.Generator], Rates]],
    absences: Sequence[Absence],
    rounds: int,
) -> Iterator[str]:
    for source, draw in draws.items():
        for name in MANIPULATIONS:
            for track in (SubmissionType.ATTACK, SubmissionType.DEFENSE):
                for absence in absences:
                    cells = []
                    for rule in Opponents:
                        found = gains(draw, name, track, absence, rule, rounds)
                        cells += [f"{found.mean():+.3f} ({upper(found):+.3f}, {found.max():+d})"]
                    yield f"| {source} | {name} | {track} | {absence} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--table", type=Path, help="an error_matrix.csv")
    parser.add_argument("--images", type=int, default=250, help="images of that table")
    parser.add_argument("--absence", choices=[*Absence], nargs="*", default=[*Absence])
    options = parser.parse_args()
    draws: dict[str, Callable[[np.random.Generator], Rates]] = {"drawn": drawn}
    if options.table:
        table = read_table(options.table, options.images)
        draws["table"] = lambda generator: cut(table, generator)
    print(f"mean gain in ranks (upper 95 % bound, largest) over {options.rounds} rounds")
    print(
        "| rates | manipulation | track | absence | teams | entries |\n|---|---|---|---|---|---|"
    )
    for line in lines(draws, [Absence(a) for a in options.absence], options.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()

"""What a team gains by entries whose only use is to change the opponents of others.

For each source of rates, manipulation, absence rule and rule for opponents: how many ranks an
entry of the team gains by it, on average over many tournaments, with the upper end of a 95 %
interval, and the largest gain in one of them. A tournament is six entries against six: drawn, with
effects of both sides and interactions, or cut out of tables of counts (`--tables`). Of these the
attacks' track takes the errors under non-targeted attacks, the defenses' track all right answers.

    python benchmarks/manipulations.py --tables tournament/cifar10/expected --images 250

* clone: three copies of the opponent that is hardest for everybody.
* near-clone: the same, each with answers of its own on a few images.
* shield: an opponent that is hard for others and would be easy for its own team.
* omitted label: an easy opponent of the team leaves out one image, and is left out as incomplete.
* withdrawn: an easy opponent of the team is withdrawn.

All rounds are scored at once, from the rates alone: `ranks` is what `score` gives for the first
entry of `tournament` (a test compares them).
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.opponents import DECIMALS, Fit, Opponents, team_weights
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence

Rates = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Rates]
SIDE, IMAGES, CLONES = 6, 250, 3
OWN = "the team"
OMITTED = "omitted label"


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
    OMITTED: omitted,
    "withdrawn": withdrawn,
}


def tournament(rates: Rates, track: SubmissionType, *, incomplete: bool = False) -> Results:
    """One in which entries of a track win at these rates; the first is the team's, as are all
    opponents beyond the sixth.

    Args:
        incomplete: The last opponent leaves out the first image: a defense for entry 1 alone.
    """
    opponents, entries = rates.shape
    attacking = track is SubmissionType.ATTACK
    wins = np.arange(IMAGES) < np.round(rates * IMAGES)[:, :, None]
    wins = wins[:, :, np.random.default_rng(0).permutation(IMAGES)]
    if not attacking:  # entries are defenses, which win by right answers
        wins = ~wins.transpose(1, 0, 2)
    predictions = np.where(wins, 2, 1).astype(np.int16)
    exists = np.ones((predictions.shape[1], IMAGES), bool)
    if incomplete and attacking:
        predictions[-1, 1, 0] = MISSING
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


def ranks(
    rates: Rates,
    track: SubmissionType,
    absence: Absence,
    rule: Opponents,
    *,
    incomplete: bool = False,
) -> NDArray[np.int64]:
    """The rank of the first entry of `tournament(rates, track)`, for many rounds at once.

    Args:
        rates: (rounds, opponents, entries).
    """
    counts = np.round(rates * IMAGES).transpose(0, 2, 1)
    opponents = _entries("o", SubmissionType.DEFENSE, [None] * SIDE)
    opponents += _entries("t", SubmissionType.DEFENSE, [OWN] * (counts.shape[2] - SIDE))
    scoring = np.ones(len(opponents), bool)
    if incomplete and absence is Absence.DEV_TOOLKIT:  # what is missing is won by the attack
        first = int(np.random.default_rng(0).permutation(IMAGES)[0])
        if track is SubmissionType.ATTACK:
            counts[:, 1, -1] += counts[:, 1, -1] <= first
        else:
            counts[:, :, -1] -= counts[:, :, -1] > first
    elif incomplete:
        scoring[-1] = False
    own = np.zeros(counts.shape[1:], bool)
    own[0, SIDE:] = True
    won = counts / IMAGES
    if rule is Opponents.ENTRIES:
        played = ~own & scoring
        points = (counts * played).sum(axis=2)
        # Sums of shares of opponents that differ in number: compared as whole numbers.
        points = points if absence.counts else points * (scoring.sum() / played.sum(axis=1))
    else:
        weights, scale = team_weights(opponents, scoring)
        fit = Fit.of(~own & scoring, np.ones(counts.shape[1], np.int64), weights)
        estimates = fit.estimates(fit.row_sums(won), fit.column_sums(won))
        known = np.where(own, np.nan_to_num(np.round(estimates, DECIMALS)) * IMAGES, counts)
        points = known @ (weights / scale)
    points = np.round(points, DECIMALS - 3)
    better: NDArray[np.int64] = (points[:, 1:] > points[:, :1]).sum(axis=1)
    return 1 + better


def gains(
    draw: Draw,
    name: str,
    track: SubmissionType,
    absence: Absence,
    rule: Opponents,
    rounds: int,
) -> NDArray[np.int64]:
    """Ranks that the team gains, in every round; the same rounds for every rule."""
    generator = np.random.default_rng(0)
    pairs = [MANIPULATIONS[name](draw(generator), generator) for _ in range(rounds)]
    without, with_it = (np.array(rates) for rates in zip(*pairs, strict=True))
    return ranks(without, track, absence, rule) - ranks(
        with_it, track, absence, rule, incomplete=name == OMITTED
    )


def upper(gained: NDArray[np.int64]) -> float:
    """The upper end of a 95 % interval of the mean."""
    return float(gained.mean() + 1.96 * gained.std(ddof=1) / np.sqrt(len(gained)))


def read_table(path: Path, images: int) -> Rates:
    """Rates (defenses, attacks) of a matrix of counts."""
    with path.open(newline="") as file:
        rows = [[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    return np.array(rows) / images


def table_draws(folder: Path, images: int, attacks: int) -> dict[SubmissionType, Draw]:
    """What each track takes from the tables of a run.

    Args:
        images: Pairs of the run.
        attacks: How many columns are non-targeted attacks; they come first.
    """
    errors = read_table(folder / "error_matrix.csv", images)[:, :attacks]
    right = read_table(folder / "accuracy_matrix.csv", images).T
    return {
        SubmissionType.ATTACK: lambda generator: cut(errors, generator),
        SubmissionType.DEFENSE: lambda generator: cut(right, generator),
    }


def lines(
    sources: dict[str, dict[SubmissionType, Draw]], absences: Sequence[Absence], rounds: int
) -> Iterator[str]:
    """The rows of a Markdown table."""
    for source, draws in sources.items():
        for name in MANIPULATIONS:
            for track, draw in draws.items():
                for absence in absences:
                    cells = []
                    for rule in Opponents:
                        found = gains(draw, name, track, absence, rule, rounds)
                        cells.append(
                            f"{found.mean():+.3f} ({upper(found):+.3f}, {found.max():+d})"
                        )
                    yield f"| {source} | {name} | {track} | {absence} | {' | '.join(cells)} |"


@click.command(help=__doc__.splitlines()[0])
@click.option("--rounds", default=10000, show_default=True)
@click.option("--tables", "folder", type=click.Path(path_type=Path), help="A folder of results.")
@click.option("--images", default=250, show_default=True, help="Pairs of those results.")
@click.option("--attacks", default=25, show_default=True, help="Their non-targeted attacks.")
@click.option(
    "--absence",
    "absences",
    # As text: of an enumeration click takes the members' names.
    type=click.Choice([each.value for each in Absence]),
    multiple=True,
    default=[each.value for each in Absence],
    show_default=True,
)
def main(
    rounds: int, folder: Path | None, images: int, attacks: int, absences: Sequence[str]
) -> None:
    sources: dict[str, dict[SubmissionType, Draw]] = {
        "drawn": {SubmissionType.ATTACK: drawn, SubmissionType.DEFENSE: drawn}
    }
    if folder:
        sources[str(folder)] = table_draws(folder, images, attacks)
    print(f"mean gain in ranks (upper 95 % bound, largest) over {rounds} rounds")
    print("| rates | manipulation | track | absence | teams | entries |")
    print("|---|---|---|---|---|---|")
    for line in lines(sources, [Absence(a) for a in absences], rounds):
        print(line, flush=True)


if __name__ == "__main__":
    main()

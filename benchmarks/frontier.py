"""How much each gradient buys: the score of every attack of a tournament against its gradients.

    python benchmarks/frontier.py FILE.toml RUN/results --out NAME [--panel TITLE=PATTERN,...]...

FILE.toml is the tournament, RUN/results a folder with its error and accuracy matrices. The score
is the share of images that are misclassified, over the defenses of a panel, whose names fit one of
its patterns; all where there is no panel. Gradients are counted, not believed: an attack of the
library runs on one drawn image, and what counts is how many images its surrogates see on the way
to a gradient; several surrogates together are one. Of an attack network it is what its hint asks
for. An attack that cannot be counted so is named and left out: say it with --gradients NAME=N.
Targeted attacks are left out, too.

Writes NAME.svg, the panels beside each other, and NAME.csv. The line leads over the attacks that
none beats with as few gradients.
"""

import csv
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch
from torch import Tensor, nn

from advcomp.attacknet.player import NETWORK, load_generator
from advcomp.players.attack_catalogue import ATTACK_FILE, load_attack
from advcomp.players.classifiers import Classifier
from advcomp.rules.metadata import FILE_NAME
from advcomp.rules.threat import eps_of
from advcomp.scoring.report.axes import FLOOR, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale
from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.entries import EntrySource, load_entries

EPS = eps_of(8)
SIDE = 32
ASK_NOBODY = ("noop", "random_noise")
NONE_AT, ONE_AT = LEFT + 14, LEFT + 50
"""Where attacks without gradients stand, and those with one; then the axis is logarithmic."""
ROOM_FOR_NAMES = 60
LINE = 9
"""Of names, in pixels."""
STYLE = (
    ".other{fill:#2563a8}.network{fill:#c0392b}.line{fill:none;stroke:#c0392b}"
    ".axis{stroke:#999;opacity:.3}text{fill:#333}"
)

Matrix = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An attack, its gradients per image, and its score in each panel, from 0 to 1."""

    name: str
    gradients: int
    scores: Sequence[float]

    @property
    def is_network(self) -> bool:
        """Whether it is an attack network, all of which are named."""
        return self.name.startswith("attack_network")


def _pairs(_: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    if wrong := [each for each in given if "=" not in each]:
        raise click.BadParameter(f"expected {option.metavar}; got {', '.join(wrong)}")
    return dict(each.split("=", 1) for each in given)


def _numbers(
    context: click.Context, option: click.Parameter, given: Sequence[str]
) -> dict[str, int]:
    pairs = _pairs(context, option, given)
    if wrong := [f"{name}={n}" for name, n in pairs.items() if not n.isdecimal()]:
        raise click.BadParameter(f"expected {option.metavar}; got {', '.join(wrong)}")
    return {name: int(n) for name, n in pairs.items()}


@click.command(help=__doc__.splitlines()[0])
@click.argument("tournament", metavar="FILE.toml", type=click.Path(path_type=Path))
@click.argument("results", metavar="RUN/results", type=click.Path(path_type=Path))
@click.option("--out", required=True, metavar="NAME", type=click.Path(path_type=Path))
@click.option("--panel", "panels", multiple=True, metavar="TITLE=PATTERN,...", callback=_pairs)
@click.option("--gradients", "told", multiple=True, metavar="NAME=N", callback=_numbers)
def main(
    tournament: Path, results: Path, out: Path, panels: dict[str, str], told: dict[str, int]
) -> None:
    """Write figure and table."""
    panels = panels or {"all defenses": "*"}
    found = list(points(tournament, results, list(panels.values()), told))
    out.with_suffix(".svg").write_text(figure(found, list(panels)), encoding="utf-8")
    with out.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["attack", "gradients", *panels])
        rows.writerows([p.name, p.gradients, *(f"{s:.4f}" for s in p.scores)] for p in found)


def points(
    file: Path, results: Path, panels: Sequence[str], told: Mapping[str, int]
) -> Iterator[Point]:
    """Every attack that leads away from labels and whose gradients are known."""
    wrong, right = (matrix(results / f"{kind}_matrix.csv") for kind in ("error", "accuracy"))
    groups = [[d for d in wrong if fits(d, panel)] for panel in panels]
    for source in load_entries(load_tournament(file)).sources:
        if source.role != "attack" or is_targeted(source):
            continue
        gradients = told[source.name] if source.name in told else counted(source)
        if gradients is None:
            print(f"{source.name}: cannot be counted; say it with --gradients {source.name}=N")
            continue
        cells = [[(wrong[d][source.name], right[d][source.name]) for d in g] for g in groups]
        scores = [sum(w for w, _ in g) / sum(w + r for w, r in g) for g in cells]
        yield Point(name=source.name, gradients=gradients, scores=scores)


def matrix(path: Path) -> Matrix:
    """Counts by defense and attack."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row[""]: {name: int(cell) for name, cell in row.items() if name} for row in rows}


def fits(name: str, panel: str) -> bool:
    """Whether a defense is one of a panel's."""
    return any(fnmatchcase(name, pattern) for pattern in panel.split(","))


def is_targeted(source: EntrySource) -> bool:
    """Whether an entry, which is a folder, aims."""
    kind: str = json.loads((source.path / FILE_NAME).read_text(encoding="utf-8"))["type"]
    return kind == "targeted_attack"


def counted(source: EntrySource) -> int | None:
    """How many gradients an attack asks for each image; None where this cannot be seen."""
    if source.path.name in ASK_NOBODY:
        return 0
    with TemporaryDirectory() as made:
        folder = Path(made) / "entry"
        shutil.copytree(source.path, folder)
        for inside, outside in source.files.items():
            shutil.copy(outside, folder / inside)
        if (folder / ATTACK_FILE).exists():
            return counted_of_library(folder)
        return counted_of_network(folder) if (folder / NETWORK).exists() else None


def counted_of_library(folder: Path) -> int:
    """By what the surrogates see of one image while autograd watches."""
    attack = load_attack(folder)
    member = attack.surrogates.members[0]
    assert isinstance(member, Classifier)
    seen = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...], _logits: Tensor) -> None:
        nonlocal seen
        seen += len(inputs[0]) if torch.is_grad_enabled() and inputs[0].requires_grad else 0

    handle = member.register_forward_hook(count)
    height, width = member.feed.input_size or (SIDE, SIDE)
    attack.untargeted(torch.rand(1, 3, height, width), EPS)
    handle.remove()
    return seen


def counted_of_network(folder: Path) -> int:
    """By what its hint and its gradients by the pixel ask for."""
    generator = load_generator(folder)
    hint = 0 if generator.hint is None else generator.passes
    return hint + (0 if generator.gradients is None else generator.gradients.count)


def figure(found: Sequence[Point], titles: Sequence[str]) -> str:
    """SVG of a panel for each title."""
    width = WIDTH * len(titles)
    panels = [
        f'<g transform="translate({WIDTH * number})">{panel(found, number, title)}</g>'
        for number, title in enumerate(titles)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
            'font-family="sans-serif" font-size="9">',
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>',
            *panels,
            "</svg>",
            "",
        ]
    )


def panel(found: Sequence[Point], number: int, title: str) -> str:
    """Axes, the line and the dots of one panel, as wide as `WIDTH`."""
    scores = [100 * score for point in found for score in point.scores]
    low, high = 10 * math.floor(min(scores) / 10), 10 * math.ceil(max(scores) / 10)
    up = Scale(low, high, FLOOR, TOP)
    most = max(2, *(point.gradients for point in found))
    right = WIDTH - RIGHT - ROOM_FOR_NAMES
    along = Scale(0, math.log(most), ONE_AT, right)

    def across(gradients: int) -> float:
        return along(math.log(gradients)) if gradients else NONE_AT

    lines = [
        f'<path class="axis" d="M{LEFT} {up(level)}H{right}"/>'
        f'<text x="{LEFT - 4}" y="{up(level) + 3}" text-anchor="end">{level} %</text>'
        for level in range(low, high + 1, 10)
    ]
    marks = [
        f'<text x="{across(n)}" y="{FLOOR + 13}" text-anchor="middle">{n}</text>'
        for n in (0, *(10**i for i in range(math.floor(math.log10(most)) + 1)))
    ]
    places = [(across(p.gradients), up(100 * p.scores[number])) for p in found]
    best = leaders(places)
    lines_of = dict(zip(best, name_lines(best), strict=True))
    for point, place in zip(found, places, strict=True):
        if point.is_network and place not in lines_of:
            lines_of[place] = line_below(place[1], lines_of.values())
    dots = [
        dot(point, *place, lines_of.get(place)) for point, place in zip(found, places, strict=True)
    ]
    return "".join(
        [
            f'<text x="{LEFT}" y="10" font-weight="bold">{escape(title)}</text>',
            *lines,
            *marks,
            f'<text x="{(LEFT + right) / 2}" y="{FLOOR + 28}" text-anchor="middle">'
            "gradients of the surrogates for an image</text>",
            f'<path class="line" d="{staircase(best)}H{right}"/>',
            *dots,
        ]
    )


def leaders(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that none beats further left; up is small."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found


def staircase(best: Sequence[tuple[float, float]]) -> str:
    """A path from one to the next, first to the right, then up."""
    (x, y), *others = best
    return f"M{x} {y}" + "".join(f"H{right}V{up}" for right, up in others)


def name_lines(best: Sequence[tuple[float, float]]) -> list[float]:
    """Where the names of leaders stand: above them, and a line above that of the one before."""
    found: list[float] = []
    for _, y in best:
        found.append(min([y - 3, *(before - LINE for before in found[-1:])]))
    return found


def line_below(y: float, taken: Iterable[float]) -> float:
    """Where a name below its dot stands: on the first line that meets none of those taken."""
    lines, line = [*taken], y + LINE
    while any(abs(line - other) < LINE for other in lines):
        line += LINE
    return line


def dot(point: Point, x: float, y: float, name_line: float | None) -> str:
    """A dot that tells a pointer its attack, and its name on its line, where it has one."""
    name = escape(point.name)
    drawn = (
        f'<circle class="{"network" if point.is_network else "other"}" cx="{x}" cy="{y}" r="2.5">'
        f"<title>{name}: {point.gradients}</title></circle>"
    )
    if name_line is not None:
        drawn += f'<text x="{x + 4}" y="{name_line}" font-size="8">{name}</text>'
    return drawn


if __name__ == "__main__":
    main()

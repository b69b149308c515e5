"""A tournament of one's own entry and a few others, to be played at home.

Images, budgets, limits and the other entries are those of a tournament file, by default of the
samples on digits in a checkout of advcomp. What is played is a tournament file, too, in the run's
folder: the referee is the same, and what has not changed runs once.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import advcomp
from advcomp.errors import InvalidConfig
from advcomp.rules.image_archive import IMAGE_TAR
from advcomp.rules.submission import default_name
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.competitor.submit import wrong_words
from advcomp.tournament.competitor.validate import Target
from advcomp.tournament.config import Tournament, load_tournament
from advcomp.tournament.entry.entries import EntrySource, Role, listed_entries
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.state import EntryState

__all__ = ["Practice", "PracticeOptions", "prepare"]

SAMPLES = Path("tournament", "digits", "digits.toml")
"""The tournament of samples, as seen from a checkout of advcomp."""
DEFENSES = ("plain", "random_resize_pad", "adversarially_trained")
ATTACKS = {
    SubmissionType.ATTACK: ("noop", "random_noise", "fgsm", "momentum_iterative_fgsm"),
    SubmissionType.TARGETED_ATTACK: ("targeted_iterative",),
    SubmissionType.DEFENSE: ("noop", "fgsm", "momentum_iterative_fgsm", "attack_network"),
}
"""The samples that an entry of a type plays with: an attack's rivals, a defense's opponents."""
IMAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PracticeOptions:
    """What the command line of `practice` says.

    Args:
        entry: A folder or an archive.
        name: What it is called; by default as its folder or archive is.
        against: The tournament file whose entries it meets; by default the samples'.
        opponents: Names of those of the other track that it meets; by default all of the file's,
            and a few of the samples.
        images: How many it is tried on; by default 100, or as many as there are.
        max_epsilons: Budgets instead of the file's.
        out: The run's folder.
        backend, trusting, jobs: As `run` has them.
    """

    entry: Path
    name: str | None = None
    against: Path | None = None
    opponents: tuple[str, ...] = ()
    images: int | None = None
    max_epsilons: tuple[int, ...] = ()
    out: Path | None = None
    backend: str | None = None
    trusting: bool = False
    jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """What is going to be played, as far as it can be told without looking into the entry.

    Args:
        target: The entry, and the images, budgets and limits that it is tried with.
        run: The run's folder.
        listed: Who may take part besides.
        picked: Names of opponents that were asked for.
        few: Whether a few of those listed are enough.
    """

    target: Target
    run: Path
    listed: tuple[EntrySource, ...]
    picked: tuple[str, ...]
    few: bool

    @property
    def source(self) -> EntrySource:
        """The entry itself."""
        return self.target.sources[0]

    def settings(self, entry: EntryState) -> Tournament:
        """Images, budgets and limits; where containers are used, the entry may have its own."""
        tournament = self.target.tournament
        if entry.container in (None, IMAGE_TAR, *tournament.sandbox.images):
            return tournament
        images = (*tournament.sandbox.images, entry.container)
        sandbox = tournament.sandbox.model_copy(update={"images": images})
        return tournament.model_copy(update={"sandbox": sandbox})

    def players(self, entry: EntryState) -> dict[Role, list[EntrySource]]:
        """Who plays, now that it is known what the entry is; itself last in its list.

        Raises:
            InvalidConfig: It has no opponent, or not those that were asked for.
        """
        own, other = (Role.ATTACK, Role.DEFENSE)[:: 1 if entry.is_attack else -1]
        chosen = (*ATTACKS[entry.type], *DEFENSES) if self.few else None
        rivals = (rival for rival in self._of(own, chosen) if rival.name != self.source.name)
        self._refuse(other)
        return {
            own: [*rivals, self.source],
            other: list(self._of(other, self.picked or chosen)),
        }

    def _refuse(self, role: Role) -> None:
        """Refuse to play against what is not there, or is called like the entry."""
        file = self.target.tournament.path
        names = sorted(source.name for source in self._of(role))
        if not names:
            raise InvalidConfig(f"{file}: expected at least one {role} to play against; got none")
        if unknown := [name for name in self.picked if name not in names]:
            there = ", ".join(names)
            raise InvalidConfig(
                *(f'{file}: there is no {role} "{name}"; there are {there}' for name in unknown)
            )
        if self.source.name in names:
            raise InvalidConfig(
                f'{file}: "{self.source.name}" is the name of a {role} there; give your entry '
                "another one with --name"
            )

    def _of(self, role: Role, names: Collection[str] | None = None) -> Iterator[EntrySource]:
        for source in self.listed:
            if source.role is role and (names is None or source.name in names):
                yield source


def prepare(options: PracticeOptions) -> Practice:
    """Find out what is going to be played.

    Raises:
        InvalidConfig: There is no such entry or file, or something is wrong with them.
        InvalidDataset: The file's dataset is wrong.
    """
    source = _source(options)
    tournament = load_tournament(options.against or _samples())
    asked = _with(tournament, options.images or tournament.dataset.images, options.max_epsilons)
    dataset = open_dataset(asked)
    return Practice(
        target=Target(
            tournament=_with(asked, options.images or min(IMAGES, len(dataset))),
            sources=(source,),
            height=dataset.height,
            width=dataset.width,
            any_local=True,
        ),
        run=(options.out or Path("runs", _folder(source.name, options))).resolve(),
        listed=listed_entries(tournament).sources,
        picked=options.opponents,
        few=options.against is None,
    )


def _source(options: PracticeOptions) -> EntrySource:
    path = options.entry.resolve()
    if not path.exists():
        raise InvalidConfig(
            f"{options.entry}: expected a submission (a folder, .zip, .tar or .tar.gz); there is "
            "nothing"
        )
    source = EntrySource(path=path, name=options.name or default_name(path), role=None)
    if problems := list(wrong_words(source)):
        raise InvalidConfig(*problems)
    return source


def _samples() -> Path:
    """The file of the samples: of the checkout that runs, or that one is in."""
    checkouts = Path(advcomp.__file__).parents[1], Path()
    for checkout in checkouts:
        if (checkout / SAMPLES).is_file():
            return checkout / SAMPLES
    raise InvalidConfig(
        f"practice: expected the samples ({SAMPLES}) of a checkout of advcomp; there is none "
        "here: change to one, or name the tournament file to play against with --against FILE"
    )


def _with(tournament: Tournament, images: int | None, budgets: tuple[int, ...] = ()) -> Tournament:
    """A tournament of so many images and, where given, of these budgets."""
    dataset = tournament.dataset.model_copy(update={"images": images})
    threat = tournament.threat
    if budgets:
        threat = threat.model_copy(update={"max_epsilons": tuple(dict.fromkeys(budgets))})
    return tournament.model_copy(update={"dataset": dataset, "threat": threat})


def _folder(name: str, options: PracticeOptions) -> str:
    """A folder for an entry and what a run may not change: images, budgets, opponents' file."""
    parts = [f"practice-{name}"]
    if options.against is not None:
        parts.append(options.against.stem)
    if options.images is not None:
        parts.append(f"{options.images}-images")
    if options.max_epsilons:
        parts.append("at-" + "-".join(map(str, options.max_epsilons)))
    if options.backend is not None:
        parts.append(options.backend)
    return "-".join(parts)

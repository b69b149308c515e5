"""A report's material as one competitor may see it: others are numbers, and secrets are gone.

* Others are called by track and place ("attack 3"), so that a name says only what the leaderboard
  says anyway; among entries of the same rank and score the order comes from a hash of what only
  the organiser knows, not from their names.
* Digests, teams and notes of others, the dataset's digest and seed, versions and the machine stay
  with the organiser, and so do all images: nothing in a tournament says which round's are public.
* What the referee noted about a run names hidden images and files that the run chose the names of,
  so it is left out whatever the tournament shows of logs. What stands there instead are reasons
  for invalid outputs: words of a closed list, and how many there are.
* Of the manifest only what `_MANIFEST` lists is kept: whoever adds to it must decide to show it.
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from advcomp.errors import InvalidConfig
from advcomp.rules.printable import printable
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.wording import without_host_paths
from advcomp.scoring.results import Entry
from advcomp.scoring.scores import EntryScore, Scores
from advcomp.scoring.standings import Standings

_MANIFEST = {
    "advcomp": None,
    "dataset": ("images", "height", "width"),
    "threat": None,
    "defense": None,
    "limits": None,
    "scoring": None,
    "sandbox": ("name", "limit_tier"),
    "logs": None,
}
"""What is shown of the manifest: a key, and which keys of its table (None: all)."""


def for_competitor(material: Material, name: str) -> Material:
    """The material of one competitor's report.

    Raises:
        InvalidConfig: There is no entry of this name.
    """
    standings = material.standings
    names = [score.entry.name for score in standings.scores.entries]
    if name not in names:
        raise InvalidConfig(
            f'--for: expected the name of an entry; got "{name}"; there are {", ".join(names)}'
        )
    entries = _anonymous(standings.scores, name)
    return replace(
        material,
        standings=renamed(standings, entries),
        jobs=[
            replace(job, note=material.reasons.get(job.job, ""))
            for job in material.jobs
            if job.submission == name
        ],
        manifest=shown_manifest(material.manifest),
        logs={
            job.job: without_host_paths(printable(material.logs[job.job])).encode()
            for job in material.jobs
            if job.submission == name and job.job in material.logs
        },
        samples=(),
        without_samples="",
        class_names={},
    )


def _anonymous(scores: Scores, name: str) -> dict[str, Entry]:
    """Every entry by its real name: the competitor's without host paths, others as numbers."""
    entries: dict[str, Entry] = {}
    for track in {score.entry.type for score in scores.entries}:
        ranked = sorted((s for s in scores.entries if s.entry.type is track), key=_place)
        for number, score in enumerate(ranked, start=1):
            entry = score.entry
            entries[entry.name] = (
                replace(entry, notes=tuple(map(without_host_paths, entry.notes)))
                if entry.name == name
                else replace(
                    entry,
                    name=f"{track.replace('_', ' ')} {number}",
                    digest="",
                    team=None,
                    notes=(),
                    display=None,
                    url=None,
                )
            )
    return entries


def _place(score: EntryScore) -> tuple[float, str]:
    secret = f"{score.entry.digest} {score.entry.name}"
    return score.rank or float("inf"), sha256(secret.encode()).hexdigest()


def renamed(standings: Standings, entries: Mapping[str, Entry]) -> Standings:
    """Standings with other entries in place of those of these names."""
    results, scores = standings.results, standings.scores
    return replace(
        standings,
        results=replace(
            results,
            attacks=tuple(entries[entry.name] for entry in results.attacks),
            defenses=tuple(entries[entry.name] for entry in results.defenses),
        ),
        scores=replace(
            scores,
            attacks=tuple(replace(s, entry=entries[s.entry.name]) for s in scores.attacks),
            defenses=tuple(replace(s, entry=entries[s.entry.name]) for s in scores.defenses),
            expelled=tuple(entries[expelled].name for expelled in scores.expelled),
        ),
    )


def shown_manifest(manifest: Mapping[str, object]) -> dict[str, object]:
    """What of the manifest others than the organiser may see."""
    shown: dict[str, object] = {}
    for key, inner in _MANIFEST.items():
        value = manifest.get(key)
        if isinstance(value, Mapping) and inner is not None:
            value = {name: value[name] for name in inner if name in value}
        if value is not None:
            shown[key] = value
    return shown

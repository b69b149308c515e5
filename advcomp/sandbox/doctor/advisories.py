"""Known ways out of sandboxes, by version: what `advcomp doctor` warns about.

`advisories.toml` is a snapshot with a date, not a scanner. Distributions fix old versions and keep
their numbers, so a number alone proves little: where a package's changelog names the flaw, it is
fixed; where it does not, the package "may have" it.
"""

import datetime
import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field

from advcomp.rules.toml_fields import one_of
from advcomp.rules.toml_file import Table, read_toml

__all__ = ["Advisory", "Version", "age_warning", "changelog_of", "snapshot", "warnings"]

PACKAGES = {
    "bwrap": "bubblewrap",
    "crun": "crun",
    "docker": "docker.io",
    "nvidia-ctk": "nvidia-container-toolkit",
    "podman": "podman",
    "runc": "runc",
    "runsc": "runsc",
}
"""Debian's packages of the programs below."""
DOCUMENTATION = Path("/usr/share/doc")
SUFFIXED = re.compile(r"\d(?:[+~](?:ds|dfsg|really)|-\d|ubuntu|deb\d|\.(?:el|fc)\d)")
"""What a distribution adds to a version."""
DATED = re.compile(r"(?<!\d)(?P<date>20\d{6})(?:\.(?P<again>\d+))?")
NUMBERED = re.compile(
    r"(?<![\d.])(?P<major>\d+)\.(?P<minor>\d+)(?:\.(?P<patch>\d+))?"
    r"(?:[-~+.]?rc\.?(?P<candidate>\d+))?"
)
FINAL = 1 << 30
MOST_AGE = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version that can be compared; a release candidate comes before its release.

    gVisor's are dates, which stand in `major`.
    """

    major: int
    minor: int = 0
    patch: int = 0
    candidate: int = FINAL

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The first version in what a program says of itself; None where there is none."""
        if dated := DATED.search(text):
            return cls(int(dated["date"]), int(dated["again"] or 0))
        found = NUMBERED.search(text)
        if found is None:
            return None
        candidate = FINAL if found["candidate"] is None else int(found["candidate"])
        return cls(int(found["major"]), int(found["minor"]), int(found["patch"] or 0), candidate)

    def is_in_branch_of(self, other: "Version") -> bool:
        """Whether both are of one series, which gets fixes of its own."""
        return (self.major, self.minor) == (other.major, other.minor)


class Advisory(Table):
    """Flaws of one program.

    Args:
        program: A key of `PACKAGES`.
        flaws: Their CVE numbers.
        what: What a hostile image or program can do.
        fixed: The first version without them, for each series that got one.
        since: The first version with them.
        backports: Versions of distributions that are fixed though their number is older.
    """

    program: str = Field(description=one_of(PACKAGES))
    flaws: tuple[str, ...] = Field(strict=False, description="a list of CVE numbers")
    what: str = Field(description="a sentence")
    fixed: tuple[str, ...] = Field(strict=False, description="a list of versions")
    since: str = Field(default="0.0", description="a version")
    backports: tuple[str, ...] = Field(default=(), strict=False, description="a list of versions")

    def concerns(self, version: Version) -> bool:
        """Whether this version of the program, as its authors made it, has the flaws."""
        fixed = [Version.parse(text) or version for text in self.fixed]
        since = Version.parse(self.since) or version
        return since <= version < max(fixed) and not any(
            version.is_in_branch_of(first) and version >= first for first in fixed
        )


class Snapshot(Table):
    """The content of `advisories.toml`: what was known, of which programs, when."""

    date: datetime.date = Field(description="a date")
    source: str = Field(description="where to look it up")
    advisory: tuple[Advisory, ...] = Field(strict=False, description="a list of tables")


@cache
def snapshot() -> Snapshot:
    """What this version of advcomp knows."""
    return read_toml(Path(__file__).with_suffix(".toml"), Snapshot)


def age_warning(today: datetime.date) -> str | None:
    """What to know where the snapshot is older than a year; None where it is not."""
    made = snapshot().date
    if today - made <= MOST_AGE:
        return None
    return (
        f"what is known of flaws ends on {made}, more than a year ago; remedy: install a newer "
        f"advcomp, or look the versions up yourself: {snapshot().source}"
    )


def warnings(program: str, said: str, changelog: str | None) -> list[str]:
    """A line for each known way out of this version of a program, with the remedy.

    Args:
        program: A key of `PACKAGES`.
        said: What it says of its version; the distribution's number in it helps.
        changelog: Of the package that it came with; None: unknown, or no package.
    """
    version = Version.parse(said)
    if version is None:
        return [f"{program}: its version cannot be read from {said.strip()[:80]!r}"]
    packaged = changelog is not None or SUFFIXED.search(said) is not None
    found = []
    for advisory in snapshot().advisory:
        if advisory.program != program or not advisory.concerns(version):
            continue
        if any(backport in said for backport in advisory.backports):
            continue
        open_flaws = [flaw for flaw in advisory.flaws if flaw not in (changelog or "")]
        if open_flaws:
            found.append(_warning(advisory, open_flaws, version, packaged=packaged))
    return found


def _warning(advisory: Advisory, flaws: Iterable[str], version: Version, *, packaged: bool) -> str:
    has = "may have" if packaged else "has"
    package = ", or a package whose changelog names the fix" if packaged else ""
    return (
        f"{advisory.program} {_shown(version)} {has} {', '.join(flaws)}: {advisory.what}; "
        f"remedy: install {' or '.join(advisory.fixed)} or newer{package}"
    )


def _shown(version: Version) -> str:
    """As short as it is unambiguous."""
    if version.major > 20_000_000:
        return f"{version.major}.{version.minor}"
    candidate = "" if version.candidate == FINAL else f"-rc.{version.candidate}"
    return f"{version.major}.{version.minor}.{version.patch}{candidate}"


def changelog_of(program: str, documentation: Path = DOCUMENTATION) -> str | None:
    """The distribution's changelog of a program; None where it is not kept (or there is none)."""
    folder = documentation / PACKAGES[program]
    files = sorted(folder.glob("changelog.Debian*.gz"))
    if not files:
        return None
    return "".join(gzip.decompress(file.read_bytes()).decode(errors="replace") for file in files)

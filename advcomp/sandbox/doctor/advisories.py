"""Known ways out of sandboxes, by version: what `advcomp doctor` warns about.

The table is a snapshot (November 2026), not a scanner: flaws through which a hostile image or
program gets at the host. Distributions fix old versions and keep their numbers, so a number alone
proves little: where a package's changelog names the flaw, it is fixed; where it does not, the
package "may have" it.
"""

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Advisory", "Version", "changelog_of", "warnings"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """Flaws of one program.

    Args:
        program: A key of `PACKAGES`.
        flaws: Their CVE numbers.
        what: What a hostile image or program can do.
        fixed: The first version without them, for each series that got one.
        since: The first version with them.
        backports: Versions of distributions that are fixed though their number is older.
    """

    program: str
    flaws: tuple[str, ...]
    what: str
    fixed: tuple[str, ...]
    since: str = "0.0"
    backports: tuple[str, ...] = ()

    def concerns(self, version: Version) -> bool:
        """Whether this version of the program, as its authors made it, has the flaws."""
        fixed = [Version.parse(text) or version for text in self.fixed]
        since = Version.parse(self.since) or version
        return since <= version < max(fixed) and not any(
            version.is_in_branch_of(first) and version >= first for first in fixed
        )


ADVISORIES = (
    Advisory(
        program="runc",
        flaws=("CVE-2019-5736",),
        what="a program overwrites the host's runc",
        fixed=("1.0.0-rc7",),
    ),
    Advisory(
        program="runc",
        flaws=("CVE-2024-21626",),
        what="an image whose WORKDIR is under /proc/self/fd sees the host's files",
        fixed=("1.1.12",),
        backports=("1.1.5+ds1-1+deb12u1", "1.0.0~rc93+ds1-5+deb11u3"),
    ),
    Advisory(
        program="runc",
        flaws=("CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"),
        what="links put in place during the start make files of /proc writable",
        fixed=("1.2.8", "1.3.3", "1.4.0-rc.3"),
    ),
    Advisory(
        program="runc",
        flaws=("CVE-2026-41579",),
        what="an image whose /dev is a link makes runc write a little to the host",
        fixed=("1.3.6", "1.4.3", "1.5.0-rc.3"),
    ),
    Advisory(
        program="crun",
        flaws=("CVE-2019-18837",),
        what="links in an image lead to the host's files",
        fixed=("0.10.5",),
    ),
    Advisory(
        program="crun",
        flaws=("CVE-2026-88264", "CVE-2026-88265"),
        what="links in an image, at /dev/console or /dev/null, make crun write to the host",
        fixed=("1.30",),
    ),
    Advisory(
        program="podman",
        flaws=("CVE-2026-94603",),
        what="an annotation of an image (advcomp refuses it) switches off the sandbox",
        fixed=("5.8.8", "6.1.3"),
        since="4.4.0",
    ),
    Advisory(
        program="podman",
        flaws=("CVE-2025-11395",),
        what="loading a crafted image.tar writes files of the host",
        fixed=("5.8.7", "6.1.2"),
    ),
    Advisory(
        program="podman",
        flaws=("CVE-2026-57231",),
        what="an image's variable without a value (advcomp refuses it) is given the host's",
        fixed=("5.8.4", "6.0.0"),
        since="1.8.1",
    ),
    Advisory(
        program="podman",
        flaws=("CVE-2026-55686",),
        what="a link in an image, at its WORKDIR, makes a folder on the host",
        fixed=("5.7.1",),
        since="3.0.0",
    ),
    Advisory(
        program="podman",
        flaws=("CVE-2024-1753",),
        what="building a crafted Dockerfile mounts the host's files",
        fixed=("4.9.4", "5.0.1"),
        since="4.0.0",
    ),
    Advisory(
        program="docker",
        flaws=("CVE-2019-14271",),
        what="`docker cp` (which advcomp never does) runs code of the container as root",
        fixed=("19.03.1",),
        since="19.03.0",
    ),
    Advisory(
        program="docker",
        flaws=("CVE-2024-23651", "CVE-2024-23652", "CVE-2024-23653"),
        what="building a crafted Dockerfile with BuildKit reaches the host's files",
        fixed=("25.0.2",),
        since="18.09.0",
    ),
    Advisory(
        program="docker",
        flaws=("CVE-2026-41567",),
        what="copying into a container (which advcomp never does) runs its program on the host",
        fixed=("29.5.1",),
    ),
    Advisory(
        program="bwrap",
        flaws=("CVE-2020-5291",),
        what="bwrap installed setuid makes any user root",
        fixed=("0.4.1",),
        since="0.4.0",
    ),
    Advisory(
        program="bwrap",
        flaws=("CVE-2024-42472",),
        what="a box swaps a folder that the next one is shown (advcomp shows none such)",
        fixed=("0.10.0",),
        backports=("0.8.0-2+deb12u1",),
    ),
    Advisory(
        program="bwrap",
        flaws=("CVE-2026-41163",),
        what="bwrap installed setuid makes any user root",
        fixed=("0.11.2",),
        since="0.11.0",
        backports=("0.11.0-2+deb13u1",),
    ),
    Advisory(
        program="runsc",
        flaws=("CVE-2026-96812",),
        what="a character device that the container is lent leads to the host's root",
        fixed=("20260928.0",),  # its notes name no flaws; the first after this one was published
    ),
    Advisory(
        program="nvidia-ctk",
        flaws=("CVE-2024-0132",),
        what="an image gets at the host's files (not where CDI is used)",
        fixed=("1.16.2",),
    ),
    Advisory(
        program="nvidia-ctk",
        flaws=("CVE-2025-23359",),
        what="an image gets at the host's files",
        fixed=("1.17.4",),
    ),
    Advisory(
        program="nvidia-ctk",
        flaws=("CVE-2025-23266",),
        what="an image's environment runs code as the host's root",
        fixed=("1.17.8",),
    ),
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
    for advisory in ADVISORIES:
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

"""Versions as programs print them, and the known ways out that they have."""

import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from advcomp.sandbox.doctor.advisories import (
    Version,
    age_warning,
    changelog_of,
    snapshot,
    warnings,
)

RUNC_OF_DEBIAN_12 = """runc version 1.1.5+ds1
commit: 1.1.5+ds1-1+deb12u1
spec: 1.0.2-dev
go: go1.19.8
libseccomp: 2.5.4
"""
RUNC_OF_DOCKER = """runc version 1.3.4
commit: v1.3.4-0-gd6d73eb8
spec: 1.2.1
go: go1.24.10
libseccomp: 2.5.5
"""
RUNSC_OF_ITS_MAKERS = "runsc version release-20240408.0\nspec: 1.1.0-rc.1\n"
PROCFS = ("CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (RUNC_OF_DEBIAN_12, Version(1, 1, 5)),
        (RUNC_OF_DOCKER, Version(1, 3, 4)),
        ("runc version 1.4.0-rc.3\n", Version(1, 4, 0, 3)),
        ("runc version 1.0.0~rc93+ds1\n", Version(1, 0, 0, 93)),
        ("crun version 1.8.1\ncommit: f8a096be060b22cc\n", Version(1, 8, 1)),
        ("crun version 1.30\n", Version(1, 30)),
        ("podman version 4.3.1\n", Version(4, 3, 1)),
        ("20.10.24+dfsg1\n", Version(20, 10, 24)),
        ("29.5.1\n", Version(29, 5, 1)),
        ("bubblewrap 0.8.0\n", Version(0, 8)),
        ("runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n", Version(20221219)),
        (RUNSC_OF_ITS_MAKERS, Version(20240408)),
        ("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: 1a2b\n", Version(1, 17, 8)),
        ("NVIDIA Container Toolkit CLI version 1.18.0-rc.1\n", Version(1, 18, 0, 1)),
    ],
)
def test_versions_are_read_as_programs_print_them(said: str, version: Version) -> None:
    assert Version.parse(said) == version


def test_a_release_candidate_comes_before_its_release() -> None:
    assert Version(1, 4, 0, 2) < Version(1, 4, 0, 3) < Version(1, 4, 0) < Version(1, 4, 1, 1)


@pytest.mark.parametrize(
    ("version", "open_to"),
    [
        ("1.1.11", ("CVE-2024-21626", *PROCFS, "CVE-2026-41579")),
        ("1.1.12", (*PROCFS, "CVE-2026-41579")),
        ("1.2.7", (*PROCFS, "CVE-2026-41579")),
        ("1.2.8", ("CVE-2026-41579",)),
        ("1.3.2", (*PROCFS, "CVE-2026-41579")),
        ("1.3.3", ("CVE-2026-41579",)),
        ("1.3.6", ()),
        ("1.4.0-rc.2", (*PROCFS, "CVE-2026-41579")),
        ("1.4.0-rc.3", ("CVE-2026-41579",)),
        ("1.4.3", ()),
        ("1.5.0", ()),
        ("2.0.0", ()),
    ],
)
def test_each_series_of_runc_has_its_own_fixes(version: str, open_to: tuple[str, ...]) -> None:
    told = "\n".join(warnings("runc", f"runc version {version}\n", None))
    known = ("CVE-2024-21626", *PROCFS, "CVE-2026-41579")
    assert tuple(flaw for flaw in known if flaw in told) == open_to
    assert ("runc" in told) == bool(open_to)


def test_what_a_distribution_fixed_without_a_new_number_is_not_held_against_it() -> None:
    without_changelog = "\n".join(warnings("runc", RUNC_OF_DEBIAN_12, None))
    assert "CVE-2024-21626" not in without_changelog
    assert "runc 1.1.5 may have CVE-2025-31133, CVE-2025-52565, CVE-2025-52881" in (
        without_changelog
    )
    changelog = "runc (1.1.5+ds1-1+deb12u2)\n  * Fix CVE-2025-31133, CVE-2025-52881\n"
    told = "\n".join(warnings("runc", RUNC_OF_DEBIAN_12, changelog))
    assert "may have CVE-2025-52565: " in told


def test_what_its_makers_release_has_flaws_without_may() -> None:
    (told,) = warnings("bwrap", "bubblewrap 0.9.0\n", None)
    assert told.startswith("bwrap 0.9.0 has CVE-2024-42472: ")
    assert told.endswith("; remedy: install 0.10.0 or newer")


def test_flaws_begin_with_a_version_too() -> None:
    told = "\n".join(warnings("podman", "podman version 3.4.4\n", None))
    assert "CVE-2024-1753" not in told  # since 4.0
    assert "CVE-2026-94603" not in told  # since 4.4
    assert "CVE-2025-11395" in told


@pytest.mark.parametrize(
    ("version", "open_to"),
    [
        ("4.4.0", {"CVE-2026-94603", "CVE-2025-11395", "CVE-2026-57231"}),
        ("5.8.3", {"CVE-2026-94603", "CVE-2025-11395", "CVE-2026-57231"}),
        ("5.8.6", {"CVE-2026-94603", "CVE-2025-11395"}),
        ("5.8.7", {"CVE-2026-94603"}),
        ("5.8.8", set()),
        ("6.0.0", {"CVE-2026-94603", "CVE-2025-11395"}),
        ("6.1.2", {"CVE-2026-94603"}),
        ("6.1.3", set()),
    ],
)
def test_each_series_of_podman_has_its_own_fixes(version: str, open_to: set[str]) -> None:
    told = "\n".join(warnings("podman", f"podman version {version}\n", None))
    known = {"CVE-2026-94603", "CVE-2025-11395", "CVE-2026-57231"}
    assert {flaw for flaw in known if flaw in told} == open_to


def test_a_version_that_cannot_be_read_is_told() -> None:
    assert warnings("crun", "crun from somewhere\n", None) == [
        "crun: its version cannot be read from 'crun from somewhere'"
    ]


def test_changelogs_are_found_where_debian_keeps_them(tmp_path: Path) -> None:
    assert changelog_of("docker", tmp_path) is None
    (tmp_path / "docker.io").mkdir()
    file = tmp_path / "docker.io/changelog.Debian.amd64.gz"
    file.write_bytes(gzip.compress(b"docker.io (20.10.24)\n  * CVE-2024-41110\n"))
    assert "CVE-2024-41110" in (changelog_of("docker", tmp_path) or "")


def test_a_snapshot_of_more_than_a_year_is_told() -> None:
    made = snapshot().date
    assert age_warning(made + timedelta(days=365)) is None
    told = age_warning(made + timedelta(days=366)) or ""
    assert told.startswith(
        f"what is known of flaws ends on {made}, more than a year ago; remedy: "
    )


def test_every_advisory_can_concern_a_version() -> None:
    assert len(snapshot().advisory) >= 21
    for advisory in snapshot().advisory:
        since = Version.parse(advisory.since)
        assert since is not None
        assert all(flaw.startswith("CVE-20") for flaw in advisory.flaws)
        assert advisory.concerns(max(since, Version(0, 0, 1)))
        assert not any(advisory.concerns(Version.parse(f) or since) for f in advisory.fixed[-1:])

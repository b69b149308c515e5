"""What `advcomp gc` finds and removes, and what it leaves alone."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.backends import marked

from advcomp.errors import AdvcompError
from advcomp.sandbox.box import traces
from advcomp.sandbox.doctor.garbage import Garbage, find_garbage, folder_garbage, remove_all
from advcomp.sandbox.engine.ownership import IMAGE, OWNER
from advcomp.sandbox.limits.cgroups import owner_tag
from advcomp.terminal.collecting import collect_garbage

NOBODYS_PID = 4_194_305
"""Above the highest that Linux gives."""
NAMESPACE = owner_tag().partition("-")[0]
DEAD = f"{NAMESPACE}-{NOBODYS_PID}-1"
ELSEWHERE = f"1-{NOBODYS_PID}-1"
"""A harness in another pid namespace, which cannot be looked at."""


def planted(folder: Path, name: str, tag: str | None, content: bytes = b"") -> Path:
    path = folder / name
    path.mkdir()
    if tag is not None:
        (path / "harness").write_text(tag)
    (path / "image.png").write_bytes(content)
    return path


def test_folders_of_dead_harnesses_are_found_with_their_size(tmp_path: Path) -> None:
    dead = planted(tmp_path, "dead", DEAD, bytes(5000))
    alive = planted(tmp_path, "alive", None)
    traces.mark(alive)
    elsewhere = planted(tmp_path, "elsewhere", ELSEWHERE)
    planted(tmp_path, "not ours", None)
    planted(tmp_path, "nonsense", "harness of a friend\x00")
    (tmp_path / "link").symlink_to(dead)
    (tmp_path / "file").write_text(DEAD)
    assert traces.abandoned(tmp_path) == [dead]
    assert set(traces.in_use(tmp_path)) >= {alive, elsewhere}
    (found,) = [g for g in find_garbage(tmp_path) if g.kind == "temporary folder"]
    assert (found.name, found.size_bytes) == (str(dead), 5000 + len(DEAD))
    assert remove_all([found]) == ([found], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("alive", "elsewhere", "file", "link", "nonsense", "not ours"),
    ]


def test_a_mark_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text(DEAD)
    folder = planted(tmp_path, "folder", None)
    (folder / "harness").symlink_to(tmp_path / "mark")
    assert traces.abandoned(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a folder away")
def test_folders_of_other_users_are_left_alone(tmp_path: Path) -> None:
    os.chown(planted(tmp_path, "theirs", DEAD), 12345, 12345)
    assert traces.abandoned(tmp_path) == []


def test_what_cannot_be_removed_is_told_and_the_rest_goes(tmp_path: Path) -> None:
    gone = folder_garbage("temporary folder", planted(tmp_path, "a", DEAD))
    missing = folder_garbage("temporary folder", tmp_path / "b")
    removed, problems = remove_all([missing, gone])
    assert removed == [gone]
    assert [problem.startswith(f"temporary folder {tmp_path}/b: ") for problem in problems] == [
        True
    ]


Call = Callable[..., str]


def test_an_engine_that_does_not_answer_is_told_and_one_that_is_absent_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho no daemon >&2; exit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    assert not [g for g in find_garbage(tmp_path, pass_over=told.append) if " of " in g.kind]
    assert told == ["docker info: no daemon"]


def test_nothing_is_removed_where_a_named_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "contest.toml").touch()
    wrong = [tmp_path / "contest.toml", tmp_path / "nowhere"]
    with pytest.raises(AdvcompError) as caught:
        collect_garbage([tmp_path, *wrong], dry=False)
    assert [problem.partition(": ")[0] for problem in caught.value.problems] == list(
        map(str, wrong)
    )


@pytest.fixture(params=marked("docker", "podman"))
def engine(request: pytest.FixtureRequest, require: Callable[[str], None]) -> str:
    require(request.param)
    return str(request.param)


@pytest.fixture
def call(engine: str) -> Call:
    def call(*words: str, stdin: bytes = b"") -> str:
        done = subprocess.run([engine, *words], input=stdin, capture_output=True, check=True)
        return done.stdout.decode().strip()

    return call


@pytest.fixture
def image(call: Call) -> str:
    """An image as an entry delivers one, with a file that makes it like no other."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("nonce")
        member.size = 32
        tar.addfile(member, io.BytesIO(os.urandom(32)))
    call("import", "-", "advcomp/entry:of-a-test", stdin=archive.getvalue())
    return "advcomp/entry:of-a-test"


def of_engine(engine: str, temporary: Path) -> dict[str, Garbage]:
    return {g.name: g for g in find_garbage(temporary) if g.kind.endswith(f"of {engine}")}


def test_an_engines_orphans_and_unused_images_go_and_nothing_else(
    engine: str, call: Call, image: str, tmp_path: Path
) -> None:
    def make(owner: str | None) -> str:
        labels = [] if owner is None else ["--label", f"{OWNER}={owner}"]
        return call("create", *labels, image, "/true")

    alive, theirs = make(owner_tag()), make(None)
    call("volume", "create", "of-a-test-theirs")
    identity = call("image", "inspect", "--format", "{{.Id}}", image).removeprefix("sha256:")
    try:
        for _ in range(3):  # any harness that starts on this machine meanwhile clears them away
            dead = make(DEAD)
            call("volume", "create", "--label", f"{OWNER}={DEAD}", f"of-a-test-{dead}")
            found = of_engine(engine, tmp_path)
            kinds = {name: garbage.kind for name, garbage in found.items()}
            seen = any(dead.startswith(name) for name in kinds), f"of-a-test-{dead}" in kinds
            if all(seen):
                break
        assert all(seen), (dead, kinds, call("container", "ls", "--all"))
        assert kinds[f"of-a-test-{dead}"] == f"volume of {engine}"
        for kept in (alive, theirs):
            assert not any(kept.startswith(name) for name in kinds)
        assert "of-a-test-theirs" not in kinds
        assert f"sha256:{identity}" not in kinds  # containers use it
        remove_all([g for g in found.values() if "image" not in g.kind])
        left = call("container", "ls", "--all", "--quiet", "--no-trunc").split()
        assert (dead in left, alive in left, theirs in left) == (False, True, True)
        call("rm", alive, theirs)
        unused = of_engine(engine, tmp_path)[f"sha256:{identity}"]
        assert unused.kind == f"image of {engine}"
        traces.mark(planted(tmp_path, "alive", None))
        assert f"sha256:{identity}" not in of_engine(engine, tmp_path)  # a harness is alive
        assert remove_all([unused]) == ([unused], [])
        assert call("image", "ls", "--quiet", image) == ""
    finally:
        for words in (["rm", "--force", alive, theirs], ["volume", "rm", "of-a-test-theirs"]):
            subprocess.run([engine, *words], capture_output=True, check=False)
        subprocess.run([engine, "rmi", "--force", image], capture_output=True, check=False)


def test_images_of_earlier_builds_that_lost_their_name_go(
    engine: str, call: Call, image: str, tmp_path: Path
) -> None:
    container = call("create", image, "/true")
    change = f"LABEL {IMAGE}=runtime"
    old = call("commit", "--change", change, container).splitlines()[-1]
    call("rm", container)
    try:
        assert f"sha256:{old.removeprefix('sha256:')}" in of_engine(engine, tmp_path)
    finally:
        for name in (old, image):
            subprocess.run([engine, "rmi", "--force", name], capture_output=True, check=False)

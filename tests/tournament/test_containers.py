"""Which image an entry runs in: real engines, images of a few megabytes made here."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from conftest import Require
from support.backends import CONTAINERS, marked
from support.contest import CONSTANT, COPY, Contest, write_greys
from support.tiny_image import (
    config_of,
    docker_archive,
    identity,
    layer,
    oci_layout,
    tar_of,
)

from advcomp.errors import InvalidConfig, RunConflict, SandboxTimeout
from advcomp.rules.metadata_answer import Metadata
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import ContainerImages
from advcomp.sandbox.box import process
from advcomp.sandbox.probe import open_sandbox
from advcomp.terminal.pulling import pull_in_terminal
from advcomp.tournament.competitor.validate import opened_validator
from advcomp.tournament.config import load_tournament
from advcomp.tournament.entry.containers import ImageChooser, canonical
from advcomp.tournament.store.state import load_state

NAME = f"advcomp/test-images:{os.getpid()}"
"""Of this process: tests may run side by side."""
TELL = f"env; id; pwd; cat /etc/word; {COPY}"
TRICKS = {
    "User": "root",
    "WorkingDir": "/nowhere",
    "Entrypoint": ["/bin/cat", "/etc/word"],
    "Cmd": ["x"],
    "Volumes": {"/code": {}, "/tmp": {}, "/data": {}},
    "Healthcheck": {"Test": ["CMD-SHELL", "sh -c 'echo sick'"], "Interval": 1_000_000_000},
    "OnBuild": ["RUN false"],
    "StopSignal": "SIGCONT",
    "Env": ["PATH=/bin", "LD_PRELOAD=/x.so", "NVIDIA_VISIBLE_DEVICES=all", "HOME=/"],
}


@pytest.fixture(params=marked(*CONTAINERS))
def backend(request: pytest.FixtureRequest, require: Require) -> Iterator[str]:
    name = str(request.param)
    require(name)
    yield name
    client(images_of(name), "image", "rm", "--force", NAME)


@pytest.fixture
def contest(tmp_path: Path) -> Contest:
    write_greys(tmp_path / "data", 2)
    return Contest(tmp_path)


def delivered(contest: Contest, name: str, program: str, archive: bytes, **more: object) -> Path:
    entry = contest.entry(name, program, **more)  # type: ignore[arg-type]
    (entry / "image.tar").write_bytes(archive)
    return entry


def tag(backend: str, folder: Path, word: str) -> str:
    """Let NAME mean an image that is told from others by a word; its ID."""
    layers = [layer(word)]
    config = config_of(layers)
    (folder / "tagged.tar").write_bytes(docker_archive(config, layers, NAME))
    client(images_of(backend), "load", "--input", str(folder / "tagged.tar"))
    return identity(config)


@cache
def images_of(backend: str) -> ContainerImages:
    """What the engine holds that serves a backend."""
    with closing(open_sandbox(backend)) as sandbox:
        assert sandbox.images is not None
        return sandbox.images


def client(images: ContainerImages, *words: str) -> None:
    subprocess.run([images.engine, *words], check=True, capture_output=True)


def using(images: str) -> str:
    return f"[sandbox]\nimages = {images}\n"


def file_of(contest: Contest, attack: Path, defense: Path, more: str = "") -> Path:
    file = contest.file([attack], [defense], max_epsilons=[8])
    before, _, after = file.read_text().partition("[sandbox]")
    file.write_text(f"{before}[defense]{after.partition('[defense]')[2]}{more}")
    return file


@pytest.mark.parametrize("layout", [docker_archive, oci_layout])
def test_an_entry_runs_in_the_image_that_it_delivers_and_in_nothing_that_this_asks_for(
    contest: Contest, backend: str, layout: Callable[..., bytes]
) -> None:
    layers = [layer("delivered")]
    config = config_of(layers, **TRICKS)
    attack = delivered(contest, "copy", TELL, layout(config, layers))
    plain = config_of(layers)
    defense = delivered(contest, "const", CONSTANT, layout(plain, layers), kind="defense")
    run = contest.run(file_of(contest, attack, defense), backend=backend).run
    results = contest.watcher.results
    assert {result.verdict for result in results} == {Verdict.OK}, results
    entries = {entry.name: entry for entry in load_state(run).entries}
    assert entries["copy"].image == identity(config)
    assert entries["copy"].container == "image.tar"
    assert all(word in entries["copy"].notes[0] for word in ("USER root", "VOLUME", "LD_PRELOAD"))
    assert entries["const"].image == identity(plain)
    said = log_of(run, "copy")
    shell = [line for line in said if line.startswith(("PWD=", "SHLVL=", "_=", "OLDPWD="))]
    assert {line for line in said if re.match("[A-Z_]+=", line)} == {
        *("PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8", "OMP_NUM_THREADS=1"),
        *("MKL_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "PYTHONUNBUFFERED=1"),
        f"ADVCOMP_MEMORY_BYTES={4 << 30}",
        *shell,
    }
    assert "/code" in said
    assert "delivered" in "".join(said)
    assert not any(line.startswith("uid=0") for line in said)


def test_an_image_for_another_machine_is_rejected_before_the_engine_gets_it(
    contest: Contest, backend: str
) -> None:
    layers = [layer("foreign")]
    config = {**config_of(layers), "architecture": "s390x"}
    attack = delivered(contest, "foreign", COPY, docker_archive(config, layers))
    with opened_validator(str(attack), backend) as validator:
        entry = validator.take(validator.sources[0])
    assert entry.rejected
    assert entry.notes[0].startswith("foreign/image.tar: must be for linux/")
    assert images_of(backend).find(identity(config)) is None


def test_an_image_that_the_engine_itself_refuses_is_rejected(
    contest: Contest, backend: str
) -> None:
    layers = [layer("odd")]
    config = {**config_of(layers), "created": 5}
    attack = delivered(contest, "odd", COPY, docker_archive(config, layers))
    with opened_validator(str(attack), backend) as validator:
        entry = validator.take(validator.sources[0])
    assert entry.rejected
    assert entry.notes[0].startswith("odd/image.tar: ")
    assert "does not load it" in entry.notes[0]


STUBBORN: dict[str, dict[str, bytes]] = {
    "file_for_code": {"code": b""},
    "file_for_proc": {"proc": b""},
}
"""What an image may have where containers need folders; some engines do not mind."""


def test_an_image_that_prevents_its_own_start_is_rejected_and_stops_nobody_else(
    contest: Contest, backend: str
) -> None:
    attacks = []
    for name, files in {**STUBBORN, "honest": {}}.items():
        layers = [layer("stubborn"), tar_of(files)]
        archive = docker_archive(config_of(layers), layers)
        attacks.append(delivered(contest, name, COPY, archive))
    defense = delivered(contest, "const", CONSTANT, archive, kind="defense")
    run = contest.run(contest.file(attacks, [defense], max_epsilons=[8]), backend=backend).run
    assert {result.verdict for result in contest.watcher.results} == {Verdict.OK}
    rejected = {entry.name: entry.notes[0] for entry in load_state(run).entries if entry.rejected}
    assert set(rejected) <= set(STUBBORN)
    assert backend == "gvisor" or "file_for_code" in rejected
    for note in rejected.values():
        assert "no container of it starts; /code, /input_images, " in note
        assert str(contest.folder) not in note


def special(name: str, kind: bytes) -> bytes:
    """A layer with one file of a special kind."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type = kind
        tar.addfile(info)
    return packed.getvalue()


def test_an_image_with_a_fifo_that_engines_open_is_rejected_before_the_engine_gets_it(
    contest: Contest, backend: str
) -> None:
    layers = [layer("fifo"), special("etc/passwd", tarfile.FIFOTYPE)]
    config = config_of(layers)
    attacks = [delivered(contest, "waits", COPY, docker_archive(config, layers))]
    attacks.append(contest.entry("honest", COPY))
    defense = contest.entry("const", CONSTANT, kind="defense")
    run = contest.run(contest.file(attacks, [defense], max_epsilons=[8]), backend=backend).run
    assert {result.verdict for result in contest.watcher.results} == {Verdict.OK}
    rejected = {entry.name: entry.notes[0] for entry in load_state(run).entries if entry.rejected}
    assert set(rejected) == {"waits"}
    assert "waits/image.tar: its /etc/passwd is a FIFO; engines open it" in rejected["waits"]
    assert images_of(backend).find(identity(config)) is None


HANGING = """#!/bin/sh
for last; do :; done
case " $* " in *" start "*)
    image=$({client} container inspect --format '{{{{.Image}}}}' "$last")
    if grep -q -e "${{image#sha256:}}" -e all {images}; then exec sleep 600; fi;;
esac
exec {client} "$@"
"""
"""An engine's client that starts no container of some images and says nothing; `all`: of any."""


@pytest.fixture
def hanging(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of images that the engine starts no container of from now on, and waits for ever."""
    name = images_of(backend).engine
    images = tmp_path / "hanging"
    images.touch()
    client = tmp_path / "bin" / name
    client.parent.mkdir()
    client.write_text(HANGING.format(client=shutil.which(name), images=images))
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(process, "SETUP_S", 5)
    return images


def test_an_image_that_its_engine_waits_for_is_rejected_and_the_run_goes_on(
    contest: Contest, backend: str, hanging: Path
) -> None:
    """Found out once, however many entries name it."""
    hanging.write_text(tag(backend, contest.folder, "waited for").removeprefix("sha256:"))
    attacks = [contest.entry(name, COPY, container=NAME) for name in ("one", "two", "three")]
    attacks.append(contest.entry("honest", COPY))
    defense = contest.entry("const", CONSTANT, kind="defense")
    file = contest.file(attacks, [defense], max_epsilons=[8])
    text = file.read_text().replace("image_map", f'images = ["{NAME}"]\nimage_map')
    file.write_text(text)
    start = time.monotonic()
    run = contest.run(file, backend=backend).run
    assert time.monotonic() - start < 60
    assert {result.verdict for result in contest.watcher.results} == {Verdict.OK}
    rejected = {entry.name: entry.notes[0] for entry in load_state(run).entries if entry.rejected}
    assert set(rejected) == {"one", "two", "three"}
    assert all("no container of it starts" in note for note in rejected.values())


def test_an_engine_that_starts_nothing_any_more_is_to_blame_and_no_image(
    contest: Contest, backend: str, hanging: Path
) -> None:
    tag(backend, contest.folder, "innocent")
    entry = contest.entry("mine", COPY, container=NAME)
    with opened_validator(str(entry), backend) as validator:
        hanging.write_text("all")
        with pytest.raises(SandboxTimeout, match="it is not ready after 5 s"):
            validator.take(validator.sources[0])


def test_a_volume_behind_a_link_gives_nothing_to_write_to(contest: Contest, backend: str) -> None:
    """Wherever the link leads, what is there is read-only."""
    layers = [layer("volume"), linked("data", "etc")]
    config = config_of(layers, Volumes={"/data": {}})
    program = f"echo x >/data/x; echo x >/etc/x; {COPY}"
    attack = delivered(contest, "linked", program, docker_archive(config, layers))
    defense = delivered(contest, "const", CONSTANT, docker_archive(config, layers), kind="defense")
    run = contest.run(file_of(contest, attack, defense), backend=backend).run
    assert {result.verdict for result in contest.watcher.results} == {Verdict.OK}
    said = "\n".join(log_of(run, "linked"))
    assert said.count("Read-only file system") == 2 or said.count("Permission denied") == 2


def linked(name: str, target: str) -> bytes:
    """A layer with one link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        tar.addfile(info)
    return packed.getvalue()


def test_the_image_for_gpus_is_taken_where_entries_get_some(
    contest: Contest, backend: str
) -> None:
    tag(backend, contest.folder, "gpu")
    entries = contest.entry("copy", COPY), contest.entry("const", CONSTANT, kind="defense")
    images = using(f"""["{NAME}", "advcomp/referee"]""")
    both = {"type": "attack", "entry_point": "run.sh", "container": "advcomp/referee"}
    only = {"type": "attack", "entry_point": "run.sh", "container_gpu": NAME}
    with closing(open_sandbox(backend)) as sandbox:
        assert sandbox.images is not None
        for gpus in (0, 1):
            file = file_of(contest, *entries, f"[limits]\ngpus = {gpus}\n{images}")
            chooser = ImageChooser(load_tournament(file), sandbox, sandbox.images)
            for metadata, expected in (
                ({**both, "container_gpu": NAME}, NAME if gpus else "advcomp/referee"),
                (both, "advcomp/referee"),
                (only, NAME),
            ):
                chosen = chooser.choose(
                    "copy", Metadata.model_validate(metadata), None, contest.folder
                )
                assert chosen.name == expected


def test_a_name_that_is_not_listed_is_rejected_with_the_line_that_would_let_it_in(
    contest: Contest, backend: str
) -> None:
    tag(backend, contest.folder, "listed")
    attack = contest.entry("copy", COPY, container="someone/else")
    defense = contest.entry("const", CONSTANT, kind="defense", container=NAME)
    file = file_of(contest, attack, defense, using(f'["{NAME}"]'))
    with opened_validator(str(file), backend) as validator:
        copy, const = map(validator.take, validator.sources)
    assert copy.rejected
    assert f'images = ["{NAME}", "someone/else"]' in copy.notes[0]
    assert f'image_map = {{ "someone/else" = "{NAME}" }}' in copy.notes[0]
    assert not const.rejected
    more = f'[sandbox]\nimage_map = {{ "someone/else" = "{NAME}" }}\nimages = ["{NAME}"]\n'
    file = file_of(contest, attack, defense, more)
    with opened_validator(str(file), backend) as validator:
        copy = validator.take(validator.sources[0])
        assert [smoke.result.verdict for smoke in validator.smoke(copy)] == [Verdict.OK]
    assert copy.container == NAME


def test_one_uses_any_image_that_is_here_for_an_entry_of_ones_own(
    contest: Contest, backend: str
) -> None:
    image = tag(backend, contest.folder, "own")
    mine = contest.entry("mine", COPY, container=NAME)
    absent = contest.entry("absent", COPY, container="advcomp/test-nowhere")
    option = contest.entry("option", COPY, container="--format=x")
    taken = []
    for entry in (mine, absent, option):
        with opened_validator(str(entry), backend) as validator:
            taken.append(validator.take(validator.sources[0]))
    assert (taken[0].rejected, taken[0].image) == (False, image)
    assert "build -t advcomp/test-nowhere ." in taken[1].notes[0]
    assert "no name of an image" in taken[2].notes[0]


def test_a_name_that_means_another_image_than_before_is_refused(
    contest: Contest, backend: str
) -> None:
    first = tag(backend, contest.folder, "first")
    attack = contest.entry("copy", COPY, container=NAME)
    defense = contest.entry("const", CONSTANT, kind="defense", container=NAME)
    file = file_of(contest, attack, defense, using(f'["{NAME}"]'))
    contest.run(file, backend=backend)
    second = tag(backend, contest.folder, "second")
    with pytest.raises(RunConflict) as caught:
        contest.run(file, backend=backend)
    assert f"{NAME}: was {first}, is now {second}" in str(caught.value)
    tag(backend, contest.folder, "first")
    contest.run(file, backend=backend)
    assert contest.watcher.results == []


def test_a_run_does_not_begin_without_an_image_of_its_file_and_fetches_none(
    contest: Contest, backend: str
) -> None:
    attack = contest.entry("copy", COPY, container="none")
    defense = contest.entry("const", CONSTANT, kind="defense")
    missing = ["127.0.0.1:1/a", "127.0.0.1:1/b"]
    file = file_of(contest, attack, defense, using(str(missing).replace("'", '"')))
    with pytest.raises(InvalidConfig) as caught:
        contest.run(file, backend=backend)
    assert all(f'has no image "{name}"' in str(caught.value) for name in missing)
    assert f"advcomp pull {file}" in str(caught.value)


def test_pull_says_what_is_here(
    contest: Contest, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tag(backend, contest.folder, "here")
    entries = contest.entry("copy", COPY), contest.entry("const", CONSTANT, kind="defense")
    file = file_of(contest, *entries, using(f'["{NAME}"]'))
    pull_in_terminal(file, backend)
    assert capsys.readouterr().out == f"{NAME}: is here: {image}\n"


def test_names_of_one_image_are_one_name() -> None:
    assert canonical("docker.io/library/debian") == canonical("debian:latest")
    assert canonical("docker.io/iwiwi/nips17") == canonical("iwiwi/nips17:latest")
    assert canonical("localhost:5000/a") == "localhost:5000/a:latest"
    assert canonical("a@sha256:1") == "a@sha256:1"


def log_of(run: Path, entry: str) -> list[str]:
    command = [sys.executable, "-m", "advcomp.cli", "logs", str(run), entry]
    said = subprocess.run(command, capture_output=True, check=True)
    return said.stdout.decode().splitlines()

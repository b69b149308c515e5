import gzip
import io
import json
import platform
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_image import config_of, docker_archive, oci_layout, tar_of

from advcomp.errors import InvalidSubmission
from advcomp.rules import layer
from advcomp.rules.image_archive import check
from advcomp.rules.image_config import ARCHITECTURES, InspectedImage
from advcomp.rules.receive import receive

LAYERS = (tar_of({"a/one": b"1"}), tar_of({"a/two": b"2" * 5000}))

LAYOUTS = pytest.mark.parametrize("layout", [docker_archive, oci_layout])


def checked(folder: Path, archive: bytes) -> Path:
    (folder / "image.tar").write_bytes(archive)
    out = io.BytesIO()
    check(folder / "image.tar", out)
    out.seek(0)
    receive(out, folder / "parts", name="image.tar")
    return folder / "parts"


def refused(folder: Path, archive: bytes) -> str:
    with pytest.raises(InvalidSubmission) as caught:
        checked(folder, archive)
    assert not (folder / "parts").exists()
    return str(caught.value)


def layer_with(**member: object) -> bytes:
    """A layer with one member of the given attributes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo(str(member.pop("name")))
        for key, value in member.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    return packed.getvalue()


@LAYOUTS
def test_both_layouts_give_the_configuration_and_the_layers_uncompressed(
    tmp_path: Path, layout: Callable[..., bytes]
) -> None:
    config = config_of(LAYERS)
    parts = checked(tmp_path, layout(config, LAYERS))
    assert {path.name for path in parts.iterdir()} == {"config.json", "0000.tar", "0001.tar"}
    assert (parts / "config.json").read_bytes() == json.dumps(config).encode()
    assert (parts / "0000.tar").read_bytes() == LAYERS[0]
    assert (parts / "0001.tar").read_bytes() == LAYERS[1]


def test_links_between_layers_are_followed_as_podman_saves_them(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {
            "config.json": json.dumps(config_of(LAYERS[:1])).encode(),
            "layer.tar": LAYERS[0],
            "manifest.json": b'[{"Config": "config.json", "Layers": ["x/layer.tar"]}]',
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("x/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../layer.tar"
        tar.addfile(link)
    parts = checked(tmp_path, archive.getvalue())
    assert (parts / "0000.tar").read_bytes() == LAYERS[0]


@LAYOUTS
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "s390x"}, "must be for linux/"),
        ({"os": "windows"}, "must be for linux/"),
        ({"config": {"WorkingDir": "/proc/self/fd/8"}}, "WORKDIR must not lie in /proc"),
        ({"config": {"WorkingDir": "//x/..//proc/"}}, "WORKDIR must not lie in /proc"),
        ({"config": {"WorkingDir": "dev/fd/8"}}, "WORKDIR must not lie in /proc"),
        *(
            ({"config": {"Volumes": {path: {}}}}, "VOLUME must be a plain absolute path")
            for path in ("/", "data", "/a/../..", "/a:rw,size=99g", "/proc/x", "/input_images/x")
        ),
        *(
            ({"config": {"Env": ["PATH=/bin", variable]}}, "ENV must be NAME=VALUE; got")
            for variable in ("SECRET", "*", "*=", "=x", "")
        ),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "speaks of 0 layers, it has 2"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:0"] * 2}}, "expected a layer with"),
        ({"rootfs": None}, "rootfs"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, layout: Callable[..., bytes], change: dict[str, object], said: str
) -> None:
    assert said in refused(tmp_path, layout({**config_of(LAYERS), **change}, LAYERS))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (layer_with(name="../out"), 'has a ".." in its path'),
        (layer_with(name="a/../../out"), 'has a ".." in its path'),
        (layer_with(name="x", type=tarfile.LNKTYPE, linkname="../../etc/shadow"), "leads out"),
        (layer_with(name="a/.wh..."), "takes away a folder that is not its own"),
        (layer_with(name="a/.wh."), "takes away a folder that is not its own"),
        (b"\x28\xb5\x2f\xfd" + bytes(2000), "zstd"),
        (b"no tar" * 1000, "damaged"),
    ],
)
def test_a_layer_that_no_engine_may_be_given_is_refused(
    tmp_path: Path, bad: bytes, said: str
) -> None:
    assert said in refused(tmp_path, docker_archive(config_of([bad]), [bad]))


def test_a_file_behind_a_link_of_its_layer_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        link = tarfile.TarInfo("etc")
        link.type, link.linkname = tarfile.SYMTYPE, "/proc/1/root/etc"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("etc/cron"))
    bad = packed.getvalue()
    said = refused(tmp_path, docker_archive(config_of([bad]), [bad]))
    assert "stands behind a symbolic link" in said


def test_layers_may_hold_absolute_links_whiteouts_and_devices(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind, target in (
            ("bin/sh", tarfile.SYMTYPE, "/bin/dash"),
            ("dev/null", tarfile.CHRTYPE, ""),
            ("a/.wh.one", tarfile.REGTYPE, ""),
            ("a/.wh..wh..opq", tarfile.REGTYPE, ""),
            ("hard", tarfile.LNKTYPE, "a/.wh.one"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    good = packed.getvalue()
    assert checked(tmp_path, docker_archive(config_of([good]), [good])).is_dir()


Member = tuple[str, bytes, str]
"""Path, type and link target of a member of a layer."""
FILE, FIFO, DEVICE = tarfile.REGTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
FOLDER, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
PASSWD = "etc/passwd"


def layers_of(*layers: list[Member]) -> bytes:
    """An image of layers that hold nothing but kinds of files."""
    made = []
    for members in layers:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, kind, target in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                tar.addfile(info)
        made.append(packed.getvalue())
    return docker_archive(config_of(made), made)


@pytest.mark.parametrize(
    "path", ["etc/passwd", "etc/group", "etc/hosts", "etc/hostname", "etc/resolv.conf"]
)
@pytest.mark.parametrize(
    ("kind", "said"), [(FIFO, "is a FIFO"), (DEVICE, "is a device"), (FOLDER, "is a folder")]
)
def test_what_an_engine_opens_must_be_a_plain_file(
    tmp_path: Path, path: str, kind: bytes, said: str
) -> None:
    assert f"its /{path} {said}" in refused(tmp_path, layers_of([(path, kind, "")]))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([[(PASSWD, FILE, "")], [(PASSWD, FIFO, "")]], "is a FIFO"),
        ([[(PASSWD, FIFO, "")], [("etc/other", FILE, "")]], "is a FIFO"),
        ([[(PASSWD, FIFO, "")], [("etc/.wh.other", FILE, "")]], "is a FIFO"),
        # Of its own layer a white-out takes nothing away, in whatever order.
        ([[(PASSWD, FIFO, ""), ("etc/.wh.passwd", FILE, "")]], "is a FIFO"),
        ([[], [("etc/.wh..wh..opq", FILE, ""), (PASSWD, FIFO, "")]], "is a FIFO"),
        ([[("x", FIFO, ""), (PASSWD, LINK, "../x")]], 'leads to "x", which is a FIFO'),
        ([[("x", FIFO, "")], [(PASSWD, LINK, "/x")]], 'leads to "x", which is a FIFO'),
        ([[(PASSWD, LINK, "/x")], [("x", FIFO, "")]], 'leads to "x", which is a FIFO'),
        ([[(PASSWD, LINK, "../../../x"), ("x", DEVICE, "")]], 'leads to "x", which is a device'),
        ([[("x", FIFO, ""), (PASSWD, HARD, "x")]], "is a FIFO"),
        ([[("x", FIFO, "")], [(PASSWD, HARD, "x")]], "is a FIFO"),
        ([[("e/passwd", FIFO, "")], [("etc", LINK, "e")]], 'leads to "e/passwd", which is a FIFO'),
        ([[(PASSWD, LINK, "/proc/self/fd/0")]], "is a link into /proc"),
        ([[(PASSWD, LINK, "../dev/zero")]], "is a link into /dev"),
        (
            [[(PASSWD, LINK, "group"), ("etc/group", LINK, "passwd")]],
            "is a link that leads in circles",
        ),
        ([[("etc", FIFO, "")]], 'leads to "etc", which is a FIFO'),
        ([[(PASSWD, FIFO, "")], [("etc", FOLDER, "")]], "is a FIFO"),
        ([[(PASSWD, FILE, "")], [(f"{PASSWD}/x", FILE, "")]], "is a folder"),
    ],
)
def test_layers_are_laid_over_one_another_as_engines_do(
    tmp_path: Path, layers: list[list[Member]], said: str
) -> None:
    assert f"its /{PASSWD} {said}" in refused(tmp_path, layers_of(*layers))


@pytest.mark.parametrize(
    "layers",
    [
        [[]],
        [[(PASSWD, FILE, "")]],
        [[(PASSWD, FIFO, "")], [(PASSWD, FILE, "")]],
        [[(PASSWD, FIFO, "")], [("etc/.wh.passwd", FILE, "")]],
        [[(PASSWD, FIFO, "")], [(".wh.etc", FILE, "")]],
        [[(PASSWD, FIFO, "")], [("etc/.wh..wh..opq", FILE, ""), ("etc/group", FILE, "")]],
        [[(PASSWD, FIFO, "")], [("etc", FILE, "")], [("etc", FOLDER, "")]],
        [[("store/passwd", FILE, ""), (PASSWD, LINK, "/store/passwd")]],
        [[("etc/hosts", LINK, "/run/hosts"), ("etc/mtab", LINK, "/proc/mounts")]],
        [[("dev/console", DEVICE, ""), ("run/pipe", FIFO, "")]],
        [[("store/passwd", FIFO, "")], [(PASSWD, LINK, "/store/passwd")],
         [("store/passwd", FILE, "")]],
    ],
)  # fmt: skip
def test_images_as_they_are_built_are_taken(tmp_path: Path, layers: list[list[Member]]) -> None:
    assert checked(tmp_path, layers_of(*layers)).is_dir()


def test_a_layer_cannot_tell_the_overlay_file_system_what_to_show(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("etc")
        info.type, info.pax_headers = FOLDER, {"SCHILY.xattr.trusted.overlay.redirect": "/other"}
        tar.addfile(info)
    bad = packed.getvalue()
    said = refused(tmp_path, docker_archive(config_of([bad]), [bad]))
    assert "attributes that are the kernel's own" in said


def test_a_layer_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = tar_of({"zeros": bytes(64 << 20)})
    assert "bytes unpacked; got more" in refused(tmp_path, oci_layout(config_of([bomb]), [bomb]))


def test_a_sparse_file_counts_for_what_it_claims_to_be(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("sparse")
        info.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.size": str(1 << 40),
            "GNU.sparse.numblocks": "0",
            "GNU.sparse.map": "0,0",
        }
        tar.addfile(info)
    bomb = packed.getvalue()
    assert "got more" in refused(tmp_path, docker_archive(config_of([bomb]), [bomb]))


def test_an_image_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all layers together: every one of them takes room on the engine's disk."""
    monkeypatch.setattr(layer, "MAX_IMAGE_MEMBERS", 2)
    assert checked(tmp_path, docker_archive(config_of(LAYERS), LAYERS)).is_dir()
    more = (*LAYERS, tar_of({"a/one": b""}))
    (tmp_path / "again").mkdir()
    said = refused(tmp_path / "again", docker_archive(config_of(more), more))
    assert "at most 2 files; got more" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "expected a manifest.json"),
        ({"hello": b""}, "expected a manifest.json"),
        ({"manifest.json": b"[]"}, "expected one image; got 0"),
        ({"manifest.json": b'[{"Config": "c", "Layers": []}]'}, "expected 1 to 127 layers"),
        ({"manifest.json": b'[{"Config": "c", "Layers": ["l"]}]'}, '"c": is not in the archive'),
        ({"manifest.json": b"[" * 100_000}, '"manifest.json": '),
        ({"index.json": b'{"manifests": []}'}, "expected one image; got 0"),
        ({"index.json": b'{"manifests": [{"digest": "sha256:../../x"}]}'}, "digest"),
        ({"../x": b"", "manifest.json": b"[]"}, 'has a ".." in its path'),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    assert said in refused(tmp_path, tar_of(files))


def test_a_blob_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    archive = oci_layout(config_of(LAYERS), LAYERS).replace(b'"os": "linux"', b'"os": "Linux"')
    assert "is not what its name says" in refused(tmp_path, archive)


def with_attestation(archive: bytes, **annotations: str) -> bytes:
    """An OCI layout with a second manifest, as builders add one that says how they built."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as old:
        files = {each.name: old.extractfile(each) for each in old if each.isfile()}
        content = {name: file.read() for name, file in files.items() if file is not None}
    index = json.loads(content["index.json"])
    index["manifests"] += [{**index["manifests"][0], "annotations": annotations}]
    return tar_of({**content, "index.json": json.dumps(index).encode()})


def test_what_a_builder_attests_is_no_second_image(tmp_path: Path) -> None:
    archive = oci_layout(config_of(LAYERS), LAYERS)
    attested = {"vnd.docker.reference.type": "attestation-manifest"}
    assert "expected one image; got 2" in refused(tmp_path, with_attestation(archive, other="x"))
    assert any(checked(tmp_path, with_attestation(archive, **attested)).iterdir())


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    archive = oci_layout(config_of(LAYERS), LAYERS)
    assert "damaged" in refused(tmp_path, archive[: len(archive) // 2])


def test_a_truncated_layer_is_refused(tmp_path: Path) -> None:
    cut = gzip.compress(LAYERS[1])[:-20]
    assert "damaged" in refused(tmp_path, docker_archive(config_of([LAYERS[1]]), [cut]))


def test_a_layer_of_several_gzip_members_is_read_to_its_end(tmp_path: Path) -> None:
    """As `pigz` and `estargz` write it."""
    layer = tar_of({"a/noise": random.Random(0).randbytes(200_000)})
    parts = (layer[at : at + 70_000] for at in range(0, len(layer), 70_000))
    members = b"".join(map(gzip.compress, parts))
    taken = checked(tmp_path, docker_archive(config_of([layer]), [members]))
    assert (taken / "0000.tar").read_bytes() == layer


def test_an_image_is_told_what_of_it_is_not_used() -> None:
    image = InspectedImage.model_validate(
        {
            "Id": "sha256:1",
            "Config": {
                "User": "0:0",
                "WorkingDir": "/app",
                "Entrypoint": ["/x"],
                "Volumes": {"/": {}},
                "Healthcheck": {"Test": ["CMD", "x"]},
                "OnBuild": ["RUN x"],
                "Env": ["PATH=/bin", "LD_PRELOAD=/x.so", "NVIDIA_VISIBLE_DEVICES=all"],
            },
        }
    )
    assert image.ignored() == (
        *("ENTRYPOINT", "USER root", "WORKDIR", "VOLUME", "HEALTHCHECK", "ONBUILD"),
        *('the variable "LD_PRELOAD"', 'the variable "NVIDIA_VISIBLE_DEVICES"'),
    )
    assert InspectedImage.model_validate({"Id": "x", "Config": {"Env": None}}).ignored() == ()


def test_an_image_of_more_than_16_gib_is_refused() -> None:
    image = InspectedImage.model_validate({"Id": "sha256:1", "Size": (16 << 30) + 1})
    assert any("at most 16 GiB unpacked" in problem for problem in image.problems())


def test_the_checkpoint_of_a_container_is_refused_as_an_image() -> None:
    name = "io.podman.annotations.checkpoint.runtime.name"
    said = {"Id": "1", "Os": "linux", "Architecture": ARCHITECTURES[platform.machine()]}
    plain = InspectedImage.model_validate({**said, "Annotations": {"title": "mine"}})
    assert list(plain.problems()) == []
    checkpoint = InspectedImage.model_validate({**said, "Annotations": {name: "runc"}})
    assert list(checkpoint.problems()) == [
        f"must not be a checkpoint of a container (annotation {name})"
    ]

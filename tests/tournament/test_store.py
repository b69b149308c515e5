"""Results on disk."""

import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from support.contest import write_greys

from advcomp.errors import RunConflict
from advcomp.rules.dataset import load_dataset
from advcomp.rules.verdict import Verdict
from advcomp.tournament.job.orders import Place, StoredImages
from advcomp.tournament.store.job_results import (
    IMAGES,
    LABELS,
    LARGE_BYTES,
    LOG,
    JobResult,
    Store,
    dump_labels,
    locked,
    zip_images,
)

LABELLED = {LOG: b"said\n", LABELS: dump_labels(np.array([3, -1, 32767], np.int16))}


def result(**changes: object) -> JobResult:
    values: dict[str, object] = {
        "job": "plain-wave1-0",
        "submission": "plain",
        "stage": "defense",
        "max_epsilon": None,
        "shard": 0,
        "images": 3,
        "valid": 2,
        "verdict": Verdict.PARTIAL,
        "notes": ("missing 1 of 3",),
    }
    return JobResult(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.sweep()
    return store


def test_a_result_comes_back_whole(store: Store, tmp_path: Path) -> None:
    store.save("a", result(), LABELLED)
    fresh = Store(tmp_path)
    assert fresh.load("a") == result()
    assert fresh.labels("a").tolist() == [3, -1, 32767]
    assert fresh.log("a") == b"said\n"
    assert fresh.load("b") is None


@pytest.mark.parametrize("name", ["result.json", LABELS, LOG])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_torn_or_corrupted_result_is_none(
    store: Store, tmp_path: Path, name: str, damage: str
) -> None:
    store.save("a", result(), LABELLED)
    path = tmp_path / "jobs" / "a" / name
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:middle] if damage == "truncate" else flipped)
    assert Store(tmp_path).load("a") is None


@pytest.fixture
def large(store: Store) -> Store:
    """A store with one archive that is larger than what a result's checksum is compared for."""
    image = b"png" + bytes(LARGE_BYTES)
    digest = sha256(image).hexdigest()
    kept = result(stage="attack", png_digests=(digest, digest), images=2, valid=2)
    store.save("a", kept, {LOG: b"", IMAGES: zip_images([("x", image), ("y", image)])})
    return store


def changed(store: Store, at: int) -> Store:
    """The store as another process finds it, with another byte in that archive."""
    with (store.run / "jobs" / "a" / IMAGES).open("r+b") as archive:
        archive.seek(at)
        archive.write(b"?")
    return Store(store.run)


def test_a_large_archive_is_compared_image_by_image_when_it_is_read(
    large: Store, tmp_path: Path
) -> None:
    write_greys(tmp_path / "data", 2)
    dataset = load_dataset(tmp_path / "data" / "images", tmp_path / "data" / "images.csv")
    fresh = changed(large, 2 * LARGE_BYTES)  # in the second image
    whole = fresh.load("a")
    assert whole is not None, "its result is known without a look at its images"
    first, second = (
        StoredImages(
            dataset=dataset,
            store=fresh,
            image_ids={0: "x", 1: "y"},
            places=(("name", Place(image, "a", whole.png_digests[image])),),
        )
        for image in (0, 1)
    )
    assert [name for name, _ in first] == ["name"]
    with pytest.raises(RunConflict, match=r"a/images\.zip: .* damaged, .*advcomp verify"):
        list(second)
    with pytest.raises(RunConflict, match=r"a/images\.zip"):
        list(
            changed(large, (large.run / "jobs/a" / IMAGES).stat().st_size - 20).read_images(
                [("a", "x")]
            )
        )


def test_every_file_is_compared_when_that_is_asked_for(large: Store) -> None:
    large.save("b", result(), LABELLED)
    assert list(Store(large.run).verify()) == [("a", True), ("b", True)]
    fresh = changed(large, 2 * LARGE_BYTES)
    assert list(fresh.verify()) == [("a", False), ("b", True)]
    fresh.drop("a")
    assert fresh.load("a") is None


def test_what_was_half_written_is_swept(store: Store, tmp_path: Path) -> None:
    half = tmp_path / "jobs" / ".a.partial"
    half.mkdir()
    (half / LOG).write_bytes(b"x")
    store.sweep()
    assert not half.exists()
    store.save("a", result(), LABELLED)
    assert store.load("a") == result()


def test_what_is_taken_out_is_found_by_its_images_only(store: Store) -> None:
    digests = ("d" * 64, "")
    old = result(stage="attack", png_digests=digests, images=2, valid=1)
    store.save("a", old, {LOG: b"", IMAGES: zip_images([("x", b"old")])})
    store.take_out("a")
    assert store.load("a") is None
    new = result(stage="attack", png_digests=("e" * 64, ""), images=2, valid=1)
    store.save("a", new, {LOG: b"", IMAGES: zip_images([("x", b"new")])})
    for kept, content in ((old, b"old"), (new, b"new")):
        folder = store.find("a", kept.outputs)
        assert folder is not None
        with store.images(folder) as archive:
            assert archive.read("x.png") == content
    assert store.find("a", result(png_digests=("f",)).outputs) is None


def test_images_are_read_in_any_order_from_archives_that_hold_others(store: Store) -> None:
    ids = ["b", "img-10", "img-9", "ä", "a" * 40]
    pngs = {(folder, id_): f"{folder} {id_}".encode() * 50 for folder in "xy" for id_ in ids}
    for folder in "xy":
        archive = zip_images((id_, pngs[folder, id_]) for id_ in ids)
        store.save(folder, result(stage="attack"), {LOG: b"", IMAGES: archive})
    wanted = [*reversed(pngs), *pngs]
    assert list(store.read_images(wanted)) == [pngs[one] for one in wanted]
    with pytest.raises(KeyError, match="img-1"):
        list(store.read_images([("x", "img-1")]))


def test_what_replaces_a_result_is_read_from_then_on(store: Store) -> None:
    for content in (b"first", b"the second, which is longer"):
        archive = zip_images([("before", content), ("x", content)])
        store.save("a", result(stage="attack"), {LOG: b"", IMAGES: archive})
        assert list(store.read_images([("a", "x")])) == [content]


def test_no_archive_stays_open_while_others_are_read(store: Store) -> None:
    """One run of a defense reads from every attack's archives: thousands at 2017's size."""
    folders = [f"job{number}" for number in range(40)]
    for folder in folders:
        archive = zip_images([("x", folder.encode())])
        store.save(folder, result(stage="attack"), {LOG: b"", IMAGES: archive})
    open_files = Path("/proc/self/fd")
    before = len(list(open_files.iterdir()))
    for _ in store.read_images((folder, "x") for folder in folders):
        assert len(list(open_files.iterdir())) <= before


def test_the_archive_of_images_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    content = zip_images([("a", b"1"), ("b", b"2")])
    assert content == zip_images([("a", b"1"), ("b", b"2")])
    (tmp_path / "x.zip").write_bytes(content)
    with ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["a.png", "b.png"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from advcomp.tournament.store.job_results import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    with locked(tmp_path):
        other = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
        )
    assert "RunConflict" in other.stderr
    with locked(tmp_path):
        pass
    with (
        locked(tmp_path),
        pytest.raises(RunConflict, match="another advcomp process"),
        locked(tmp_path),
    ):
        pass


def test_a_draft_counts_once_it_is_adopted(store: Store, tmp_path: Path) -> None:
    elsewhere = Store(tmp_path)
    lost, kept = (elsewhere.draft("a", result(valid=n), LABELLED) for n in (1, 2))
    assert Store(tmp_path).load("a") is None
    assert store.adopt("a", kept) == result(valid=2)
    assert Store(tmp_path).load("a") == store.load("a") == result(valid=2)
    store.sweep()
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["a"], "the lost one is swept"
    with pytest.raises(RunConflict, match='store = "wire"'):
        store.adopt("a", lost, patience_s=0)


def test_a_large_draft_is_adopted_only_when_all_of_it_is_there(large: Store) -> None:
    content = {LOG: b"", IMAGES: zip_images([("x", bytes(LARGE_BYTES))])}
    draft = large.draft("b", result(stage="attack"), content)
    with (large.run / "jobs" / draft.folder / IMAGES).open("r+b") as archive:
        archive.truncate(LARGE_BYTES)
    with pytest.raises(RunConflict):
        large.adopt("b", draft, patience_s=0)


def test_a_draft_that_is_not_whole_yet_is_waited_for(store: Store, tmp_path: Path) -> None:
    """A shared file system may show the record before the files."""
    draft = store.draft("a", result(), LABELLED)
    labels = tmp_path / "jobs" / draft.folder / LABELS
    content = labels.read_bytes()
    labels.write_bytes(content[:-1])
    with pytest.raises(RunConflict):
        store.adopt("a", draft, patience_s=0)
    late = threading.Timer(0.3, labels.write_bytes, [content])
    late.start()
    assert store.adopt("a", draft, patience_s=30) == result()
    late.join()

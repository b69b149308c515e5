"""Datasets: all that is wrong is told at once, and what was checked cannot change unnoticed."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from advcomp.errors import InvalidConfig, InvalidDataset
from advcomp.rules.dataset import (
    Dataset,
    LabelledImage,
    load_dataset,
    target_class_csv,
    write_dataset,
)
from advcomp.rules.images import decode_png, encode_png

IDS = ("a", "b-2", "c.3")


def picture(value: int, height: int = 4, width: int = 6) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i, image_id in enumerate(IDS):
        (tmp_path / f"images/{image_id}.png").write_bytes(encode_png(picture(i)))
    return tmp_path


def load(folder: Path, csv_text: str | bytes) -> Dataset:
    data = csv_text if isinstance(csv_text, bytes) else csv_text.encode()
    (folder / "images.csv").write_bytes(data)
    return load_dataset(folder / "images", folder / "images.csv")


def problems(folder: Path, csv_text: str | bytes) -> list[str]:
    """All problems, without the folder's path."""
    with pytest.raises(InvalidDataset) as caught:
        load(folder, csv_text)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


GOOD = "ImageId,TrueLabel,TargetClass\nc.3,7,1\na,0,32766\nb-2,32766,0\n"


def test_images_come_in_the_order_of_their_ids(folder: Path) -> None:
    dataset = load(folder, GOOD)
    assert dataset.image_ids == IDS
    assert dataset.labels.tolist() == [0, 32766, 7]
    assert dataset.labels.dtype == np.int16
    assert dataset.target_classes is not None
    assert dataset.target_classes.tolist() == [32766, 0, 1]
    assert (len(dataset), dataset.height, dataset.width) == (3, 4, 6)
    for i in range(3):
        assert np.array_equal(dataset.image(i), picture(i))
        assert np.array_equal(decode_png(dataset.png(i), 4, 6), picture(i))


def test_target_classes_may_be_absent(folder: Path) -> None:
    dataset = load(folder, "TrueLabel,ImageId\n7,a\n8,b-2\n9,c.3")
    assert dataset.target_classes is None
    assert dataset.labels.tolist() == [7, 8, 9]


def test_columns_of_2017_are_found_by_name_and_the_others_ignored(folder: Path) -> None:
    header = (
        "ImageId,URL,x1,y1,x2,y2,TrueLabel,TargetClass,OriginalLandingURL,License,Author,Profile"
    )
    rows = [f'{i},http://x/,0,0,1,1,{n},{n + 1},u,l,"Doe, Zoë",p' for n, i in enumerate(IDS)]
    dataset = load(folder, "\n".join([header, *rows]))
    assert dataset.labels.tolist() == [0, 1, 2]
    assert dataset.target_classes is not None
    assert dataset.target_classes.tolist() == [1, 2, 3]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_line_ends_bom_and_empty_lines_mean_nothing(folder: Path, mark: str, end: str) -> None:
    text = mark + GOOD.replace("\n", end) + end
    assert load(folder, text).digest == load(folder, GOOD).digest


HEADER = "ImageId,TrueLabel,TargetClass\n"
REST = "b-2,1,2\nc.3,1,2\n"
NO_COLUMNS = 'images.csv:1: the header must have the columns "ImageId" and "TrueLabel";'
NO_HEADER = 'begin the file with a line "ImageId,TrueLabel"'
NO_TEXT = (
    "images.csv: expected UTF-8 text; got bytes that no text has: is it compressed, a "
    "spreadsheet's own format, or UTF-16? Save it as CSV in UTF-8"
)


@pytest.mark.parametrize(
    ("csv_text", "expected"),
    [
        ("", [f'{NO_COLUMNS} got ""; {NO_HEADER}',
              "images.csv:1: must be followed by at least one image; got none"]),
        (HEADER, ["images.csv:1: must be followed by at least one image; got none"]),
        ("a,1,2\n" + REST, [
            f'{NO_COLUMNS} got "a,1,2"; {NO_HEADER}']),
        ("ImageId;TrueLabel\na;1\n", [
            f'{NO_COLUMNS} got "ImageId;TrueLabel"; separate cells with commas, not with '
            "semicolons"]),
        ("image_id, TrueLabel\na,1\n", [
            f'{NO_COLUMNS} got "image_id, TrueLabel"; write "ImageId" for "image_id"; '
            'write "TrueLabel" for " TrueLabel"']),
        (GOOD.encode("utf-16"), [NO_TEXT]),
        (gzip.compress(GOOD.encode(), mtime=0), [NO_TEXT]),
        ("ImageId,Label\na,1\n", [
            'images.csv:1: the header must have the column "TrueLabel"; got "ImageId,Label"; '
            f"{NO_HEADER}"]),
        ("ImageId,TrueLabel,TrueLabel\na,1,1\n", [
            'images.csv:1: the header has the column "TrueLabel" 2 times; keep one']),
        (HEADER + "a,1\n" + REST, [
            "images.csv:2: expected 3 cells, as in the header; got 2",
            "images/a.png: has no line in images.csv; add it or take the file away"]),
        (HEADER + "a,1,2,3\n" + REST, [
            "images.csv:2: expected 3 cells, as in the header; got 4",
            "images/a.png: has no line in images.csv; add it or take the file away"]),
        (HEADER + "a,32767,-1\n" + REST, [
            'images.csv:2: "TrueLabel" must be an integer 0..32766; got "32767"',
            'images.csv:2: "TargetClass" must be an integer 0..32766; got "-1"']),
        (HEADER + "a,1.0,\n" + REST, [
            'images.csv:2: "TrueLabel" must be an integer 0..32766; got "1.0"; write "1"',
            'images.csv:2: "TargetClass" must be an integer 0..32766; got ""']),
        (HEADER + "a,5,5\n" + REST, [
            'images.csv:2: "TargetClass" must differ from "TrueLabel"; both are 5']),
        (HEADER + "a,1,2\n" + REST + "b-2,1,2\n", [
            'images.csv:5: ImageId "b-2" is also in line 3; keep one of them']),
        (HEADER + "a,1,2\n" + REST + "d,1,2\n", [
            "images.csv:5: the image images/d.png does not exist"]),
        (HEADER + REST, [
            "images/a.png: has no line in images.csv; add it or take the file away"]),
        (HEADER + "a,1,2\n../b,1,2\n" + REST, [
            'images.csv:3: "ImageId" must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}; got "../b"']),
        (HEADER.encode() + b"a,1,2\n\xe9,1,2\n" + REST.encode(), [
            "images.csv:3: must be UTF-8; got b'\\xe9,1,2'",
            'images.csv:3: "ImageId" must match [A-Za-z0-9][A-Za-z0-9._-]{0,127}; got "\ufffd"']),
        (HEADER + 'a,1,2\n"b"-2,1,2\n' + REST, [
            "images.csv:3: cannot be read as CSV: ',' expected after '\"'"]),
    ],
    ids=["empty", "header only", "no header", "semicolons", "other names",
         "utf-16", "compressed", "no label column", "column twice", "cells missing",
         "cells too many", "labels out of range", "labels not integers", "target is label",
         "duplicate", "image missing", "line missing", "unsafe id", "not utf-8", "bad quotes"],
)  # fmt: skip
def test_a_wrong_csv_is_told_line_by_line(
    folder: Path, csv_text: str | bytes, expected: list[str]
) -> None:
    assert problems(folder, csv_text) == expected


def test_wrong_images_are_told_by_file(folder: Path) -> None:
    (folder / "images/b-2.png").write_bytes(encode_png(picture(1))[:-20])
    (folder / "images/c.3.png").write_bytes(encode_png(picture(1, 5, 6)))
    (folder / "images/photo.JPEG").write_bytes(b"")
    (folder / "images/readme.txt").write_bytes(b"is no image and is left alone")
    assert problems(folder, GOOD) == [
        "images/photo.JPEG: has no line in images.csv; add it or take the file away",
        "images/b-2.png: the PNG is truncated",
        "images/c.3.png: expected width x height 6x4, got 6x5; images are never resized",
    ]


def test_everything_wrong_is_told_at_once(folder: Path) -> None:
    (folder / "images/c.3.png").unlink()
    (folder / "images/c.3.png").mkdir()
    (folder / "images/d.png").write_bytes(b"")
    text = HEADER + "a,x,1\nb-2,7,7\nc.3,1,2\na,1,2\ne,1,2\n"
    assert problems(folder, text) == [
        'images.csv:2: "TrueLabel" must be an integer 0..32766; got "x"',
        'images.csv:3: "TargetClass" must differ from "TrueLabel"; both are 7',
        'images.csv:5: ImageId "a" is also in line 2; keep one of them',
        "images.csv:6: the image images/e.png does not exist",
        "images/d.png: has no line in images.csv; add it or take the file away",
        "images/c.3.png: must be a file",
    ]


def test_missing_files_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset) as caught:
        load_dataset(tmp_path / "no", tmp_path / "no.csv")
    assert caught.value.problems == (
        f"{tmp_path}/no.csv: cannot be read: No such file or directory",
        f"{tmp_path}/no: cannot be read: No such file or directory",
    )


def test_an_empty_image_folder_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    expected = ["images: must hold the images, <ImageId>.png each; got none"]
    assert problems(tmp_path, GOOD) == expected


def test_digest_covers_pixels_labels_targets_and_ids_and_nothing_else(folder: Path) -> None:
    digests = {load(folder, GOOD).digest}
    for text in (
        GOOD.replace("c.3,7", "c.3,8"),
        GOOD.replace("7,1", "7,2"),
        "ImageId,TrueLabel\nc.3,7\na,0\nb-2,32766\n",
    ):
        digests.add(load(folder, text).digest)
    (folder / "images/a.png").write_bytes(encode_png(picture(9)))
    digests.add(load(folder, GOOD).digest)
    (folder / "images/a.png").rename(folder / "images/a1.png")
    digests.add(load(folder, GOOD.replace("a,0", "a1,0")).digest)
    assert len(digests) == 6

    (folder / "images/a1.png").rename(folder / "images/a.png")
    (folder / "images/a.png").write_bytes(encode_png(picture(0)) + b"trailing")
    shuffled = "TargetClass,X,ImageId,TrueLabel\n0,x,b-2,32766\n32766,y,a,0\n1,z,c.3,7\n"
    assert load(folder, shuffled).digest in digests


@pytest.mark.parametrize("change", ["pixels", "gone", "broken"])
def test_an_image_that_changes_after_the_check_is_noticed(folder: Path, change: str) -> None:
    dataset = load(folder, GOOD)
    path = folder / "images/b-2.png"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(encode_png(picture(9)) if change == "pixels" else b"broken")
    dataset.image(0)
    with pytest.raises(InvalidDataset, match=r"b-2\.png: has changed since it was checked"):
        dataset.image(1)
    with pytest.raises(InvalidDataset, match="has changed"):
        dataset.png(1)


def test_labels_cannot_be_changed(folder: Path) -> None:
    dataset = load(folder, GOOD)
    for labels in (dataset.labels, dataset.target_classes, dataset.subset(2, 0).labels):
        assert labels is not None
        with pytest.raises(ValueError, match="read-only"):
            labels[0] = 1


@pytest.fixture
def hundred(tmp_path: Path) -> Dataset:
    images = [
        LabelledImage(image_id=f"i{i:03}", image=picture(i), label=i, target_class=i + 1)
        for i in range(100)
    ]
    return write_dataset(tmp_path / "hundred", images)


def test_subset_draws_by_seed_and_keeps_rows_together(hundred: Dataset) -> None:
    drawn = hundred.subset(40, 7)
    assert len(set(drawn.image_ids)) == 40
    assert list(drawn.image_ids) == sorted(drawn.image_ids)
    assert [f"i{label:03}" for label in drawn.labels] == list(drawn.image_ids)
    assert drawn.target_classes is not None
    assert np.array_equal(drawn.target_classes, drawn.labels + 1)
    assert np.array_equal(drawn.image(3), picture(int(drawn.labels[3])))
    assert drawn.digest == hundred.subset(40, 7).digest
    assert drawn.digest != hundred.subset(40, 8).digest
    assert hundred.subset(100, 7).digest == hundred.digest


def test_subset_is_the_same_on_every_machine(hundred: Dataset) -> None:
    assert hundred.subset(5, 0).labels.tolist() == [5, 20, 36, 82, 93]


@pytest.mark.parametrize("count", [101, 0, -1])
def test_subset_beyond_what_there_is_names_both_numbers(hundred: Dataset, count: int) -> None:
    with pytest.raises(InvalidConfig, match=f"must be 1 to 100.*got {count}"):
        hundred.subset(count, 0)


def test_written_dataset_reads_back_and_its_files_are_as_documented(tmp_path: Path) -> None:
    images = [
        LabelledImage(image_id="z", image=picture(1), label=3),
        LabelledImage(image_id="y", image=picture(2), label=4),
    ]
    written = write_dataset(tmp_path / "sub/set", images)
    assert (tmp_path / "sub/set/images.csv").read_bytes() == b"ImageId,TrueLabel\nz,3\ny,4\n"
    assert np.array_equal(written.image(0), picture(2))
    read = load_dataset(tmp_path / "sub/set/images", tmp_path / "sub/set/images.csv")
    assert read.digest == written.digest
    assert read.folder == written.folder
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["set"]
    assert (tmp_path / "sub/set").stat().st_mode & 0o777 == 0o755, "others may read it, too"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("../x", 1, None)], '"ImageId" must match'),
        ([("x", 32767, None)], '"TrueLabel" must be an integer'),
        ([("x", 1, 1)], '"TargetClass" must differ'),
        ([("x", 1, 2), ("y", 1, None)], '"TargetClass" must be an integer'),
        ([("x", 1, None), ("x", 2, None)], "is also in line 2"),
        ([], "must be followed by at least one image"),
    ],
    ids=["unsafe id", "label", "target", "some targets", "duplicate", "none"],
)
def test_a_wrong_dataset_is_not_written(
    tmp_path: Path, rows: list[tuple[str, int, int | None]], problem: str
) -> None:
    images = [
        LabelledImage(image_id=i, image=picture(1), label=label, target_class=target)
        for i, label, target in rows
    ]
    with pytest.raises(InvalidDataset, match=problem):
        write_dataset(tmp_path / "set", images)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(hundred: Dataset) -> None:
    images = [LabelledImage(image_id="x", image=picture(1), label=1)]
    with pytest.raises(InvalidConfig, match="must not exist"):
        write_dataset(hundred.folder.parent, images)
    assert len(load_dataset(hundred.folder, hundred.folder.parent / "images.csv")) == 100


def test_target_class_csv_has_no_header() -> None:
    assert target_class_csv(["x", "y"], [3, 12]) == "x.png,3\ny.png,12\n"


def test_what_macos_leaves_beside_an_image_is_no_image(folder: Path) -> None:
    (folder / "images/._a.png").write_bytes(b"\0\5\x16\7")
    assert load(folder, GOOD).image_ids == IDS


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.PNG", "rename it to a.png"),
        ("A.png", "rename it to a.png"),
        ("a.jpg", "save it as an 8-bit RGB PNG"),
        ("a.JPEG", "save it as an 8-bit RGB PNG"),
    ],
)
def test_a_file_that_is_called_otherwise_gets_one_message(
    folder: Path, name: str, remedy: str
) -> None:
    (folder / "images/a.png").rename(folder / "images" / name)
    assert problems(folder, GOOD) == [
        f"images.csv:3: the image images/a.png does not exist; {name} does: {remedy}"
    ]


def test_ids_with_an_extension_get_one_message(folder: Path) -> None:
    ids = "ImageId,TrueLabel\na.png,1\nb-2.png,2\nc.3.png,3\n"
    assert problems(folder, ids) == [
        'images.csv:2: ImageId "a.png", and 2 more, must be a file name without extension; '
        'write "a"'
    ]

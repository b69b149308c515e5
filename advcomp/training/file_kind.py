"""What a file is that somebody takes for tensors: told by its first bytes, whatever its name says.

Web pages, Git LFS pointers, archives and halves of files come under the names of weights and of
checkpoints, and what a reader of tensors says about them helps nobody.
"""

import json
import pickletools
import tarfile
import zipfile
from enum import StrEnum
from pathlib import Path

from advcomp.errors import InvalidConfig
from advcomp.rules.plain_file import open_plain_file, told
from advcomp.rules.printable import printable
from advcomp.rules.unpack import DAMAGE

_HEAD_BYTES = 512
_SHOWN = 40
_AGAIN = "get it again"
_UNPACK = "unpack it, and name the file of weights in it"
_CONVERT = "convert it to safetensors"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer that stands for the file", "git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer that stands for the file", "git annex get"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes them", _CONVERT),
    (b"\x93NUMPY", "a NumPy array", _CONVERT),
    (b"GGUF", "a GGUF file", _CONVERT),
    (b"\x89PNG", "a PNG image", _AGAIN),
    (b"\xff\xd8\xff", "a JPEG image", _AGAIN),
    (b"%PDF", "a PDF document", _AGAIN),
)
_PAGES = ("<!doctype html", "<html", "<head", "<?xml")


class FileKind(StrEnum):
    """Whose file it is."""

    SAFETENSORS = "safetensors"
    PYTORCH = "PyTorch"


def kind_of(path: Path, wanted: str, remedy: str = "") -> FileKind:
    """Which reader a file is for; it may still be damaged inside.

    Args:
        path: The file.
        wanted: What it is taken for.
        remedy: What to do if it is something else; what helps with weights where not given.

    Raises:
        InvalidConfig: It is missing, cut off or something else: says what, and what to do.
    """
    try:
        with open_plain_file(path) as file:
            head = file.read(_HEAD_BYTES)
        strange = _strange(path, head)
    except OSError as error:
        raise InvalidConfig(f"{path}: expected {wanted}: {told(error)}") from error
    if strange:
        what, usual = strange
        raise InvalidConfig(f"{path}: expected {wanted}; got {what}; {remedy or usual}")
    return FileKind.SAFETENSORS if head[8:9] == b"{" else FileKind.PYTORCH


def is_whole_pickle(path: Path) -> bool:
    """Whether a file begins with a pickle that has its end; nothing of it is run."""
    try:
        with path.open("rb") as file:
            return all(True for _ in pickletools.genops(file))
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError):
        return False


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip; the library's own test raises at some of them."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _strange(path: Path, head: bytes) -> tuple[str, str] | None:
    """What a file is instead of weights, and what to do; None where it may be weights."""
    if not head:
        return "an empty file", _AGAIN
    for beginning, what, remedy in _BEGINNINGS:
        if head.startswith(beginning):
            return what, remedy
    if head[:2] == b"PK":
        return _strange_zip(path)
    if text := _text(head):
        return _strange_text(text)
    if head[8:9] == b"{":
        return _cut_safetensors(path, int.from_bytes(head[:8], "little"))
    if head[0] == 0x08 and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x3a", b"\x42"):
        return "an ONNX model", (
            "a classifier is loaded from a state_dict; ONNX models play by "
            "`advcomp init defense DIR --template onnx`"
        )
    if head[257:262] == b"ustar":
        return _strange_tar(path)
    if head[0] == 0x80 and head[1:2] <= b"\x05":
        return None
    return f"a file of no known kind, which begins with the bytes {head[:8].hex(' ')}", _AGAIN


def _strange_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGE:
        return f"a zip archive that is cut off or damaged ({path.stat().st_size} bytes)", _AGAIN
    inner = {name.partition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz), as JAX and Flax write them", _CONVERT
    if "data.pkl" not in inner:
        held = printable(", ".join(names[:3]).encode()) or "nothing"
        return f"a zip archive without a PyTorch checkpoint, which holds {held}", _UNPACK
    if "constants.pkl" in inner:
        return "a TorchScript program", "save the network's state_dict() instead"
    return None


def _strange_tar(path: Path) -> tuple[str, str] | None:
    """PyTorch's own files were tars once, which hold a `pickle`."""
    try:
        with tarfile.open(path) as archive:
            return None if "pickle" in archive.getnames() else ("a tar archive", _UNPACK)
    except DAMAGE:
        return "a tar archive that is cut off or damaged", _AGAIN


def _strange_text(text: str) -> tuple[str, str]:
    if text.lstrip("\ufeff \t\r\n").lower().startswith(_PAGES):
        return "a web page", "download the file itself, by its link to raw content"
    shown = printable(text.strip()[:_SHOWN].encode()).partition("\n")[0]
    return f'a text file, which begins with "{shown}"', "download the file itself"


def _text(head: bytes) -> str:
    """The beginning of a text; nothing where it is none."""
    # The last character may be cut off.
    text = head.decode("utf-8", errors="ignore")
    if len(head) - len(text.encode()) > 3:
        return ""
    return text if all(c.isprintable() or c in "\ufeff\t\r\n\f" for c in text) else ""


def _cut_safetensors(path: Path, header_bytes: int) -> tuple[str, str] | None:
    size = path.stat().st_size
    expected = 8 + header_bytes
    if expected <= size:
        with path.open("rb") as file:
            file.seek(8)
            header = file.read(header_bytes)
        try:
            spans = [
                each["data_offsets"] for each in json.loads(header).values() if "dtype" in each
            ]
            expected += max((end for _, end in spans), default=0)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None  # its reader says what is wrong
    if size >= expected:
        return None
    return f"a safetensors file that is cut off, {size} of {expected} bytes", _AGAIN

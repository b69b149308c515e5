"""Names, orders and offsets that say nothing to a submission.

All come from a 32-byte key by HMAC-SHA256. The key is made at a run's first start and kept in its
folder with mode 600; it never derives from the public seed, so nobody who knows the tournament
file can tell which image, or which attack's, hides behind a name.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.plain_file import read_plain_file, told

KEY_BYTES = 32
MOST_BYTES = 4096
"""Of a key's file, with whatever white space."""


@dataclass(frozen=True, slots=True)
class Key:
    """The secret of one run."""

    secret: bytes

    @property
    def digest(self) -> str:
        """What results carry instead of the key: SHA-256, hexadecimal."""
        return hashlib.sha256(self.secret).hexdigest()

    def _mac(self, *parts: str | int) -> str:
        message = "\0".join(str(part) for part in parts)
        return hmac.new(self.secret, message.encode(), hashlib.sha256).hexdigest()

    def name(self, *parts: str | int) -> str:
        """An opaque name of 16 hexadecimal digits; sorting by it shuffles."""
        return self._mac("name", *parts)[:16]

    def offset(self, modulus: int, *parts: str | int) -> int:
        """A number in 0..modulus-1 (the bias of the remainder is below 2**-190)."""
        return int(self._mac("offset", *parts), 16) % modulus


def open_key(path: Path, given: Path | None = None, *, digest: str | None = None) -> Key:
    """The key of a run folder: read it, or make it at the first start.

    Args:
        path: Where the run keeps its key.
        given: A key file to use instead of a new one (`--key`).
        digest: What the state of the run says of its key; None at the first start.

    Raises:
        InvalidConfig: `given` is not 32 bytes, as they are or in hexadecimal.
        RunConflict: The run was made with another key, or its key is gone.
    """
    wanted = None if given is None else read_key(given)
    if path.exists():
        key = read_key(path)
        if wanted is not None and wanted != key:
            raise RunConflict(
                f"{path}: this run was made with another key than {given}; leave out --key, "
                "or choose another folder with --out"
            )
        _refuse_another(path, key, digest)
        return key
    _refuse_another(path, wanted, digest)
    key = wanted or Key(secrets.token_bytes(KEY_BYTES))
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.secret.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return key


def _refuse_another(path: Path, key: Key | None, digest: str | None) -> None:
    """A new key would give every answer of a run to another image: nobody may make one."""
    if digest is None or (key is not None and key.digest == digest):
        return
    raise RunConflict(
        f"{path}: expected the key that the run was made with (SHA-256 {digest}); got "
        f"{'none' if key is None else 'another one'}; put it back, or play a new run in another "
        "folder: without it nobody can tell which answers are whose"
    )


def read_key(path: Path) -> Key:
    """The key in a file.

    Raises:
        InvalidConfig: It is not 32 bytes, as they are or in hexadecimal.
    """
    try:
        content = read_plain_file(path, MOST_BYTES)
        if len(content) == KEY_BYTES:  # as they come from /dev/urandom
            return Key(content)
        secret = bytes.fromhex(content.decode("ascii").strip())
    except (OSError, ValueError) as error:
        raise InvalidConfig(
            f"{path}: expected a key file of {KEY_BYTES} bytes or {2 * KEY_BYTES} hexadecimal "
            f"digits; got {told(error)}"
        ) from error
    if len(secret) != KEY_BYTES:
        raise InvalidConfig(
            f"{path}: expected a key of {KEY_BYTES} bytes ({2 * KEY_BYTES} hexadecimal digits); "
            f"got {len(secret)}"
        )
    return Key(secret)

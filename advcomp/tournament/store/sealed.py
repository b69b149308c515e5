"""JSON files that carry their own checksum, so that a torn or corrupted one is never believed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from advcomp.rules.plain_file import told

_SEAL = "sha256"


def seal(body: Mapping[str, object]) -> bytes:
    """The content of a file that holds `body`, whose keys are strings, and its checksum."""
    return (json.dumps({_SEAL: _checksum(body), **body}, indent=1) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """What was sealed; to be validated, since a checksum is no proof of its shape.

    Raises:
        ValueError: It is damaged.
    """
    try:
        body = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(body, dict) or body.pop(_SEAL, None) != _checksum(body):
        raise ValueError("its checksum is wrong: it is damaged, or was changed by hand")
    return body


def fault_of(error: Exception) -> str:
    """What is wrong with a stored file, by the first fault that was found, in one line."""
    if not isinstance(error, ValidationError):
        return told(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _checksum(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

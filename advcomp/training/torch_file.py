"""What is in a file of PyTorch's own: tensors and plain values; no pickled code is run."""

import struct
import warnings
from pathlib import Path
from pickle import UnpicklingError

import torch

from advcomp.errors import InvalidConfig
from advcomp.training.file_kind import is_whole_pickle, is_zip

_SAID = 100
_DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    *(UnpicklingError, struct.error),
)
"""What torch.load raises at bytes that it cannot read."""


def read_torch_file(path: Path, wanted: str, remedy: str = "") -> object:
    """What somebody saved, on the CPU.

    Args:
        path: A file that `kind_of` calls PyTorch's.
        wanted: What it is taken for.
        remedy: What to do if it is something else; what helps with weights where not given.

    Raises:
        InvalidConfig: It cannot be read, or would have to run code.
    """
    try:
        # Not by its path, of whose name it would make something.
        with warnings.catch_warnings(), path.open("rb") as file:
            # It warns of some pickles before it refuses them.
            warnings.simplefilter("ignore")
            found: object = torch.load(file, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        if isinstance(error, UnpicklingError) and (is_zip(path) or is_whole_pickle(path)):
            raise InvalidConfig(
                f"{path}: expected {wanted}; got a pickle that needs other code, which is never "
                f"run; {remedy or 'save the state_dict() of the network, best as safetensors'}"
            ) from error
        said = str(error).partition("\n")[0][:_SAID]
        raise InvalidConfig(
            f"{path}: expected {wanted}; got a PyTorch file that is cut off or damaged, "
            f"{path.stat().st_size} bytes; {remedy or 'get it again'}: "
            f"{type(error).__name__}: {said}"
        ) from error
    return found

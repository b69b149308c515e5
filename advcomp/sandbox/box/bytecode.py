"""Python's bytecode of advcomp's own modules, made before boxes start.

In a box the package cannot be written. What an installer has not compiled, because the package is
linked and not copied, every program in every box would compile anew: the referee itself never
imports most of what runs there.
"""

import compileall
import sys
from pathlib import Path

import advcomp

__all__ = ["compile_package"]


def compile_package(package: Path = Path(advcomp.__file__).parent) -> None:
    """Compile the modules of a package whose bytecode is missing or out of date.

    Nothing is done where Python is told to write no bytecode (PYTHONDONTWRITEBYTECODE), or where
    this user cannot.
    """
    if not sys.dont_write_bytecode:
        compileall.compile_dir(package, quiet=2)

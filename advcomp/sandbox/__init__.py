"""The boxes that strangers' programs run in."""

import sys

from advcomp.errors import SandboxUnavailable

if sys.platform == "win32":
    raise SandboxUnavailable(
        "advcomp: Windows has neither the locks nor the processes that it needs",
        "remedy: run it inside WSL 2 (wsl --install), which is Linux",
    )

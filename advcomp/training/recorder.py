"""What a run leaves behind besides checkpoints: losses as CSV, and files for TensorBoard."""

import csv
import io
import math
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from advcomp.errors import MissingExtra
from advcomp.rules.durable import write_durably
from advcomp.training.progress import EvaluationReport, RateOf, StepReport

LOSSES_FILE = "losses.csv"
_COLUMNS = ("step", "loss", "gradient_norm", "learning_rate", "skipped")
_TAGS = {
    RateOf.MISCLASSIFIED: "misclassification",
    RateOf.HIT: "hit_rate",
    RateOf.RIGHT: "accuracy",
}


class Recorder:
    """Writes into a run's folder; what an interrupted run wrote past its checkpoint is dropped.

    Args:
        folder: Gets `losses.csv` and `tensorboard/`.
        first_step: Where training begins or goes on.

    Raises:
        MissingExtra: tensorboard is not installed.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                "tensorboard is not installed; install it with: pip install 'advcomp[train]'"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOSSES_FILE
        kept = [row for row in read_losses(path) if int(row[0]) < first_step]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *kept])
        write_durably(path, text.getvalue().encode())
        self._file = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        # Its steps are counted when they are done, as evaluations and checkpoints are: what was
        # written at the very step of the checkpoint stays.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()
        self._board.close()

    def stepped(self, report: StepReport) -> None:
        """One line, with numbers to the last bit."""
        values = [getattr(report, column) for column in _COLUMNS]
        self._rows.writerow([repr(value) for value in values])
        self._file.flush()
        for name in ("loss", "gradient_norm", "learning_rate", "skipped"):
            value = float(getattr(report, name))
            if math.isfinite(value):
                self._board.add_scalar(f"training/{name}", value, report.step + 1)

    def evaluated(self, report: EvaluationReport) -> None:
        """One point for each classifier and epsilon, one for each gap, and the picture."""
        kind = _TAGS[report.of]
        for (name, level), rate in report.rates.items():
            self._board.add_scalar(f"{kind}/{name}/{level}", rate, report.step)
        for (rival, name, level), gap in report.gaps.items():
            tag = f"ahead_of_{rival}/{name}/{level}".replace(" ", "_")
            self._board.add_scalar(tag, gap.gap, report.step)
        if report.picture is not None:
            picture = np.asarray(Image.open(report.picture))
            self._board.add_image("examples", picture, report.step, dataformats="HWC")


def read_losses(path: Path) -> list[list[str]]:
    """The rows of a `losses.csv` without its header; whole ones only."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return [row for row in rows[1:] if len(row) == len(_COLUMNS)]

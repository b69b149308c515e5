"""`advcomp export RUN`: a run's tables as Parquet, CSV or Arrow files that other tools read.

Answers are by far the most: they are written a defense at a time, and never held all at once.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from advcomp.errors import AdvcompError
from advcomp.notebook.frames import ANSWERS, answer_batches
from advcomp.notebook.run import Run, load_run
from advcomp.rules.receive import DISK_IS_FULL
from advcomp.terminal.run_command import near

_Writer = AbstractContextManager[Any]

FOLDER = "export"
"""Within the run's folder, where no other is named."""


class Form(StrEnum):
    """How a table is written; the name is the ending of its file."""

    PARQUET = "parquet"
    CSV = "csv"
    ARROW = "arrow"


def export_run(run: Run, folder: Path, form: Form) -> list[Path]:
    """Write `leaderboard`, `budgets`, `cells`, `jobs` and `answers`; the files.

    Columns are those of `frames`; the answers on clean images are among the others. Files of the
    same names are replaced, each when it is whole.

    Raises:
        AdvcompError: There is no room.
    """
    tables: dict[str, tuple[pa.Schema, Iterable[pa.RecordBatch]]] = {
        name: _batches(frame)
        for name, frame in (
            ("leaderboard", run.leaderboard()),
            ("budgets", run.budgets()),
            ("cells", run.cells()),
            ("jobs", run.jobs()),
        )
    }
    tables["answers"] = ANSWERS, answer_batches(run.results, clean=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            _write(folder / f"{name}.{form}", schema, batches, form)
            for name, (schema, batches) in tables.items()
        ]
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise AdvcompError(
            f"{folder}: expected room for the tables; got: {error.strerror}; make room there, or "
            "name another folder"
        ) from error


def export_run_in_terminal(folder: Path, out: Path | None, form: str) -> None:
    """Write the tables of a run, and say where; an unfinished one as far as it is.

    Raises:
        RunConflict: The folder is no run.
        AdvcompError: There is no room.
    """
    run = load_run(folder)
    for path in export_run(run, out or folder / FOLDER, Form(form)):
        print(near(path))
    if not run.is_finished:
        print("provisional: the run is not finished; `advcomp run` goes on with it")


def _batches(frame: pd.DataFrame) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    return table.schema, table.to_batches()


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: Form) -> Path:
    with TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as whole:
        unfinished = Path(whole) / path.name
        # Opened here: PyArrow takes no path that is not UTF-8.
        with unfinished.open("wb") as file, _writer(file, schema, form) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return unfinished.replace(path)


def _writer(file: BinaryIO, schema: pa.Schema, form: Form) -> _Writer:
    writer: _Writer
    match form:
        case Form.PARQUET:
            writer = pa.parquet.ParquetWriter(file, schema, compression="zstd")
        case Form.CSV:
            writer = pa.csv.CSVWriter(file, schema)
        case Form.ARROW:
            writer = pa.ipc.new_file(file, schema)
    return writer

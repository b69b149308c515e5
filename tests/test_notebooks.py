"""The notebooks of the documentation run from end to end; what they say is asserted in them."""

import asyncio
from pathlib import Path

import nbformat
import pytest
from conftest import Require
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, require: Require) -> None:
    require("bubblewrap")
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed without outputs"
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}})
    asyncio.run(client.async_execute())
    shown = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    source = "\n".join(cell.source for cell in notebook.cells)
    assert ("advcomp.run(" in source) == any(
        "<progress" in data.get("text/html", "") for data in shown
    )
    assert source.count("run.plot.") <= sum("image/png" in data for data in shown)

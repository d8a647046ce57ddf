"""docs/notebook.ipynb is made from docs/notebook.md and runs to its end, on made-up data."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from conftest import ROOT

RESULTS = """
import json
print(json.dumps({
    "sizes": len(sizes.ranking),
    "strengths": [len(one.ranking) for one in strengths],
    "best": best["val_loss"].notna().tolist(),
    "fractions": sorted(more.runs["data.fraction"].unique()),
}))
"""


@pytest.fixture
def notebook() -> NotebookNode:
    return jupytext.read(ROOT / "docs/notebook.ipynb")


def test_the_notebook_is_that_of_the_page(notebook: NotebookNode) -> None:
    page = jupytext.read(ROOT / "docs/notebook.md")
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (notebook, page)]
    assert cells[0] == cells[1], "run `make notebook`"
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.process
@pytest.mark.slow(seconds=60)
def test_the_recipe_runs_to_its_end(
    notebook: NotebookNode, workplace: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    (workplace / "docs").mkdir()
    for cell in notebook.cells:
        if cell.source.startswith("%%sh\ndvc"):
            cell.source = ""  # the fixture has made the data
        line = next((one for one in cell.source.splitlines() if one.startswith("TRAINING = ")), "")
        cell.source = cell.source.replace(line, f"TRAINING = {quick[1:]}") if line else cell.source
    notebook.cells.append(new_code_cell(RESULTS))
    NotebookClient(notebook, resources={"metadata": {"path": str(workplace / "docs")}}).execute()
    assert json.loads(notebook.cells[-1].outputs[-1].text) == {
        "sizes": 4,
        "strengths": [5, 6, 5],
        "best": [True, True, True],
        "fractions": [0.2, 0.4, 0.7, 1.0],
    }
    figures = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and any("image/png" in o.get("data", {}) for o in cell.outputs)
    ]
    assert len(figures) == 6

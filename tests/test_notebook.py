"""The notebook of the demo runs, on fewer images."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "demo.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    for cell in notebook.cells:
        cell.source = cell.source.replace("3000", "16").replace("--test 150", "--test 4")
        assert not (cell.cell_type == "code" and cell.outputs), "outputs are not kept: they would grow stale"
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: "".join(str(output) for output in cell.outputs) for cell in notebook.cells if "outputs" in cell}
    assert (tmp_path / "runs/eval/scores.json").is_file(), outputs
    assert "execute_result" in {output.output_type for output in notebook.cells[-2].outputs}  # the assistant's answer

"""The notebook runs as it stands, and what it shows is what the shell's runs end with."""

import ast
import json
from pathlib import Path

import nbformat
import pytest
from docs_pages import ROOT
from nbclient import NotebookClient
from shell import pgrun

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
COMMON = ("algo=ppo", "env=cartpole", "seed=1")


def shown(notebook, text):
    """Return the output of the cell with a text."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    said = "".join(out.text for out in cell.outputs if out.output_type == "stream")
    assert not said or "tqdm" in said  # which torch imports, and which misses ipywidgets
    return cell.outputs[-1]["data"]


def shell_s(folder, *words):
    """The shell's result of the same run."""
    done = pgrun(*COMMON, *words, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return json.loads((folder / "run" / "result.json").read_text())


@pytest.mark.slow
def test_it_runs_and_shows_what_the_shell_ends_with(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    inside = tmp_path / "notebook"
    inside.mkdir()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(inside)}}).execute()
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    first = shell_s(tmp_path / "one", "total_steps=10000", "log.every=500")
    assert ast.literal_eval(shown(notebook, "run = pgrun.train")["text/plain"]) == (
        "finished",
        first["eval_return_mean"],
    )
    hook = ("+hook=plateau", "eval.every=1000", "hooks.plateau.patience=2")
    second = shell_s(tmp_path / "other", "total_steps=30000", "algo.gamma=0.9", *hook)
    assert second["stopped"]["by"] == "plateau"
    again = pgrun("eval", "run", "--episodes", "20", "--json", cwd=tmp_path / "other")
    expected = (second["stopped"], second["eval_return_mean"], json.loads(again.out)["eval_return_mean"])
    assert ast.literal_eval(shown(notebook, "other = pgrun.train")["text/plain"]) == expected
    returns = ast.literal_eval(shown(notebook, "def play")["text/plain"])
    assert len(returns) == 5
    assert all(1 <= total <= 500 for total in returns)
    assert "image/png" in shown(notebook, "plt.plot")

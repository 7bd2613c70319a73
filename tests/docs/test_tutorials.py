"""docs/tutorials: every notebook runs from top to bottom in a kernel of its own, and gives what its text says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import scripts

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
by_name = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return scripts.load("docs/run_tutorials.py")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return scripts.load("docs/site/hooks.py")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCL_CACHE", str(tmp_path / "cache"))


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return found


def text_of(notebook: Any) -> str:
    """All that the cells gave, as text."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(
        o["text"] if "text" in o else o["data"].get("text/markdown", o["data"]["text/plain"]) for o in outputs
    )


@by_name
def test_no_outputs_are_stored(notebook: Path) -> None:
    for cell in cells(notebook):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@by_name
def test_links_lead_to_files(notebook: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "markdown")
    for target in LINK.findall(text):
        if "://" not in target:
            assert (FOLDER / target).exists(), target


def test_losses_in_your_own_loop(runner: ModuleType) -> None:
    text = text_of(runner.run(FOLDER / "losses_in_your_own_loop.ipynb"))
    before, after = (float(value) for value in re.findall(r"'map': ([\d.]+)", text))
    assert after > before + 0.05
    assert "{'prototypes': (6, 16)}" in text
    assert "is called with (embeddings, logits, labels)" in text


@pytest.mark.slow
def test_your_data_to_an_answer(runner: ModuleType) -> None:
    text = text_of(runner.run(FOLDER / "your_data_to_an_answer.ipynb"))
    assert "text, 4 labels" in text
    assert "mean ± standard deviation over seeds 0, 1" in text
    (scores,) = re.findall(r"^friendly help, but it broke after a week +(.*)$", text, re.M)
    price, quality, service, delivery = map(float, scores.split())
    assert min(quality, service) > max(price, delivery)


@pytest.mark.slow
def test_new_loss_to_table(runner: ModuleType) -> None:
    text = text_of(runner.run(FOLDER / "new_loss_to_table.ipynb"))
    value, log_2 = (float(number) for number in re.findall(r"\((0\.69\d+), (0\.69\d+)\)", text)[0])
    assert value == pytest.approx(log_2, abs=1e-6)
    assert "8 of 8 cells have a current record" in text
    assert "| dice |" in text
    assert r"\begin{tabular}" in text


def test_the_site_shows_what_cells_gave(hooks: ModuleType) -> None:
    def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
        return {"cell_type": "code", "source": source, "outputs": list(outputs)}

    printed = {"output_type": "stream", "name": "stdout", "text": ["\x1b[1mone\x1b[0m\n", "two\n"]}
    warned = {"output_type": "stream", "name": "stderr", "text": ["a warning"]}
    table = {
        "text/html": ['<style>x</style>\n<table border="1">\n', "<tr></tr></table>"],
        "text/plain": ["t"],
    }
    value = {"output_type": "execute_result", "data": table}
    page = hooks.as_markdown(
        {
            "cells": [
                {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
                code("print()", printed, warned),
                code("!mlcl plan x", value),
                code("%%writefile x.yaml\ntitle: x"),
            ]
        },
        "x.ipynb",
    )
    assert page.startswith("# Title\n\n*A notebook: [download it](x.ipynb).*\nText.\n\n```python\nprint()")
    assert "```{.text .output}\none\ntwo\n```" in page
    assert "a warning" not in page
    assert '```bash\n!mlcl plan x\n```\n\n<div class="output"><table><tr></tr></table></div>' in page
    assert "```yaml\n%%writefile x.yaml" in page


def test_outputs_of_another_text_are_not_shown(
    hooks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "RUN", tmp_path)
    notebook = NOTEBOOKS[0]
    own = json.loads(notebook.read_text(encoding="utf-8"))
    assert hooks.with_outputs(notebook) == own
    own["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["made"]}]
    (tmp_path / notebook.name).write_text(json.dumps(own))
    assert hooks.with_outputs(notebook) == own
    own["cells"][1]["source"] = ["another"]
    (tmp_path / notebook.name).write_text(json.dumps(own))
    assert hooks.with_outputs(notebook)["cells"][1]["outputs"] == []

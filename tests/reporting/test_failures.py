"""A table or figure that fails is shown as failed in its place; texts of others are texts everywhere."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mlcl import reporting
from mlcl.cli import app
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.reporting import figures, tables
from mlcl.reporting.failures import read_failures
from mlcl.reporting.results import load_results
from mlcl.reporting.tables import latex
from mlcl.reporting.tables.grid import main_table
from mlcl.reporting.tables.text import markdown
from mlcl.reporting.visible import as_markdown, visible


def fail(*_):
    raise RuntimeError("no such thing\nas this")


@pytest.fixture
def made(grid):
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    collect(open_study("tiny"))
    return grid


def test_one_that_fails_leaves_the_others_and_is_shown_in_its_place(made, monkeypatch):
    monkeypatch.setattr(tables, "differences_table", fail)
    monkeypatch.setitem(figures.KINDS, "Costs", lambda _: map(fail, [0]))
    made.paths.tables.mkdir(parents=True)
    (made.paths.tables / "differences.csv").write_text("of old")
    failed = [
        *reporting.write_tables("tiny"),
        *reporting.write_figures("tiny"),
        *reporting.write_report("tiny"),
    ]
    assert [(f.part, f.name) for f in failed] == [
        ("tables", "differences"), ("figures", "Costs"), ("report", "differences")
    ]  # fmt: skip
    assert read_failures(made.paths) == failed
    assert (made.paths.tables / "main.tex").exists()
    text = (made.paths.tables / "differences.md").read_text()
    assert text == "This table failed: no such thing as this\n"
    assert not (made.paths.tables / "differences.csv").exists()
    index = {e["kind"]: e for e in json.loads((made.paths.figures / "index.json").read_text())}
    assert index["Costs"]["error"] == "no such thing as this"
    assert "error" not in index["Learning curves"]
    page = made.paths.report.read_text()
    assert "differences failed: no such thing as this" in page
    assert "This figure failed: no such thing as this" in page


def test_the_exit_code_tells_of_a_failure_and_the_next_run_forgets_it(made, monkeypatch):
    run = CliRunner().invoke
    with monkeypatch.context() as broken:
        broken.setattr(tables, "differences_table", fail)
        assert run(app, ["tables", "tiny", "--as-planned"]).exit_code == 1
        assert run(app, ["tables", "tiny", "--as-planned", "--keep-going"]).exit_code == 0
    complete = ["status", "tiny", "--as-planned", "--complete", "complete.txt"]
    assert run(app, complete).exit_code == 1
    reporting.write_tables("tiny")
    assert read_failures(made.paths) == []
    assert run(app, complete).exit_code == 0


STRANGE = "Price in $ | 5 \x1b[31m \u202eдом € 2² <b> *x* _y_ d_1"


def test_a_title_is_text_in_every_form(made):
    outline = open_study("tiny").outline
    assert outline.datasets["scenes"].title == "Scenes"
    results = load_results("tiny")
    object.__setattr__(results.outline.datasets["scenes"], "title", STRANGE)
    results.cards["scenes"]["title"] = STRANGE
    results.cards["scenes"]["labels"] = ["$x^2$", "a|b", *results.cards["scenes"]["labels"][2:]]
    for split in results.cards["scenes"]["splits"].values():
        counts = list(split["label_counts"].values())
        split["label_counts"] = dict(zip(results.cards["scenes"]["labels"], counts, strict=True))
    table = main_table(results)
    shown = markdown(table)
    head = next(line for line in shown.splitlines() if line.startswith("| Loss"))
    assert head.replace("\\|", "").count("|") == 5  # three metrics and the loss
    assert r"Price in \$ \| 5 \\x1b\[31m \\u202eдом € 2² \<b> \*x\* \_y\_ d_1" in head
    tex = latex.render(table, "metrics.csv")
    assert r"Price in \$ \textbar{} 5" in tex
    assert "[U+0434][U+043E][U+043C] \\texteuro{} 2\\texttwosuperior{}" in tex
    assert latex.absent_characters(table) == ["д", "м", "о"]
    for kind in figures.KINDS.values():
        for figure in kind(results):
            figures.style.png(figure.canvas)


def test_the_report_shows_control_characters_as_escapes(made):
    for cell in made.cells():
        if cell.loss == "reg":
            made.fail(cell, "error", "bad \x1b[31m <name> \u202e")
    collect(open_study("tiny"))
    assert reporting.write_figures("tiny") == []
    assert reporting.write_report("tiny") == []
    page = made.paths.report.read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert r"bad \x1b[31m &lt;name&gt; \u202e" in page


def test_what_cannot_be_seen_is_an_escape():
    assert visible("a\x1bb\u202ec\ud800\n") == r"a\x1bb\u202ec\ud800 "
    assert as_markdown("snake_case") == "snake_case"

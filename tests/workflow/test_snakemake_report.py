"""Snakemake's own report: it holds the tables, the figures with their captions, and the study's page."""

from __future__ import annotations

import json

import pytest

from tests.workflow.sandbox import Sandbox


@pytest.mark.slow
def test_tables_figures_and_the_page_are_in_it(box: Sandbox) -> None:
    box.snakemake("--report", "report.html")
    page = (box.folder / "report.html").read_text(encoding="utf-8")
    index = json.loads((box.folder / "results/default/figures/index.json").read_text(encoding="utf-8"))
    assert index
    for entry in index:
        assert f'"Figure": "{entry["title"]}", "Kind": "{entry["kind"]}"' in page
    for file in ("results/default/report.html", "paper_tables/default/main.csv"):
        assert f'"{file}": {{' in page
    caption = (box.folder / "paper_tables/default/main.md").read_text(encoding="utf-8").splitlines()[0]
    assert f'"caption": "<p>{caption}</p>"' in page


@pytest.mark.slow
def test_what_a_killed_run_was_updating_does_not_stop_the_next_one(box: Sandbox) -> None:
    left_over = box.folder / ".snakemake/backups/results/default/figures"
    left_over.mkdir(parents=True)
    box.records()[0].unlink()
    assert "Nothing to be done" not in box.snakemake("--cores", "all").stdout
    assert not left_over.exists()

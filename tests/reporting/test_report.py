"""The report: what stands in it, and that it needs nothing but itself."""

from __future__ import annotations

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.reporting import report, write_figures, write_report

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(paths):
    return Page(paths.report.read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_elsewhere(finished):
    page = page_of(finished)
    sources = [
        attrs["src"] for tag in ("img", "script", "iframe") for attrs in page.all(tag) if "src" in attrs
    ]
    assert all(source.startswith("data:") for source in sources)
    assert all(attrs["href"].startswith("data:") for attrs in page.all("link"))
    assert "http" not in finished.report.read_text(encoding="utf-8")


def test_it_holds_every_number_of_the_table_and_says_what_is_missing(finished):
    page = page_of(finished)
    for text in (
        "85.4",
        "± 1.7",
        "40 of 45 cells have a result",
        "docs/transformer/reg/base/seed0",
        "diverged",
    ):
        assert text in page.text
    assert "the loss is NaN in epoch 3 & step_17 (100 %)" in page.text
    assert "± ±" not in page.text


def test_it_answers_which_loss_to_use_and_shows_how_far_the_others_are_behind(finished):
    page = page_of(finished)
    assert "On Scenes, bce (" in page.text
    lead = re.search(r"is better than jaccard: (\S+) points \[(\S+), (\S+)\]", page.text)
    assert lead is not None
    assert f"-{lead[1]} [-{lead[3]}, -{lead[2]}]" in page.text  # the table shows the sentence's interval


def test_pictures_have_alt_texts_headers_have_scopes_headings_are_in_order(finished):
    page = page_of(finished)
    assert page.all("img")
    assert all(len(attrs["alt"]) > 30 for attrs in page.all("img"))
    assert all("scope" in attrs for attrs in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


def test_links_inside_the_page_lead_somewhere(finished):
    page = page_of(finished)
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    targets = [a["href"][1:] for a in page.all("a") if a.get("href", "").startswith("#")]
    assert targets
    assert set(targets) <= ids


def test_text_from_a_study_is_never_taken_for_markup(grid):
    grid.losses = ["bce"]
    grid.plan().make_all()
    grid.fail(grid.cells()[-1], "error", "<script>alert(1)</script>")
    collect(open_study("tiny"))
    write_figures("tiny")
    write_report("tiny")
    assert "<script>alert" not in grid.paths.report.read_text()


def test_no_record_at_all_gives_a_page_that_says_so(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    write_figures("tiny")
    write_report("tiny")
    assert "0 of 30 cells have a result" in page_of(grid.paths).text


def test_what_is_too_large_for_the_page_lies_beside_it(finished, monkeypatch):
    monkeypatch.setattr(report, "EMBEDDED", 200_000)
    assert write_report("tiny") == []
    text = finished.report.read_text(encoding="utf-8")
    assert "not inside this page" in text
    page = Page(text)
    links = [tag["src"] for tag in page.all("img")] + [tag["href"] for tag in page.all("a") if "href" in tag]
    beside = [link for link in links if link and not link.startswith(("data:", "#", "http"))]
    # The picture of the overview stands in its own place a second time.
    embedded = sum(len(link) for link in set(links) if link and link.startswith("data:"))
    assert 0 < embedded <= 200_000 * 1.1
    assert any(link.endswith(".png") for link in beside)
    assert any(link.startswith("report_files/") for link in beside)
    assert [link for link in beside if not (finished.results / link).exists()] == []


def test_claims_without_data_are_one_folded_line(grid):
    grid.datasets = {"scenes": "image"}
    grid.plan()
    shutil.copytree(Path(__file__).parents[2] / "paper_tables" / "specs", grid.paths.specs)
    collect(open_study("tiny"), partial=True)
    write_figures("tiny")
    write_report("tiny")
    text = grid.paths.report.read_text(encoding="utf-8")
    folded = re.search(
        r"<summary>(\d+) claims need losses, datasets or settings that are not in this study, or runs", text
    )
    assert folded is not None
    claims = text.partition("<h2>Claims</h2>")[2].partition("</section>")[0]
    assert claims.count("<strong>no data</strong>") == int(folded[1]) > 10
    assert claims.index("<details>") < claims.index("no data")


def test_each_table_has_a_heading_and_the_judged_metric_a_link(finished):
    text = finished.report.read_text(encoding="utf-8")
    assert '<a href="#table-criteria">table of criteria</a>' in text
    headings = re.findall(r"<h3>([^<]+)</h3>", text)
    for heading in ("Losses by metrics", "By the head trained with the encoder", "Variants", "Costs"):
        assert heading in headings
    assert any(
        tag["alt"].startswith("Dot plot. macro-F1 (tuned thresholds): ")
        for tag in page_of(finished).all("img")
    )


def test_counts_are_in_plain_grammar(grid):
    grid.datasets, grid.baselines, grid.losses = {"scenes": "image"}, [], ["bce"]
    grid.plan()
    collect(open_study("tiny"), partial=True)
    write_figures("tiny")
    write_report("tiny")
    text = page_of(grid.paths).text
    assert "1 loss on 1 dataset with 3 seeds: 0 of 3 cells have a result." in text
    assert "3 cells have no current result" in text


def test_the_overview_in_brief_is_told(finished):
    lines = []
    assert write_report("tiny", lines.append) == []
    assert lines[0].startswith("Losses are judged by macro-F1 (tuned thresholds)")
    assert len(lines) <= 8

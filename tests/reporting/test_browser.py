"""The report in a real browser: sorting, filtering, no complaint on the console, nothing wider than a phone."""

from __future__ import annotations

import pytest

from tests.browser import needs_browser, visit

pytestmark = needs_browser

SCRIPT = """
const found = {};
const table = document.querySelector('table[data-name="main"]');
const names = () => Array.from(table.tBodies[0].rows, row => row.cells[0].textContent);
const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
const press = column => heads[column].querySelector("button").click();
found.before = names();
press(1);
found.descending = names();
found.aria = heads[1].getAttribute("aria-sort");
press(1);
found.ascending = names();
press(1);
found.again = names();
press(0);
found.byName = names();
const filter = document.querySelector('input[data-filter="main"]');
filter.value = "ENCODER";
filter.dispatchEvent(new Event("input"));
found.filtered = Array.from(table.tBodies[0].rows).filter(row => !row.hidden).map(row => row.cells[0].textContent);
found.count = document.querySelector('[data-count="main"]').textContent;
filter.value = "";
filter.dispatchEvent(new Event("input"));
found.unfiltered = Array.from(table.tBodies[0].rows).filter(row => !row.hidden).length;
document.querySelectorAll("details").forEach(part => { part.open = true; });
found.pageWidth = document.documentElement.scrollWidth;
found.windowWidth = document.documentElement.clientWidth;
window.addEventListener("load", () => {
  window.scrollTo({ top: document.body.scrollHeight, behavior: "instant" });
  found.scrolled = window.scrollY;
  found.contentsAt = document.querySelector("nav").getBoundingClientRect().top;
  found.broken = Array.from(document.images).filter(image => image.naturalWidth === 0).length;
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@pytest.fixture(scope="module")
def desktop(finished_folder, tmp_path_factory):
    from mlcl.records.paths import StudyPaths

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_folder)
        report = StudyPaths("tiny").report
        assert ' loading="lazy"' in report.read_text(encoding="utf-8")
        return visit(report, SCRIPT, tmp_path_factory.mktemp("desktop"), 1280)


def test_a_columns_button_sorts_down_up_and_back(desktop):
    found, _ = desktop
    assert found["before"] == ["bce", "jaccard", "reg", "label prior", "random encoder"]
    assert found["descending"] == ["bce", "reg", "jaccard", "random encoder", "label prior"]
    assert found["aria"] == "descending"
    assert found["ascending"] == found["descending"][::-1]
    assert found["again"] == found["before"]
    assert found["byName"] == sorted(found["before"])


def test_the_filter_hides_rows_counts_them_and_gives_them_back(desktop):
    found, _ = desktop
    assert found["filtered"] == ["random encoder"]
    assert found["count"] == "1 of 5 rows"
    assert found["unfiltered"] == 5


def test_the_console_is_silent_and_every_picture_is_there(desktop):
    found, complaints = desktop
    assert complaints == []
    assert found["broken"] == 0


def test_the_contents_stay_in_sight(desktop):
    found, _ = desktop
    assert found["scrolled"] > 500
    assert found["contentsAt"] == 0


def test_on_a_phone_only_tables_and_wide_figures_scroll_sideways(finished, tmp_path):
    found, complaints = visit(finished.report, SCRIPT, tmp_path, 500)  # the narrowest window there is
    assert complaints == []
    assert found["pageWidth"] <= found["windowWidth"]

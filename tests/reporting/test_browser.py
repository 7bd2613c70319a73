"""The report in a real browser, headless: sorting, filtering, no complaint on the console, nothing wider than a phone.

A script is put at the end of a copy of the page; it does what a reader would do and writes what it finds into the
document, which the browser then prints. The copy's pictures are not lazy, so that a page that has loaded has them all.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")

SCRIPT = """
<pre id="found"></pre><script>
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
  found.broken = Array.from(document.images).filter(image => image.naturalWidth === 0).length;
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script></body>
"""


def visit(paths, folder, width):
    """What the script found, and what the browser complained of."""
    page = paths.report.with_name("visited.html").resolve()  # beside the report, where its other pictures lie
    report = paths.report.read_text(encoding="utf-8")
    assert ' loading="lazy"' in report
    page.write_text(report.replace(' loading="lazy"', "").replace("</body>", SCRIPT), encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--v=0",
        f"--user-data-dir={folder}",
    ]
    done = subprocess.run(
        [BROWSER, *options, f"--window-size={width},900", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    found = json.loads(
        html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL).group(1))
    )
    return found, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def desktop(finished_folder, tmp_path_factory):
    from mlcl.records.paths import StudyPaths

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_folder)
        return visit(StudyPaths("tiny"), tmp_path_factory.mktemp("desktop"), 1280)


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


def test_on_a_phone_only_tables_and_wide_figures_scroll_sideways(finished, tmp_path):
    found, complaints = visit(finished, tmp_path, 500)  # the narrowest window that headless chromium gives
    assert complaints == []
    assert found["pageWidth"] <= found["windowWidth"]

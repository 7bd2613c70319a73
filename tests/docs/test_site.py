"""Every page is reached from the site's navigation, every link leads somewhere. `make docs` builds the site itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import mlcl
from tests import scripts

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md")),
    }
)
NOTEBOOK = "docs/tutorials/your_data_to_an_answer.ipynb"
LINK = re.compile(r"\]\(([^)\s#]+)(?:#([^)\s]*))?\)")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return scripts.load("docs/site/hooks.py")


def places(nav: Any) -> Iterator[str]:
    for each in nav:
        for value in each.values():
            if isinstance(value, str):
                yield value
            else:
                yield from places(value)


def test_the_navigation_has_every_page_once(hooks: ModuleType) -> None:
    listed = list(places(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    own = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    own += [page.relative_to(ROOT / "docs").with_suffix(".md").as_posix() for page in hooks.NOTEBOOKS]
    assert sorted(listed) == sorted([*own, *hooks.MOVED.values()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, _ in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    ("source", "site", "link", "moved"),
    [
        ("docs/python.md", "python.md", "[s](../config/README.md#search)", "[s](studies.md#search)"),
        ("README.md", "index.md", "[l](docs/losses.md)", "[l](losses.md)"),
        ("config/README.md", "studies.md", "[l](../docs/losses.md)", "[l](losses.md)"),
        ("docs/howto/x.md", "howto/x.md", "[l](../losses.md)", "[l](../losses.md)"),
        ("docs/howto/x.md", "howto/x.md", "[s](../../config/README.md)", "[s](../studies.md)"),
        ("README.md", "index.md", "[c](config/default.yaml)", "c (`config/default.yaml`)"),
        ("README.md", "index.md", "[config/x.yaml](config/x.yaml)", "`config/x.yaml`"),
        ("README.md", "index.md", "[a](https://arxiv.org/abs/1)", "[a](https://arxiv.org/abs/1)"),
        ("README.md", "index.md", "![p](docs/figures/a.png)", "![p](figures/a.png)"),
        ("README.md", "index.md", f"[n]({NOTEBOOK})", "[n](tutorials/your_data_to_an_answer.md)"),
        (NOTEBOOK, "tutorials/x.md", "[s](../../config/README.md#search)", "[s](../studies.md#search)"),
    ],
)
def test_links_are_moved(hooks: ModuleType, source: str, site: str, link: str, moved: str) -> None:
    assert hooks.with_links(link, source, site) == moved


def test_bars_in_the_code_of_a_table_are_shown_without_their_backslash(hooks: ModuleType) -> None:
    html = r"<p><code>a \| b</code></p><table><tr><td>x</td><td><code>1/\|y_i\|</code></td></tr></table>"
    shown = hooks.on_page_content(html, None, None, None)
    assert (
        shown == r"<p><code>a \| b</code></p><table><tr><td>x</td><td><code>1/|y_i|</code></td></tr></table>"
    )


def test_one_version_everywhere() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == mlcl.__version__ == str(citation["version"])
    assert f"## {mlcl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_public_ci_runs_what_ci_runs() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["checks"]
    assert steps["steps"][-1] == {"run": "bash .ci/run"}
    assert steps["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]

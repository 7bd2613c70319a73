"""Hooks of mkdocs: READMEs outside of docs/ become pages, and links lead to where the pages lie on the site.

In the repository the same links lead to the files, so the pages are read there and here without a second copy.
"""

from __future__ import annotations

import os.path
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOVED = {
    "README.md": "index.md",
    "config/README.md": "studies.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the repository -> page of the site."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```(\w+) [^\n{]*$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside of docs/."""
    from mkdocs.structure.files import File

    for source, page in MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites links for the site, and the info strings of code blocks that tests read (`csv file=reviews.csv`)."""
    site = page.file.src_uri
    source = next((file for file, moved in MOVED.items() if moved == site), f"docs/{site}")
    return FENCE.sub(r"```\1", with_links(markdown, source, site))


def with_links(markdown: str, source: str, site: str) -> str:
    """source: the page's path in the repository; site: its path on the site. What has no page is named by its path."""

    def moved(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = MOVED.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if page is None:
            return f"`{file}`" if text == file else f"{text} (`{file}`)"
        return f"{picture}[{text}]({os.path.relpath(page, posixpath.dirname(site) or '.')}{anchor or ''})"

    return LINK.sub(moved, markdown)

"""Hooks of mkdocs: READMEs outside of docs/ and notebooks become pages, and links lead to where these lie on the site.

In the repository the same links lead to the files, so the pages are read there and here without a second copy.
"""

from __future__ import annotations

import json
import os.path
import posixpath
import re
from collections.abc import Mapping
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
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
RUN = ROOT / "build/tutorials"
"""Where `docs/run_tutorials.py` writes them with what they print."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
DOWNLOAD = "download it"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
FENCE = re.compile(r"^```(\w+) [^\n{]*$", re.MULTILINE)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside of docs/, and those that are notebooks."""
    from mkdocs.structure.files import File

    for notebook in NOTEBOOKS:
        page = notebook.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        files.append(File.generated(config, page, content=as_markdown(with_outputs(notebook), notebook.name)))
    for source, page in MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites links for the site, and the info strings of code blocks that tests read (`csv file=reviews.csv`)."""
    site = page.file.src_uri
    source = next((file for file, moved in MOVED.items() if moved == site), f"docs/{site}")
    return FENCE.sub(r"```\1", with_links(markdown, source, site))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """A bar in a table's code is written `\\|`, or it would end the cell; mkdocs shows the backslash, forges do not."""
    return CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def with_links(markdown: str, source: str, site: str) -> str:
    """source: the page's path in the repository; site: its path on the site. What has no page is named by its path."""

    def moved(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = MOVED.get(file) or (file.removeprefix("docs/") if file.startswith("docs/") else None)
        if page is not None and ROOT / file in NOTEBOOKS and text != DOWNLOAD:
            page = page.removesuffix(".ipynb") + ".md"
        if page is None:
            return f"`{file}`" if text == file else f"{text} (`{file}`)"
        return f"{picture}[{text}]({os.path.relpath(page, posixpath.dirname(site) or '.')}{anchor or ''})"

    return LINK.sub(moved, markdown)


def with_outputs(notebook: Path) -> dict[str, Any]:
    """The notebook as it was run last, if it still says the same; else as it is, without outputs."""
    own = json.loads(notebook.read_text(encoding="utf-8"))
    run = RUN / notebook.name
    if run.exists():
        stored: dict[str, Any] = json.loads(run.read_text(encoding="utf-8"))
        if [cell["source"] for cell in stored["cells"]] == [cell["source"] for cell in own["cells"]]:
            return stored
    return dict(own)


def as_markdown(notebook: Mapping[str, Any], name: str) -> str:
    """Texts as they are, code in fences, and below each cell what it gave."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        else:
            parts.append(f"```{_language(text)}\n{text}\n```")
            parts += filter(None, map(_output, cell["outputs"]))
    title, _, rest = "\n\n".join(parts).partition("\n")
    return f"{title}\n\n*A notebook: [{DOWNLOAD}]({name}).*\n{rest}\n"


def _language(code: str) -> str:
    """Of a cell: `!command`, `%%writefile study.yaml`, or Python."""
    if code.startswith("!"):
        return "bash"
    return "yaml" if re.match(r"%%writefile \S+\.yaml\n", code) else "python"


def _output(output: Mapping[str, Any]) -> str:
    """What was printed in a fence of its own kind; a value as HTML or Markdown, else as text. Warnings are left out."""
    if output["output_type"] == "stream":
        return _printed("".join(output["text"])) if output["name"] == "stdout" else ""
    data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        html = re.sub(r"<table[^>]*>", "<table>", html)  # the site's own look
        return f'<div class="output">{"".join(line.strip() for line in html.splitlines())}</div>'
    if "text/markdown" in data:
        return data["text/markdown"]
    return _printed(data.get("text/plain", ""))


def _printed(text: str) -> str:
    text = ESCAPES.sub("", text).rstrip("\n")
    return f"```{{.text .output}}\n{text}\n```" if text else ""

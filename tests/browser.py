"""Pages in a real browser, headless.

A script is put at the end of a copy of the page; it does what a reader would do and writes what it finds, as JSON, into
the element `found`, which the browser then prints with the page. The copy's pictures are not lazy, so that a page that
has loaded has them all.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")


def visit(page: Path, script: str, profile: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """What the script found, and what the browser complained of.

    `profile`: a folder for the browser's own files. `width`: of the window in pixels, 500 at least.
    """
    assert BROWSER is not None
    text = page.read_text(encoding="utf-8").replace(' loading="lazy"', "")
    end = f'<pre id="found"></pre><script>{script}</script></body>'
    copy = page.with_name(f"visited-{page.name}").resolve()  # beside the page, where its other pictures lie
    copy.write_text(text.replace("</body>", end), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    options += [f"--user-data-dir={profile}", f"--window-size={width},900"]
    try:
        done = subprocess.run(
            [BROWSER, *options, "--dump-dom", copy.as_uri()],
            capture_output=True, text=True, timeout=180, check=True,
        )  # fmt: skip
    finally:
        copy.unlink()
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:]
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found.group(1))), complaints

"""Runs the notebooks of docs/tutorials, and writes them with what they print into build/tutorials, for the site.

    python docs/run_tutorials.py            # a minute; `make docs` does it

In the repository the notebooks have no outputs, so that these are never those of another version.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/tutorials"
MADE = ROOT / "build/tutorials"
TIMEOUT = 300
"""Seconds that a cell may take."""
NO_PORTS = Config({"ConnectionFileMixin": {"transport": "ipc"}})
"""The kernel is talked to through files."""


def run(file: Path) -> Any:
    """The notebook with its outputs. Raises nbclient's CellExecutionError if a cell fails."""
    # Of this environment are the kernel, `!mlcl` and the package itself, in a kernel that starts in another folder.
    paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}", "PYTHONPATH": f"{ROOT}{os.pathsep}"}
    environment = os.environ | {name: start + os.environ.get(name, "") for name, start in paths.items()}
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=TIMEOUT, coalesce_streams=True, config=NO_PORTS
    )
    client.execute(env=environment)
    return notebook


def main() -> None:
    MADE.mkdir(parents=True, exist_ok=True)
    for file in sorted(FOLDER.glob("*.ipynb")):
        begun = time.perf_counter()
        nbformat.write(run(file), MADE / file.name)
        print(f"{file.name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

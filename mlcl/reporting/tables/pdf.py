"""LaTeX -> PDF, where an engine is installed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from mlcl.errors import MlclError
from mlcl.records.files import atomic_file

ENGINES = ("pdflatex", "lualatex", "xelatex", "tectonic")
TIME_LIMIT_S = 120
log = logging.getLogger(__name__)


def engine() -> str | None:
    """The first LaTeX engine that is installed."""
    return next((name for name in ENGINES if shutil.which(name)), None)


def compile_pdf(source: Path) -> Path | None:
    """Makes the PDF beside the source; without an engine, or the packages it needs, removes an older one instead.

    Raises MlclError if LaTeX finds a fault in the file.
    """
    target = source.with_suffix(".pdf")
    if (name := engine()) is None:
        log.info("%s: no LaTeX engine is installed, so there is no PDF", source)
        target.unlink(missing_ok=True)
        return None
    with tempfile.TemporaryDirectory() as folder:
        made, output = _run(name, source, Path(folder))
        if made is None and (missing := re.search(r"File `([^']+)' not found", output)):
            log.warning("%s: LaTeX lacks %s, so there is no PDF", source, missing.group(1))
            target.unlink(missing_ok=True)
            return None
        if made is None:
            raise MlclError(f"{source}: {name} does not compile it:\n{_complaint(output)}")
        with atomic_file(target) as aside:
            shutil.copyfile(made, aside)
    return target


def _run(name: str, source: Path, folder: Path) -> tuple[Path | None, str]:
    options = (
        ["--outdir", str(folder)]
        if name == "tectonic"
        else ["-interaction=nonstopmode", "-halt-on-error", f"-output-directory={folder}"]
    )
    # The same source gives the same file: no time of day in it.
    environment = os.environ | {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
    try:
        done = subprocess.run(
            [name, *options, str(source)],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no end after {TIME_LIMIT_S} s"
    made = folder / source.with_suffix(".pdf").name
    return (made if done.returncode == 0 and made.exists() else None), done.stdout + done.stderr


def _complaint(output: str) -> str:
    lines = output.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("!")), max(0, len(lines) - 10))
    return "\n".join(lines[start : start + 10])

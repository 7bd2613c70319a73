"""Builds wheel and sdist of both distributions: `mlcl`, the suite, and `mlcl-losses`, the losses without it.

    python distributions/build.py [mlcl | mlcl-losses] [--to FOLDER]        (needs setuptools; downloads nothing)

Each is built in a folder of its own that holds the files of the repository only, so that nothing left over from an
earlier build gets into it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import mlcl

HERE = Path(__file__).parent
ROOT = HERE.parent
NAMES = ("mlcl", "mlcl-losses")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def stage(name: str, folder: Path) -> None:
    """Puts together what a distribution is built of, in an empty folder."""
    if name == "mlcl":
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, folder)
        for package in ("mlcl", "data_prep"):
            shutil.copytree(ROOT / package, folder / package, ignore=LEFT_OUT)
        return
    # The losses, and the one module of the suite that they use.
    for path in (HERE / name / "pyproject.toml", HERE / name / "README.md", ROOT / "LICENSE"):
        shutil.copy(path, folder)
    (folder / "VERSION").write_text(mlcl.__version__ + "\n", encoding="utf-8")
    shutil.copytree(ROOT / "mlcl/losses", folder / "mlcl/losses", ignore=LEFT_OUT)
    shutil.copy(ROOT / "mlcl/suggest.py", folder / "mlcl")
    shutil.copy(ROOT / "mlcl/py.typed", folder / "mlcl/losses")


def build(name: str, to: Path) -> tuple[Path, Path]:
    """Builds a distribution into `to`; returns wheel and sdist."""
    from setuptools import build_meta

    to = to.resolve()
    to.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        stage(name, Path(folder))
        try:
            os.chdir(folder)
            with contextlib.redirect_stdout(io.StringIO()):  # a line for each file
                return to / build_meta.build_wheel(str(to)), to / build_meta.build_sdist(str(to))
        finally:
            os.chdir(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help="Default: both.")
    parser.add_argument("--to", type=Path, default=ROOT / "build/dist", help="Default: build/dist.")
    arguments = parser.parse_args()
    for name in arguments.names or NAMES:
        for made in build(name, arguments.to):
            print(made)

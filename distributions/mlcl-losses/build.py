"""Builds wheel and sdist of `mlcl-losses`: the losses, and the one module of the suite that they use.

python distributions/mlcl-losses/build.py [--to FOLDER]        (needs setuptools; downloads nothing)
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import mlcl

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def stage(folder: Path) -> None:
    """Puts together what the distribution is built of, in an empty folder."""
    for file in (HERE / "pyproject.toml", HERE / "README.md", ROOT / "LICENSE"):
        shutil.copy(file, folder)
    (folder / "VERSION").write_text(mlcl.__version__ + "\n", encoding="utf-8")
    shutil.copytree(
        ROOT / "mlcl/losses", folder / "mlcl/losses", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    shutil.copy(ROOT / "mlcl/suggest.py", folder / "mlcl")
    shutil.copy(ROOT / "mlcl/py.typed", folder / "mlcl/losses")


def build(to: Path) -> list[Path]:
    """Builds both into `to`; returns the files."""
    from setuptools import build_meta

    to = to.resolve()
    to.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        try:
            os.chdir(folder)
            return [to / build_meta.build_wheel(str(to)), to / build_meta.build_sdist(str(to))]
        finally:
            os.chdir(before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=ROOT / "build/dist", help="Default: build/dist.")
    for made in build(parser.parse_args().to):
        print(made)

"""The first ten minutes: is this machine fit, a file to start from, the keys of a study, what to cite."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlcl.cli.common import DataRoot, StudyFile, app, say

PANEL = "Start"


@app.command(rich_help_panel=PANEL)
def doctor(data_root: DataRoot = None) -> None:
    """Look at this machine: Python, torch, GPU, disk, data root, cache, LaTeX, browser; exit code 1 if studies fail."""
    from mlcl import doctor as checks
    from mlcl.study.plan import DATA_ROOT_VARIABLE, DEFAULT_DATA_ROOT

    found = []
    for check in checks.examine(data_root or Path(os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT)):
        print(check.render(), flush=True)
        found.append(check.verdict)
    sys.exit(1 if "bad" in found else 0)


@app.command(rich_help_panel=PANEL)
def new(
    kind: Annotated[Literal["study", "loss", "dataset"], typer.Argument()],
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and '_'; the file is named so.")],
    to: Annotated[Path, typer.Option(help="The folder.")] = Path(),
) -> None:
    """Write a commented file that runs as it stands: a study, a loss, or a study on a table of your own."""
    from mlcl.scaffold import write_new

    for file in write_new(kind, name, to):
        say(f"{file}: written")


@app.command(rich_help_panel=PANEL)
def schema(
    to: Annotated[Path | None, typer.Option(help="The file. Default: print it.")] = None,
) -> None:
    """Write the JSON Schema of study files, by which editors complete and check keys."""
    from mlcl.records.files import write_text
    from mlcl.study.schema import study_schema

    text = json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"
    if to is None:
        print(text, end="")
    else:
        write_text(to, text)


@app.command(rich_help_panel=PANEL)
def cite(
    study: StudyFile,
    to: Annotated[Path | None, typer.Option(help="The .bib file. Default: print it.")] = None,
) -> None:
    """Write BibTeX entries of the datasets, losses and encoders that a study uses."""
    from mlcl.records.files import write_text
    from mlcl.study.cite import bibliography
    from mlcl.study.config import load_study

    text = bibliography(load_study(study))
    if to is None:
        print(text, end="")
    else:
        write_text(to, text)

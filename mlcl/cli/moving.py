"""Records moved between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlcl.cli.common import StudyArgument, app, open_current, say

PANEL = "Move records"


@app.command(rich_help_panel=PANEL)
def pack(
    study: StudyArgument,
    to: Annotated[Path | None, typer.Option(help="The file. Default: <study>.tar.gz.")] = None,
) -> None:
    """Pack a study's records and what belongs to them into one file, to be moved to another machine."""
    from mlcl.records import archive

    opened = open_current(study)
    say(archive.pack(opened, to or Path(f"{opened.outline.study}.tar.gz")).render())


@app.command(rich_help_panel=PANEL)
def unpack(
    file: Annotated[Path, typer.Argument(help="A file that 'mlcl pack' wrote.")],
    folder: Annotated[Path, typer.Argument(help="A new folder; report on it, or merge it into a study.")],
) -> None:
    """Unpack such a file, checked against its digests: all of it or nothing."""
    from mlcl.records import archive

    say(archive.unpack(file, folder).render())


@app.command(rich_help_panel=PANEL)
def merge(
    study: Annotated[str, typer.Argument(help="The study's name; its records are completed.")],
    sources: Annotated[list[Path], typer.Argument(help="Folders results/<study> of other machines.")],
) -> None:
    """Bring together the records of several machines or studies; conflicts are refused with a list."""
    from mlcl.records import merge as merging

    print(merging.merge(sources, study).render())

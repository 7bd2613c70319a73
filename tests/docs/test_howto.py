"""docs/howto: the files, commands and Python of each page, as they stand there.

`snakemake --config study=FILE` is taken for what its rules call: preparing, training each cell that is left, collecting
and tables. The workflow itself has tests of its own (tests/workflow).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlcl.cli import app
from mlcl.records.paths import CellId, StudyPaths
from mlcl.study.make import THREAD_VARIABLES
from mlcl.study.plan import make_plan

FOLDER = Path(__file__).parents[2] / "docs/howto"
BLOCK = re.compile(r"```(\w+)(?: (file|edit)=(\S+))?\n(.*?)```", re.DOTALL)


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def typeset(*command: str) -> str:
    """What LaTeX or BibTeX prints; nothing where it is not installed."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_study(file: str) -> None:
    call("prepare", file)
    for planned in make_plan(Path(file)).cells:
        if planned.state != "current":
            call("train", file, str(planned.cell.id))
    call("tables", file)


def edit(file: Path, lines: str) -> None:
    """Puts these top-level keys in the place of those of the same name."""
    text = file.read_text()
    for line in lines.splitlines():
        key = line.partition(":")[0]
        text, count = re.subn(rf"^{key}:.*$", line, text, flags=re.MULTILINE)
        assert count == 1, key
    file.write_text(text)


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    monkeypatch.chdir(tmp_path)
    for variable in THREAD_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))

    def follow_page(name: str) -> list[str]:
        """Does what the page says; returns what its `mlcl` commands print."""
        printed = []
        for kind, action, file, content in BLOCK.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8")):
            if action == "file":
                Path(file).write_text(content, encoding="utf-8")
            elif action == "edit":
                edit(Path(file), content)
            elif kind == "python":
                exec(content, {})
            else:
                assert kind == "bash"
                for line in content.splitlines():
                    program, *arguments = shlex.split(line)
                    if program == "snakemake":
                        run_study(arguments[-1].removeprefix("study="))
                    elif program in ("pdflatex", "bibtex"):
                        printed.append(typeset(program, *arguments))
                    elif program == "cp":
                        shutil.copyfile(*arguments)
                    elif arguments[0] == "work":  # starts processes
                        command = [sys.executable, "-m", "mlcl", *arguments]
                        done = subprocess.run(command, capture_output=True, text=True, check=False)
                        assert done.returncode == 0, done.stderr
                        printed.append(done.stderr)
                    else:
                        printed.append(call(*arguments))
        return printed

    return follow_page


def test_more_seeds(follow: Callable[[str], list[str]]) -> None:
    _, plan, status, changes = follow("more_seeds")
    assert "2 of 6 cells have a current record, 4 missing" in plan
    assert "4 to make: there is no record (4)" in plan
    assert "6 of 6 cells have a current record" in status
    assert "means over seeds compared" in changes
    assert "noise unknown: one seed" in changes
    paths = StudyPaths("digits")
    assert changes.startswith(("Before:\n  ", "The conclusion is the same:\n  "))
    first, second = (
        paths.record(CellId("digit_scenes", "cnn", "reg", "base", seed)).stat().st_mtime_ns for seed in (0, 1)
    )
    assert first < second
    assert " ± " in (paths.tables / "main.md").read_text()


def test_an_ablation(follow: Callable[[str], list[str]]) -> None:
    (plan,) = follow("ablation")
    assert "digit_scenes/cnn/reg/cold/seed0: there is no record" in plan
    assert "digit_scenes/cnn/bce/warm: skipped: bce has no temperature" in plan
    table = Path("paper_tables/digits/variants.md").read_text()
    assert "cold" in table
    assert "warm" in table


def test_searching(follow: Callable[[str], list[str]]) -> None:
    plan, worked, _ = follow("search")
    assert "0 of 8 cells have a current record, 8 missing; 4 of these are trials of the search" in plan
    assert set(json.loads(Path("results/digits/chosen.json").read_text())) == {
        "digit_scenes/cnn/bce",
        "digit_scenes/cnn/reg",
    }
    assert (
        "/bce/trial-00/seed1000: val map: " in worked
    )  # whoever watches is to choose nothing by test scores
    assert "/bce/base/seed0: test map: " in worked
    assert worked.splitlines()[-1] == "next: mlcl report digits.yaml --all"
    assert "learning rate" in Path("paper_tables/digits/search.md").read_text()
    assert "of the same space" in Path("results/digits/report.html").read_text()


def test_sharing(follow: Callable[[str], list[str]]) -> None:
    printed = follow("share_results")
    shown, crate = printed[-2:]
    assert "digit_scenes/cnn/reg/base/seed0 of the study digits: ok" in shown
    assert "described in digits-crate/ro-crate-metadata.json" in crate
    assert Path("digits-crate/report.html").is_file()
    assert '"https://spdx.org/licenses/CC-BY-4.0"' in Path("digits-crate/ro-crate-metadata.json").read_text()
    shutil.rmtree("results")
    assert Path("from_anna/tables/main.md").is_file()
    assert "digit_scenes" in call("coverage", "from_anna")


def test_a_table_in_a_paper(follow: Callable[[str], list[str]]) -> None:
    *_, bibtex, _, last = follow("paper")
    entries = Path("references.bib").read_text()
    source = Path("article.tex").read_text()
    for key in re.findall(r"\\cite\{(\w+)\}", source):
        assert f"{{{key},\n" in entries
    numbers = Path("paper_tables/digits/numbers.tex").read_text()
    for name in re.findall(r"\\mlcl\{([^.}]+)\}", source):
        assert f"mlcl:{name}\\endcsname" in numbers
    assert "\\label{tab:digits-main}" in Path("paper_tables/digits/main.tex").read_text()
    if shutil.which("pdflatex") and shutil.which("bibtex"):
        assert "Warning" not in bibtex
        assert "undefined" not in last
        assert "Rerun" not in last
        assert "(1 page" in last


def test_the_page_of_each_howto_is_tested() -> None:
    assert {page.stem for page in FOLDER.glob("*.md")} == {
        "more_seeds",
        "ablation",
        "share_results",
        "search",
        "paper",
    }

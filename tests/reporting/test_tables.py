"""Tables: what they show, and how LaTeX shows it.

The golden files are made anew by `MLCL_UPDATE_GOLDEN=1 python -m pytest tests/reporting/test_tables.py`; look at
the difference before committing it.
"""

from __future__ import annotations

import csv
import os
import shutil
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from mlcl.errors import MlclError
from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.reporting import tables, write_tables
from mlcl.reporting.contrasts import Contrasts
from mlcl.reporting.failures import Attempts
from mlcl.reporting.results import load_results
from mlcl.reporting.tables import latex, pdf
from mlcl.reporting.tables.costs import costs_table
from mlcl.reporting.tables.grid import main_table, readout_table
from mlcl.reporting.tables.table import Column, Number, Row, Table, Text, letter, with_marks

GOLDEN = Path(__file__).parent / "golden"
needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def independent(metric, y, p):
    """By scikit-learn, from the definitions in docs/metrics.md."""
    kept = y.any(axis=0)
    guessed = p > 0.5
    if metric == "micro_f1":
        return sk.f1_score(y, guessed, average="micro")
    if metric == "macro_f1":
        return sk.f1_score(y[:, kept], guessed[:, kept], average="macro", zero_division=0)
    return sk.average_precision_score(y[:, kept], p[:, kept], average="macro")


def test_every_number_of_the_table_is_recomputed_from_stored_scores(finished):
    checked = 0
    for table in ("main", "variants"):
        for row in read(finished.tables / f"{table}.csv"):
            if not row["mean"]:
                continue
            encoder = "none" if row["loss"] == "label_prior" else row["encoder"]
            values = []
            for seed in range(3):
                cell = CellId(row["dataset"], encoder, row["loss"], row.get("variant", "base"), seed)
                if f"seed {seed}: " in row["notes"]:  # diverged or stale
                    continue
                readout = "none" if encoder == "none" else "linear"
                with np.load(finished.cell(cell) / "scores.npz") as stored:
                    scores = stored[f"{readout}_test_scores"]
                    values.append(independent(row["metric"], stored["test_labels"], scores))
            assert int(row["n"]) == len(values)
            assert float(row["mean"]) == pytest.approx(statistics.fmean(values), abs=1e-9)
            assert float(row["sd"]) == pytest.approx(statistics.stdev(values), abs=1e-9)
            assert row["text"] == f"{100 * statistics.fmean(values):.1f}"
            checked += 1
    assert checked == 27 + 30


@pytest.mark.parametrize("name", ["main.tex", "main.md", "variants.tex", "variants.md"])
def test_tables_equal_their_golden_files(finished, name):
    made = (finished.tables / name).read_text()
    if os.environ.get("MLCL_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(made)
    assert made == (GOLDEN / name).read_text()


def test_the_same_numbers_stand_in_latex_markdown_and_csv(finished):
    tex, md = ((finished.tables / f"main.{ending}").read_text() for ending in ("tex", "md"))
    for row in read(finished.tables / "main.csv"):
        if row["mean"]:
            spread = f"{100 * float(row['sd']):.1f}"
            assert row["text"] in tex
            assert f"\\,{spread}" in tex
            assert f"± {spread}" in md


@needs_latex
def test_the_table_compiles_alone(finished):
    assert (finished.tables / "main.pdf").read_bytes().startswith(b"%PDF")


@needs_latex
def test_the_table_compiles_inside_another_document(finished, tmp_path):
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,multirow,siunitx}\begin{document}"
        rf"Before. \input{{{(finished.tables / 'main.tex').resolve()}}} After, Table~\ref{{tab:tiny-main}}."
        r"\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


@needs_latex
def test_the_same_table_gives_the_same_pdf(finished, tmp_path):
    source = tmp_path / "main.tex"
    shutil.copy(finished.tables / "main.tex", source)
    first = pdf.compile_pdf(source).read_bytes()
    assert pdf.compile_pdf(source).read_bytes() == first


@needs_latex
def test_a_pdf_is_made_again_only_if_its_source_changed(grid, monkeypatch):
    grid.plan().make_all()
    collect(open_study("tiny"))
    write_tables("tiny")
    made = []
    monkeypatch.setattr(tables, "compile_pdf", made.append)
    write_tables("tiny")
    assert made == []
    grid.fail(CellId("scenes", "cnn", "bce", "base", 0), "oom", "too large")
    collect(open_study("tiny"))
    write_tables("tiny")
    assert {source.name for source in made} == {
        "main.tex",
        "main-head.tex",
        "criteria.tex",
        "differences.tex",
        "costs.tex",
    }


@needs_latex
def test_a_fault_in_latex_is_an_error_with_the_engines_words(tmp_path):
    source = tmp_path / "wrong.tex"
    source.write_text(r"\documentclass{article}\begin{document}\nonsense\end{document}")
    with pytest.raises(MlclError, match=r"(?s)wrong\.tex.*Undefined control sequence"):
        pdf.compile_pdf(source)


def test_without_an_engine_there_is_no_pdf_and_no_old_one_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    source = tmp_path / "main.tex"
    source.write_text("")
    source.with_suffix(".pdf").write_text("of old")
    assert pdf.compile_pdf(source) is None
    assert not source.with_suffix(".pdf").exists()


def test_no_record_at_all_gives_tables_of_marks(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    write_tables("tiny")
    rows = read(grid.paths.tables / "main.csv")
    assert rows
    assert all(row["text"] == "–" and row["notes"] == "not run yet" for row in rows)


def test_a_row_with_a_missing_seed_shows_how_many_there_are_and_does_not_compete(finished):
    rows = {(r["loss"], r["dataset"], r["metric"]): r for r in read(finished.tables / "main.csv")}
    diverged = rows["reg", "scenes", "map"]
    assert (diverged["n"], diverged["expected"], diverged["mark"]) == ("2", "3", "")
    assert "2 of 3 seeds; seed 1: diverged (the loss is NaN" in diverged["notes"]
    assert rows["bce", "scenes", "map"]["mark"] == "best"
    assert rows["bce", "docs", "map"]["mark"] == ""
    assert "2 of 3 seeds; seed 2: stale" in rows["bce", "docs", "map"]["notes"]


def numbers(*values):
    return [Number(value, 0.0, 3, 3) for value in values]


def marks(cells):
    return [cell.mark for cell in cells]


def test_best_and_second_follow_the_direction_of_the_metric():
    column, all_in = numbers(0.2, 0.5, 0.3), [True] * 3
    assert marks(with_marks(column, all_in, higher_is_better=True)) == [None, "best", "second"]
    assert marks(with_marks(column, all_in, higher_is_better=False)) == ["best", None, "second"]


def test_baselines_and_incomplete_rows_get_no_mark():
    assert marks(with_marks(numbers(0.2, 0.9, 0.3), [True, False, True], True)) == ["second", None, "best"]


def test_equal_values_share_the_mark_and_one_competitor_has_nobody_to_beat():
    assert marks(with_marks(numbers(0.5, 0.5, 0.3), [True] * 3, True)) == ["best", "best", None]
    assert marks(with_marks(numbers(0.5, 0.3), [True, False], True)) == [None, None]


def test_marks_are_given_by_the_full_value_not_by_the_printed_one():
    assert marks(with_marks(numbers(0.50001, 0.50002), [True] * 2, True)) == ["second", "best"]


def wide_table(columns):
    return Table(
        name="wide", label="tab:wide", caption="Wide & 100 %", stubs=("Loss",), levels=("dataset", "metric"),
        columns=tuple(Column((f"d{i // 3}", f"m_{i}"), (f"d{i // 3}", f"m{i}")) for i in range(columns)),
        blocks=((Row(("a_b",), ("a_b",), tuple(Number(0.05 * i, 0.11, 3, 3) for i in range(columns))),),),
    )  # fmt: skip


def test_wide_tables_are_cut_between_datasets():
    assert [(p.start, p.stop) for p in wide_table(15).panels(6)] == [(0, 6), (6, 12), (12, 15)]
    assert [(p.start, p.stop) for p in wide_table(8).panels(4)] == [(0, 3), (3, 6), (6, 8)]
    assert [(p.start, p.stop) for p in wide_table(6).panels(2)] == [(0, 2), (2, 3), (3, 5), (5, 6)]


@needs_latex
def test_a_table_in_parts_compiles(tmp_path):
    (tmp_path / "wide.tex").write_text(latex.render(wide_table(20), "nothing"))
    assert pdf.compile_pdf(tmp_path / "wide.tex") is not None
    assert "Part 4 of 4" in (tmp_path / "wide.tex").read_text()


@needs_latex
def test_every_special_character_of_a_reason_compiles(tmp_path):
    nasty = r"\input{x} 50 % of a_b & c^d ~ #1 $x$ {y} <z> |w| ± × ↑ “q” … α 漢字 é"
    table = Table(
        name="nasty", label="tab:nasty", caption=nasty, stubs=("Loss",), levels=("metric",),
        columns=(Column((nasty,), ("m",)),),
        blocks=(tuple(Row((name,), (name,), (Text(notes=(0,)),)) for name in (nasty, "[1] a", "*b*", "漢字")),),
        notes=(nasty,),
    )  # fmt: skip
    (tmp_path / "nasty.tex").write_text(latex.render(table, "nothing"))
    assert pdf.compile_pdf(tmp_path / "nasty.tex") is not None


def test_notes_are_lettered_beyond_z():
    assert [letter(i) for i in (0, 1, 25, 26, 27, 52)] == ["a", "b", "z", "aa", "ab", "ba"]


def test_costs_are_told_where_records_have_them(finished):
    table = costs_table(load_results("tiny"))
    headers = [column.headers for column in table.columns if column.key[0] == "cnn"]
    assert [header for _, header in headers] == [
        "compute in s", "examples/s", "step in ms", "loss in % of step", "FLOP rate in % of device's", "memory in MB",
    ]  # fmt: skip
    rows = {row.key[0]: [cell.text for cell in row.cells[:6]] for row in table.rows}
    assert rows["jaccard"] == ["9.5", "800", "20.0", "35.0", "40.0", "568"]


def test_the_main_table_compares_one_readout_and_the_others_stand_beside_it(finished):
    results = load_results("tiny")
    row = ("scenes", "cnn", "bce", "base")
    shown_tables = {
        table.name: table for table in tables.study_tables(results, Contrasts(results), Attempts("tables"))
    }
    assert "Readout: linear heads on frozen features" in shown_tables["main"].caption
    assert "Readout: the head trained with the encoder." in shown_tables["main-head"].caption
    for name, readout in (("main", "linear"), ("main-head", "head")):
        shown = {row.key[0]: row.cells[0] for row in shown_tables[name].rows}
        own = results.with_readout(readout).mean_sd_n(row, "test", "micro_f1")
        assert shown["bce"].value == own[0]
        prior = results.mean_sd_n(("scenes", "none", "label_prior", "base"), "test", "micro_f1")
        assert shown["label_prior"].value == prior[0], "what has no encoder stands beside every readout"
    beside = shown_tables["main-head"]
    of_jaccard = next(row for row in beside.rows if row.key == ("jaccard",)).cells[0]
    assert isinstance(of_jaccard, Text)
    assert any("has no such readout: head" in beside.notes[number] for number in of_jaccard.notes)


def notes_of(table, loss):
    """The notes on the cells of a row, a text for each metric."""
    row = next(row for row in table.rows if row.key == (loss,))
    return {
        column.key[2]: " ".join(table.notes[note] for note in cell.notes)
        for column, cell in zip(table.columns, row.cells, strict=True)
    }


def test_metrics_of_kept_embeddings_are_no_readout_of_a_loss_without_a_head(grid):
    grid.datasets, grid.metrics = {"scenes": "image"}, ["micro_f1", "alignment"]
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    features = results.metrics[(results.metrics["encoder"] == "cnn") & (results.metrics["metric"] == "map")]
    features = features[(features["readout"] == "linear") & (features["split"] == "test")]
    metrics = pd.concat([results.metrics, features.assign(readout="none", metric="alignment", value=0.5)])
    kept = replace(results, metrics=metrics)
    table = readout_table(kept, "head")
    assert notes_of(table, "jaccard")["micro_f1"] == "has no such readout: head"
    assert not any("anew" in note for note in table.notes)
    assert kept.with_readout("head").has_readout(("scenes", "none", "label_prior", "base"))
    assert notes_of(table, "label_prior")["alignment"] == "has no embeddings, of which alignment is a metric"
    not_kept = notes_of(main_table(results), "jaccard")["alignment"]
    assert not_kept == "the records have no alignment: it needs the study key keep_embeddings: true"


def test_a_metric_that_older_records_lack_is_noted_with_the_command_that_makes_it(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    older = replace(results, metrics=results.metrics[results.metrics["metric"] != "map"])
    assert (
        notes_of(main_table(older), "bce")["map"]
        == "the records have no mAP; 'mlcl evaluate config/tiny.yaml' scores them anew"
    )
    assert notes_of(main_table(replace(older, kept=True)), "bce")["map"] == "the kept results have no mAP"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0"), (0.0312, "0.031"), (0.375, "0.38"), (9.54, "9.5"), (9.96, "10"), (412.0, "412")],
)
def test_short_costs_have_two_digits(grid, seconds, shown):
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    of_bce = (results.costs["loss"] == "bce") & (results.costs["cost"] == "cpu_seconds")
    results.costs.loc[of_bce, "value"] = seconds
    rows = {row.key[0]: row.cells for row in costs_table(results).rows}
    assert rows["bce"][0].text == shown


def test_an_article_is_not_told_of_tables_that_it_does_not_have(finished):
    assert "table of differences" not in (finished.tables / "main.tex").read_text()
    assert "table of differences says which can be told apart" in (finished.tables / "main.md").read_text()

"""Papers' numbers beside ours, numbers as macros, and the specifications that are shipped."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlcl.records.collect import collect
from mlcl.records.outline import open_study
from mlcl.reporting import write_tables
from mlcl.reporting.metric_info import metric_info
from mlcl.reporting.results import load_results
from mlcl.reporting.specs import SpecError, read_papers
from mlcl.reporting.statistics.seeds import mean_interval
from mlcl.reporting.tables.papers import paper_table
from mlcl.reporting.tables.table import Number, Text

SPECS = Path("paper_tables") / "specs"
SHIPPED = Path(__file__).parents[2] / SPECS
SPEC = """
paper: A paper
source: its first version
caption: A paper's table
label: tab:a
datasets: {s: {title: SCENES, names: [other, scenes]}, gone: {title: GONE, names: [gone]}}
encoders: {net: {title: A net, names: [cnn]}}
losses: {b: {title: BCE, names: [bce]}, j: {title: L_Base, names: [jaccard]}, z: {title: Z, names: [zlpr]}}
metrics: [map, macro_f1]
"""
NUMBERS = """dataset,encoder,loss,metric,value,spread,source,table
s,net,b,map,95.0,,v1,2
s,net,j,map,12.0,0.5,v1,2
s,net,z,map,50.0,,v1,2
s,net,b,macro_f1,,,,
gone,net,b,map,70.0,,v1,2
"""


@pytest.fixture
def specs(grid):
    grid.readouts = ["linear"]
    return with_specs(grid)


def with_specs(grid):
    grid.plan().make_all()
    SPECS.mkdir(parents=True)
    (SPECS / "a.yaml").write_text(SPEC)
    (SPECS / "a.csv").write_text(NUMBERS)
    collect(open_study("tiny"))
    return grid


def rows_of(grid):
    write_tables("tiny")
    with (grid.paths.tables / "paper-a.csv").open(newline="") as file:
        found = {}
        for row in csv.DictReader(file):
            key = (row["dataset"], row["loss"], row["metric"])
            found.setdefault(key, {})[row["part"]] = row
    return found


def test_a_loss_is_read_by_its_own_head_as_papers_do(grid):
    rows = rows_of(with_specs(grid))
    results = load_results("tiny")
    by_head = {
        loss: results.with_readout("head").mean_sd_n(row_of(loss), "test", "map")
        for loss in ("bce", "jaccard")
    }
    by_linear = {loss: results.mean_sd_n(row_of(loss), "test", "map") for loss in ("bce", "jaccard")}
    assert by_head["jaccard"] is None
    assert by_head["bce"] != by_linear["bce"]
    assert float(rows["s", "b", "map"]["reproduced"]["mean"]) == pytest.approx(by_head["bce"][0])
    assert float(rows["s", "j", "map"]["reproduced"]["mean"]) == pytest.approx(by_linear["jaccard"][0])


def row_of(loss):
    return "scenes", "cnn", loss, "base"


def test_each_place_shows_reported_reproduced_difference_and_agreement(specs):
    rows = rows_of(specs)
    values = list(load_results("tiny").values(("scenes", "cnn", "bce", "base"), "test", "map").values())
    ours = mean_interval(values)
    own = rows["s", "b", "map"]
    assert float(own["reported"]["mean"]) == pytest.approx(0.95)
    assert float(own["reproduced"]["mean"]) == pytest.approx(ours.value)
    assert float(own["reproduced"]["sd"]) == pytest.approx(ours.half_width)
    assert float(own["difference"]["mean"]) == pytest.approx(ours.value - 0.95)
    assert own["difference"]["text"].startswith("+")
    agreement = {key: parts["agreement"]["text"] for key, parts in rows.items()}
    assert agreement["s", "b", "map"] == "within"
    assert agreement["s", "j", "map"] == "outside"
    assert agreement["s", "z", "map"] == "not run"
    assert agreement["gone", "b", "map"] == "not run"
    assert agreement["s", "b", "macro_f1"] == "not reported"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "names: [other, scenes]",
            "names: [scenes], settings: {split: own}",
            "scenes has split None in place of own",
        ),
        ("names: [cnn]", "names: [resnet50]", "scenes has the encoder cnn"),
        ("names: [cnn]", "names: [cnn], settings: {width: 64}", "scenes has width 24 in place of 64"),
        (
            "names: [cnn]",
            "names: [cnn], dataset_settings: {size: 224}",
            "scenes has size None in place of 224",
        ),
    ],
)
def test_a_row_of_another_split_or_encoder_fills_no_place_and_says_why(specs, old, new, reason):
    assert old in SPEC
    (SPECS / "a.yaml").write_text(SPEC.replace(old, new))
    rows = rows_of(specs)
    for loss in ("b", "j"):
        assert rows["s", loss, "map"]["agreement"]["text"] == "not run"
        assert rows["s", loss, "map"]["reproduced"]["text"] == f"not run: {reason}"
    assert ("s", "b", "macro_f1") not in rows, "neither reported nor run"
    assert f"Not compared: SCENES: {reason}." in (specs.paths.tables / "paper-a.md").read_text()


def test_the_row_with_the_right_settings_fills_the_place_though_another_comes_first(specs):
    spec, numbers = read_papers(SPECS)["a"]
    results = load_results("tiny")
    mine = replace(results.outline.datasets["scenes"], settings={"split": "own"})
    other = replace(mine, name="first", source="scenes", settings={"split": "official"})
    outline = replace(results.outline, datasets={"first": other, "scenes": mine})
    wanted = spec.datasets["s"].model_copy(update={"settings": {"split": "own"}})
    spec = spec.model_copy(update={"datasets": spec.datasets | {"s": wanted}})

    def text(outline):
        table = paper_table("a", spec, numbers, replace(results, outline=outline))
        row = next(r for block in table.blocks for r in block if r.key == ("s", "net", "map", "b"))
        return row.cells[1]

    assert isinstance(text(outline), Number)
    halves = {name: replace(d, fraction=0.5) for name, d in outline.datasets.items()}
    assert text(replace(outline, datasets=halves)) == Text("not run: scenes has 0.5 of the training rows")


def test_what_is_neither_reported_nor_run_is_counted_and_left_out(specs):
    rows = rows_of(specs)
    assert ("gone", "j", "map") not in rows
    # 2 datasets, 3 losses, 2 metrics; reported: 4, run besides these: bce and jaccard by macro-F1.
    assert "6 combinations are neither" in (specs.paths.tables / "paper-a.md").read_text()


def test_a_paper_without_a_dataset_of_the_study_has_no_table(specs):
    (SPECS / "a.yaml").write_text(SPEC.replace("[other, scenes]", "[other]"))
    write_tables("tiny")
    assert not (specs.paths.tables / "paper-a.tex").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_the_papers_table_and_the_macros_compile(specs, tmp_path):
    write_tables("tiny")
    assert (specs.paths.tables / "paper-a.pdf").exists()
    numbers = (specs.paths.tables / "numbers.tex").resolve()
    (tmp_path / "text.tex").write_text(
        rf"\documentclass{{article}}\input{{{numbers}}}\begin{{document}}"
        r"\mlcl{scenes/cnn/bce/map} $\pm$ \mlcl{scenes/cnn/bce/map/sd}, n = \mlcl{scenes/cnn/bce/map/n}.\end{document}"
    )
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error"]
    assert (
        subprocess.run([*latex, "text.tex"], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    )
    (tmp_path / "wrong.tex").write_text((tmp_path / "text.tex").read_text().replace("bce", "nobody"))
    done = subprocess.run([*latex, "wrong.tex"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "there is no number scenes/cnn/nobody/map" in done.stdout


def test_macros_hold_the_numbers_of_the_table(specs):
    write_tables("tiny")
    text = (specs.paths.tables / "numbers.tex").read_text()
    with (specs.paths.tables / "main.csv").open(newline="") as file:
        row = next(r for r in csv.DictReader(file) if (r["loss"], r["metric"]) == ("bce", "map"))
    assert rf"\csname mlcl:scenes/cnn/bce/map\endcsname{{{row['text']}}}" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "s,net,b,map,95.0,,v1,2",
            "s,net,q,map,95.0,,v1,2",
            r"a\.csv: line 2: loss 'q' does not stand in a\.yaml",
        ),
        ("s,net,b,map,95.0,,v1,2", "s,net,b,map,95.0,,,2", r"a\.csv: line 2: a number needs its source"),
        ("s,net,b,map,95.0,,v1,2", "s,net,b,map,x,,v1,2", r"a\.csv: line 2: value"),
        ("s,net,b,map,95.0,,v1,2", "s,net,b,lrap,95.0,,v1,2", r"line 2: metric 'lrap'"),
    ],
)
def test_a_malformed_number_is_an_error_that_names_file_and_line(specs, old, new, message):
    (SPECS / "a.csv").write_text(NUMBERS.replace(old, new))
    with pytest.raises(SpecError, match=message):
        read_papers(SPECS)
    (failure,) = write_tables("tiny")
    assert failure.name == "papers"
    assert re.search(message, failure.reason)


def test_the_shipped_specifications_are_well_formed_and_metrics_have_names():
    papers = read_papers(SHIPPED)
    assert set(papers) == {
        *("comprehensive", "kmcl", "mulsupcon", "simdissim"),
        *("anemic", "asl", "mskd", "query2label", "sadcl"),
    }
    for spec, _ in papers.values():
        assert all(metric_info(metric).title != metric.replace("_", " ") for metric in spec.metrics)
    _, numbers = papers["kmcl"]
    assert {(n.dataset, n.encoder, n.value) for n in numbers} >= {
        ("coco2014", "tresnet_m_224", 0.821), ("adp", "tresnet_l_448", 0.965)
    }  # fmt: skip


def test_what_is_uncertain_about_a_reported_number_stands_in_a_note(specs):
    (SPECS / "a.csv").write_text(
        "dataset,encoder,loss,metric,value,spread,source,table,note\n"
        "s,net,b,map,95.0,,v1,2,uncertain: the loss is not named\n"
    )
    (row,) = [row for key, row in rows_of(specs).items() if key == ("s", "b", "map")]
    assert row["reported"]["notes"] == "uncertain: the loss is not named"
    assert row["reproduced"]["notes"] == ""


def test_a_row_that_nothing_here_can_fill_shows_the_reported_number_alone(specs):
    (SPECS / "a.yaml").write_text(SPEC.replace("names: [zlpr]", "names: []"))
    row = rows_of(specs)["s", "z", "map"]
    assert float(row["reported"]["mean"]) == pytest.approx(0.5)
    assert row["reproduced"]["text"] == "not run"


def test_uncertain_rows_of_the_shipped_numbers_say_so():
    papers = read_papers(SHIPPED)
    for paper, loss in (("mskd", "mulcon"), ("sadcl", "bce")):
        rows = [number for number in papers[paper][1] if number.loss == loss]
        assert rows
        assert all(number.note.startswith("uncertain: ") for number in rows)


def test_a_metric_at_kmcls_threshold_says_so():
    assert metric_info("cf1_at_80").title == "CF1 (threshold 0.8)"


def test_losses_of_the_shipped_specifications_exist():
    from mlcl import losses

    named = {
        name
        for spec, _ in read_papers(SHIPPED).values()
        for loss in spec.losses.values()
        for name in loss.names
    }
    assert named <= set(losses.names())

"""Figures: which there are, that they are the same each time, and what they show."""

from __future__ import annotations

import json

import pytest
from scipy import stats

from mlcl.errors import RecordError
from mlcl.reporting import aggregate, write_figures
from mlcl.reporting.figures import comparison, style
from mlcl.reporting.figures.learning_curves import read_history
from mlcl.reporting.results import load_results

EXPECTED = {
    "comparison-scenes-cnn", "comparison-docs-transformer", "learning-scenes-cnn", "learning-docs-transformer",
    "labels-scenes", "labels-docs",
}  # fmt: skip


def names(folder):
    return {entry["name"] for entry in json.loads((folder / "index.json").read_text())}


def test_each_figure_is_there_as_pdf_and_png_with_caption_and_alt_text(finished):
    assert names(finished.figures) >= EXPECTED
    for entry in json.loads((finished.figures / "index.json").read_text()):
        assert (finished.figures / f"{entry['name']}.pdf").read_bytes().startswith(b"%PDF")
        assert (finished.figures / f"{entry['name']}.png").read_bytes().startswith(b"\x89PNG")
        assert len(entry["caption"]) > 30
        assert len(entry["alt"]) > 30


def test_the_same_results_give_the_same_bytes(finished, tmp_path):
    results = load_results("tiny")
    for run in ("first", "second"):
        figure = next(comparison.draw(results))
        style.save(figure.canvas, tmp_path / run)
    for ending in ("pdf", "png"):
        first, second = ((tmp_path / f"{run}.{ending}").read_bytes() for run in ("first", "second"))
        assert first == second


def test_no_record_and_no_card_gives_no_figure_and_no_error(grid):
    grid.plan()
    aggregate("tiny", partial=True)
    write_figures("tiny")
    assert names(grid.paths.figures) == set()


def test_figures_of_an_earlier_state_are_removed(grid):
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    aggregate("tiny")
    grid.paths.figures.mkdir()
    (grid.paths.figures / "comparison-gone.png").write_text("of old")
    write_figures("tiny")
    assert not (grid.paths.figures / "comparison-gone.png").exists()


def test_the_interval_is_the_t_interval_of_the_mean():
    values = [0.70, 0.74, 0.75, 0.71]
    low, high = stats.t.interval(0.95, 3, loc=stats.tmean(values), scale=stats.sem(values))
    assert comparison.t_interval(values) == pytest.approx((high - low) / 2)
    assert comparison.t_interval([0.7]) is None


def test_the_alt_text_tells_the_order_and_the_means(finished):
    figure = next(comparison.draw(load_results("tiny")))
    assert figure.alt.startswith("Dot plot. micro-F1: bce 85.4, reg 80.8, jaccard 73.6, random encoder 47.1")


def test_sixteen_losses_look_different_in_colour_and_without():
    looks = [style.look(i) for i in range(16)]
    assert len({(look.colour, look.marker) for look in looks}) == 16
    assert len({(look.marker, look.line) for look in looks[:8]}) == 8


def test_a_broken_history_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / "history.csv"
    file.write_text("epoch,loss\n0,abc\n")
    with pytest.raises(RecordError, match=str(file)):
        read_history(file)

"""Figures: which there are, that they are the same each time, and what they show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlcl.errors import MlclError, RecordError
from mlcl.records.collect import collect, read_history
from mlcl.records.files import write_json
from mlcl.records.outline import open_study
from mlcl.records.paths import CellId
from mlcl.records.rescore import rescore
from mlcl.reporting import write_figures
from mlcl.reporting.cost_means import costs_by_encoder, mean_costs
from mlcl.reporting.figures import (
    costs,
    dot_plots,
    embeddings,
    frequency,
    learning_curves,
    pair_weights,
    ranks,
    sensitivity,
    style,
)
from mlcl.reporting.figures.style import names_in_a_line
from mlcl.reporting.results import load_results
from tests.synthetic import reseal

EXPECTED = {
    "comparison-scenes-cnn", "comparison-docs-transformer", "learning-scenes-cnn", "learning-docs-transformer",
    "labels-scenes", "labels-docs", "heat-map", "costs-time", "costs-memory", "sensitivity-fraction",
    "step-parts",
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
        figure = next(dot_plots.draw(results))
        style.save(figure.canvas, tmp_path / run)
    for ending in ("pdf", "png"):
        first, second = ((tmp_path / f"{run}.{ending}").read_bytes() for run in ("first", "second"))
        assert first == second


def test_no_record_and_no_card_gives_no_figure_and_no_error(grid):
    grid.plan()
    collect(open_study("tiny"), partial=True)
    write_figures("tiny")
    assert names(grid.paths.figures) == set()


def test_figures_of_an_earlier_state_are_removed(grid):
    grid.datasets = {"scenes": "image"}
    grid.plan().make_all()
    collect(open_study("tiny"))
    grid.paths.figures.mkdir()
    (grid.paths.figures / "comparison-gone.png").write_text("of old")
    write_figures("tiny")
    assert not (grid.paths.figures / "comparison-gone.png").exists()


def test_the_alt_text_tells_the_order_and_the_means(finished):
    figure = next(dot_plots.draw(load_results("tiny")))
    assert figure.alt.startswith("Dot plot. macro-F1 (tuned thresholds): bce 87.7, reg 83.1, jaccard 76.2")
    assert "; micro-F1: bce 85.4, reg 80.8, jaccard 73.6, random encoder 47.1" in figure.alt


def test_twenty_losses_look_different_in_colour_and_the_first_ten_without():
    looks = [style.look(i) for i in range(20)]
    assert len({(look.colour, look.marker) for look in looks}) == 20
    assert len({look.marker for look in looks[:10]}) == len({look.line for look in looks[:10]}) == 10


def test_a_broken_history_is_an_error_that_names_the_file(tmp_path):
    file = tmp_path / "history.csv"
    file.write_text("epoch,loss\n0,abc\n")
    with pytest.raises(RecordError, match=str(file)):
        read_history(file)


def with_validation(grid, loss, seed, losses):
    """A history whose validation loss is twice the training loss, and whose micro-F1 rises by 0.1 each epoch."""
    folder = grid.paths.cell(CellId("scenes", "cnn", loss, "base", seed))
    lines = [f"{e + 1},{10 * e},{x},0.1,1,{2 * x},{0.1 * (e + 1):.1f}" for e, x in enumerate(losses)]
    columns = "epoch,step,loss,learning_rate,seconds,val_loss,val_micro_f1"
    (folder / "history.csv").write_text("\n".join([columns, *lines, ""]))
    reseal(folder)


def test_validation_is_drawn_beside_training_where_it_was_looked_at(grid):
    grid.datasets, grid.losses = {"scenes": "image"}, ["bce", "jaccard"]
    grid.plan().make_all()
    for seed in grid.seeds:
        with_validation(grid, "bce", seed, [4.0, 2.0, 1.0])
    collect(open_study("tiny"))
    (figure,) = learning_curves.draw(load_results("tiny"))
    training, loss, micro_f1 = figure.canvas.axes
    means = [[line for line in ax.get_lines() if line.get_linewidth() > 1] for ax in figure.canvas.axes]
    assert [len(lines) for lines in means] == [2, 1, 1]
    assert loss.get_lines()[0].get_ydata().tolist() == [1, 0.5, 0.25]
    assert micro_f1.get_lines()[0].get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(micro_f1.get_lines()[0].get_ydata(), [10, 20, 30])
    assert "Validation micro-F1 in % at the end: bce 30.0." in figure.alt
    assert len(training.get_lines()) == 2 + 2 * 3, "a thin line for each seed"


def test_without_validation_the_figure_says_so(finished):
    figure = next(learning_curves.draw(load_results("tiny")))
    assert len(figure.canvas.axes) == 1
    assert "Validation was not looked at during training." in figure.caption


def test_a_curve_ends_where_a_seed_diverges_and_a_long_fall_has_a_logarithmic_axis(grid):
    grid.datasets, grid.losses = {"scenes": "image"}, ["bce"]
    grid.plan().make_all()
    for seed, losses in zip(
        grid.seeds, ([1, 0.1, 0.01, 0.001], [1, 0.1, 0.01, "nan"], [1, 0.1, 0.01, 0.001]), strict=True
    ):
        with_validation(grid, "bce", seed, [float(x) for x in losses])
    collect(open_study("tiny"))
    (figure,) = learning_curves.draw(load_results("tiny"))
    ax = figure.canvas.axes[0]
    assert len(ax.get_lines()[0].get_xdata()) == 3
    assert ax.get_yscale() == "log"


def test_the_pareto_front_is_what_nothing_beats_in_both():
    points = {
        "cheap": (1.0, 50.0),
        "middle": (2.0, 60.0),
        "waste": (3.0, 55.0),
        "dear": (4.0, 70.0),
        "tie": (4.0, 6.0),
    }
    assert costs.pareto_front(points, higher_is_better=True) == ["cheap", "middle", "dear"]
    flipped = {name: (cost, -quality) for name, (cost, quality) in points.items()}
    assert costs.pareto_front(flipped, higher_is_better=False) == ["cheap", "middle", "dear"]


def test_costs_are_means_over_seeds(finished):
    found = mean_costs(load_results("tiny"), "wall_seconds")
    assert found["scenes", "cnn", "bce", "base"] == pytest.approx(10 + 1 + 3)


def test_sensitivity_goes_through_the_study_itself_and_its_variants(finished):
    results = load_results("tiny")
    settings = sensitivity.swept_settings(results.outline)
    assert settings == {("dataset", "fraction"): {"fraction_0.1": 0.1}}
    curves = sensitivity.curves_by_loss(
        results, "scenes", "cnn", ("dataset", "fraction"), settings["dataset", "fraction"]
    )
    assert [value for value, _ in curves["bce"]] == [0.1, 1.0]
    assert [row[3] for _, row in curves["bce"]] == ["fraction_0.1", "base"]


def test_ranks_and_embeddings_and_frequencies_are_drawn_where_there_is_what_they_need(grid):
    grid.datasets = dict.fromkeys(("scenes", "docs", "more", "birds", "songs", "genes"), "image")
    grid.encoders = {"cnn": "image"}
    grid.plan().make_all()
    for seed in grid.seeds:
        for loss in grid.losses:
            cell = CellId("scenes", "cnn", loss, "base", seed)
            rng = np.random.default_rng(seed)
            splits = {"val": 150, "test": 300}
            kept = {split: rng.normal(size=(rows, 8)).astype(np.float16) for split, rows in splits.items()}
            np.savez(grid.paths.cell(cell) / "embeddings.npz", **kept)
            reseal(grid.paths.cell(cell))
            rescore(grid.paths.cell(cell), "new")
    collect(open_study("tiny"))
    results = load_results("tiny")
    found = [figure.name for module in (ranks, embeddings, frequency) for figure in module.draw(results)]
    assert found == ["ranks-micro_f1", "ranks-macro_f1", "ranks-map", "embeddings-scenes-cnn", "frequency"]


def test_the_anchor_of_a_view_is_related_in_many_ways():
    sets = ["1000", "0001", "1100", "1110", "1100", "0110", "0100"]
    labels = np.array([[int(digit) for digit in row] for row in sets])
    assert embeddings.choose_anchor(labels) in (2, 4)


def test_pair_weights_are_drawn_from_their_file_and_equal_ones_once(grid):
    grid.plan().make_all()
    collect(open_study("tiny"))
    results = load_results("tiny")
    assert list(pair_weights.draw(results)) == []
    own = {
        "anchors": ["batch"],
        "references": ["batch", "prototypes"],
        "weights": [[0, 0.75, 0.25], [1, 0, 0]],
    }
    content = {"labels": [[1], [1]], "losses": {"jaccard": own, "reg": own, "gone": own}}
    write_json(grid.paths.pair_weights, content)
    (figure,) = pair_weights.draw(results)
    assert "With the same weights: jaccard and reg." in figure.caption
    assert "Of an anchor with labels 1, to 1: jaccard and reg 0.75." in figure.alt
    assert len(figure.canvas.axes) == 2  # one matrix, and the scale
    grid.paths.pair_weights.write_text("{}")
    with pytest.raises(MlclError, match="holds no pair weights; aggregate"):
        list(pair_weights.draw(results))


def test_costs_of_encoders_are_over_datasets_that_all_losses_share(grid):
    grid.datasets = {"scenes": "image", "more": "image", "docs": "text"}
    grid.plan().make_all()
    for seed in grid.seeds:
        grid.fail(CellId("more", "cnn", "reg", "base", seed), "oom", "too large")
    collect(open_study("tiny"))
    results = load_results("tiny")
    costs = results.costs
    costs.loc[(costs["dataset"] == "more") & (costs["cost"] == "wall_seconds"), "value"] = 1e6
    found = costs_by_encoder(results, "wall_seconds")
    assert found["cnn"] == {"bce": 14.0, "jaccard": 18.0, "reg": 14.0}
    assert set(found) == {"cnn", "transformer"}


def test_the_parts_of_a_step_are_stacked_to_its_whole_for_losses_that_are_complete(finished):
    (figure,) = costs.draw_step_parts(load_results("tiny"))
    ax = figure.canvas.axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["bce", "jaccard"]
    ends = [
        max(bar.get_x() + bar.get_width() for bar in ax.patches if round(bar.get_y() + 0.36) == i)
        for i in range(2)
    ]
    assert ends == pytest.approx([16, 20])
    assert (
        "cnn: the longest step is that of jaccard, 20.0 ms (data 5 %, forward 20 %, loss 35 %" in figure.alt
    )


@pytest.mark.parametrize("ends", [(0.001, 0.0144), (0.05, 0.5), (0.02, 0.3), (1, 1000)])
def test_a_logarithmic_axis_has_plain_numbers(ends):
    """matplotlib's own labels are mathematics, and came out as they are written, one over the other."""
    canvas = style.new_canvas(style.ONE_COLUMN, 2)
    with style.in_use():
        ax = canvas.subplots()
        ax.plot(ends, ends)
        for which in ("x", "y"):
            style.use_log_scale(ax, which)
        canvas.draw_without_rendering()
    for axis in (ax.xaxis, ax.yaxis):
        texts = [label.get_text() for label in axis.get_ticklabels("both")]
        shown = [float(text) for text in texts if text]
        assert len([value for value in shown if ends[0] <= value <= ends[1]]) >= 2


def test_a_legend_has_as_many_names_in_a_line_as_fit():
    short, long = ["bce"] * 8, ["all of the anchor's and more"] * 6
    assert names_in_a_line(short, style.TWO_COLUMNS) == 6
    assert names_in_a_line(long, style.TWO_COLUMNS) == 3
    assert names_in_a_line(long, style.ONE_COLUMN) == 1
    assert names_in_a_line([], style.ONE_COLUMN) == 1


def test_a_map_of_embeddings_is_made_again_only_if_they_changed(grid, monkeypatch):
    grid.datasets, grid.encoders, grid.losses = {"scenes": "image"}, {"cnn": "image"}, ["bce", "jaccard"]
    grid.plan().make_all()
    file = grid.paths.cell(CellId("scenes", "cnn", "bce", "base", 0)) / "embeddings.npz"

    def keep(shift):
        rng = np.random.default_rng(0)
        np.savez(file, **{split: rng.normal(shift, 1, size=(300, 4)) for split in ("val", "test")})
        reseal(file.parent)

    keep(0)
    collect(open_study("tiny"))
    results = load_results("tiny")
    (first,), (second,) = embeddings.draw(results), embeddings.draw(results)
    places = [figure.canvas.axes[0].lines[-1].get_xydata() for figure in (first, second)]
    np.testing.assert_array_equal(*places)
    made = []
    monkeypatch.setattr(
        embeddings, "project_to_plane", lambda rows: made.append(1) or [[0.0, 0.0]] * len(rows)
    )
    list(embeddings.draw(results))
    assert made == []
    keep(1)
    list(embeddings.draw(results))
    assert made == [1]

"""A page about a prepared dataset: counts against the published ones, label frequencies, co-occurrence, examples."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from data_prep import sanity
from mlcl.data.dataset import PreparedDataset, Split, open_dataset
from mlcl.reporting.figures import style
from mlcl.reporting.figures.dataset_labels import label_frequencies
from mlcl.reporting.visible import visible

EXAMPLES = 12
MOST_FREQUENT = 30  # labels shown in the co-occurrence matrix
CHARACTERS = 300  # of an example text
TOLERANCE = 5e-3  # published cardinalities are rounded

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; } .quiet { color: #666; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #222; } td.number, th.number { text-align: right; }
td.differs { color: #a11; font-weight: 600; } img { max-width: 100%; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem; }
.examples img { width: 100%; image-rendering: pixelated; } .examples p { margin: .2rem 0; font-size: .8rem; }
blockquote { margin: .6rem 0; padding-left: .8rem; border-left: 3px solid #ccc; }
"""


@dataclass(frozen=True)
class PublishedCount:
    """A count that the dataset's publication states, and the count in the prepared dataset."""

    what: str
    published: float
    found: float

    @property
    def same(self) -> bool:
        """Equal; cardinalities may differ by rounding."""
        return abs(self.published - self.found) <= (TOLERANCE if "cardinality" in self.what else 0)


def published_counts(card: Mapping[str, Any]) -> list[PublishedCount]:
    """The published counts of a dataset's card against its own."""
    splits = card["splits"]
    published = card["published"]
    rows = sum(split["examples"] for split in splits.values())
    labels = sum(split["examples"] * split["cardinality"] for split in splits.values())
    found: dict[str, float] = {"labels": len(card["labels"]), "rows": rows, "cardinality": labels / rows}
    compared = [PublishedCount(what, published[what], found[what]) for what in found if what in published]
    for parts, examples in published.get("examples", {}).items():
        if set(parts.split("+")) <= splits.keys():
            here = sum(splits[part]["examples"] for part in parts.split("+"))
            compared.append(PublishedCount(f"examples in {parts}", examples, here))
    return compared


def write_dataset_page(dataset_dir: str | Path, out: str | Path) -> Path:
    """Write the page of a prepared dataset as one self-contained HTML file; returns its path.

    Raises DataError where there is no prepared dataset in the folder.
    """
    dataset, out = open_dataset(dataset_dir), Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f"{out.name}.tmp")
    aside.write_text(dataset_page(dataset), encoding="utf-8")
    aside.replace(out)
    return out


def dataset_page(dataset: PreparedDataset) -> str:
    """The page as HTML."""
    card = dataset.card
    frequencies = label_frequencies(dataset.name, card)
    parts = [
        f"<h1>{_text(card['title'])}</h1><p class='quiet'>{_text(dataset.name)} · {_text(dataset.modality)}</p>",
        _facts(card),
        _splits(card),
        _comparison(card),
        _findings(card),
        _warnings(card),
        "<h2>Label frequencies</h2>",
        _picture(frequencies.canvas, frequencies.caption, frequencies.alt),
        "<h2>Labels of an example</h2>",
        _picture(_cardinalities(dataset), "How many examples have how many labels"),
        "<h2>Co-occurrence</h2>",
        _picture(
            _co_occurrence(dataset),
            "Of the examples with the row's label, the share that has the column's label, too",
        ),
        _examples(dataset),
    ]
    title = _text(card["title"])
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


# Tables


def _facts(card: Mapping[str, Any]) -> str:
    settings = ", ".join(
        f"{key}: {value}" for key, value in card["settings"].items() if value not in ("", [])
    )
    raw = ", ".join(f"{entry['path']} ({entry['state']})" for entry in card["raw_files"]) or "none"
    facts = {
        "Citation": card["citation"],
        "Home": card["homepage"],
        "Terms": card["terms"],
        "Settings": settings,
        "Raw files": raw,
        "Versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        "Fingerprint": card["fingerprint"][:16],
        "Notes": " ".join(card["notes"]),
    }
    rows = "".join(
        f"<tr><td>{name}</td><td>{_text(value)}</td></tr>" for name, value in facts.items() if value
    )
    return f"<table>{rows}</table>"


def _splits(card: Mapping[str, Any]) -> str:
    header = ["split", "examples", "labels of an example", "density", "without labels"]
    rows = [
        [
            name,
            f"{split['examples']:,}",
            f"{split['cardinality']:.3f}",
            f"{split['density']:.4f}",
            f"{split['empty_rows']:,}",
        ]
        for name, split in card["splits"].items()
    ]
    return f"<h2>Splits</h2>{_table(header, rows)}<p>{len(card['labels']):,} labels.</p>"


def _comparison(card: Mapping[str, Any]) -> str:
    compared = published_counts(card)
    if not compared:
        return ""
    rows = "".join(
        f"<tr><td>{_text(item.what)}</td><td class='number'>{_count(item.published)}</td>"
        f"<td class='number{'' if item.same else ' differs'}'>{_count(item.found)}{'' if item.same else ' ≠'}</td></tr>"
        for item in compared
    )
    head = "<tr><th></th><th class='number'>published</th><th class='number'>here</th></tr>"
    source = f"<p class='quiet'>Published: {_text(card['published_from'])}.</p>"
    return f"<h2>Against the published counts</h2><table>{head}{rows}</table>{source}"


def _findings(card: Mapping[str, Any]) -> str:
    """The sanity report: what was read of each raw file, the labels, the rows with labels, duplicates."""
    lines = "".join(f"<li>{_text(sentence)}</li>" for sentence in sanity.findings(card))
    return f"<h2>What was found</h2><ul>{lines}</ul>"


def _warnings(card: Mapping[str, Any]) -> str:
    if not card["warnings"]:
        return ""
    rows = [[item["kind"], f"{item['count']:,}", ", ".join(item["examples"])] for item in card["warnings"]]
    return f"<h2>What to know</h2>{_table(['', 'count', 'for instance'], rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first and a last one of words are numbers."""
    numeric = [index for index in range(1, len(header)) if all(_is_number(row[index]) for row in rows)]

    def line(cells: Sequence[str], tag: str) -> str:
        marks = [" class='number'" if index in numeric else "" for index in range(len(cells))]
        return "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(header, 'th')}</tr>{body}</table>"


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "").isdigit()


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"


def _text(value: Any) -> str:
    return html.escape(visible(str(value)))


# Pictures


def _cardinalities(dataset: PreparedDataset) -> Canvas:
    names = list(dataset.card["splits"])
    histograms = [np.bincount(np.diff(dataset[name].label_offsets)) for name in names]
    canvas = style.new_canvas(style.TWO_COLUMNS, 2.2)
    with style.in_use():
        ax = canvas.subplots()
        for i, (name, counts) in enumerate(zip(names, histograms, strict=True)):
            places = np.arange(len(counts)) + (i - (len(names) - 1) / 2) * 0.27
            look = style.look(i)
            ax.bar(
                places,
                100 * counts / counts.sum(),
                width=0.27,
                label=name,
                color=look.colour,
                hatch=look.hatch,
            )
        ax.set(xlabel="labels of an example", ylabel="examples in %")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()
    return canvas


def _co_occurrence(dataset: PreparedDataset) -> Canvas:
    labels = dataset["train"].labels.astype(np.int64)
    counts = labels.sum(axis=0)
    chosen = np.argsort(-counts, kind="stable")[:MOST_FREQUENT]
    together = (labels[:, chosen].T @ labels[:, chosen]).toarray()
    share = 100 * together / np.maximum(np.diag(together), 1)[:, None]
    np.fill_diagonal(share, np.nan)
    side = 1.5 + 0.17 * len(chosen)
    canvas = style.new_canvas(side + 0.8, side)
    with style.in_use():
        ax = canvas.subplots()
        image = ax.imshow(share, cmap="Blues", vmin=0)
        names = [style.shorten(dataset.label_names[number]) for number in chosen]
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
        ax.grid(visible=False)
        canvas.colorbar(image, ax=ax, shrink=0.7).set_label("examples in %")
    return canvas


def _picture(canvas: Canvas, caption: str, alt: str | None = None) -> str:
    return f"{_image(style.png(canvas), alt or caption)}<p class='quiet'>{_text(caption.rstrip('.'))}.</p>"


def _image(png: bytes, alternative: str) -> str:
    return f"<img alt='{_text(alternative)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"


# Examples


def _examples(dataset: PreparedDataset) -> str:
    """A few training examples, drawn with a fixed seed."""
    train = dataset["train"]
    rows = np.sort(np.random.default_rng(0).permutation(len(train))[:EXAMPLES])
    labels = [
        ", ".join(dataset.label_names[n] for n in np.flatnonzero(row == 1))
        for row in train.dense_labels(rows)
    ]
    named = [text or "no label" for text in labels]
    match dataset.modality:
        case "image":
            return f"<h2>Examples</h2>{_image_examples(train, rows, named)}"
        case "text":
            return f"<h2>Examples</h2>{_text_examples(train, rows, named)}"
        case _:
            return ""


def _image_examples(train: Split, rows: np.ndarray, labels: Sequence[str]) -> str:
    from PIL import Image

    cells = []
    for row, names in zip(rows, labels, strict=True):
        pixels = np.asarray(train.images[row])
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
        cells.append(f"<div>{_image(file.getvalue(), names)}<p>{_text(names)}</p></div>")
    return f"<div class='examples'>{''.join(cells)}</div>"


def _text_examples(train: Split, rows: np.ndarray, labels: Sequence[str]) -> str:
    quotes = []
    for row, names in zip(rows, labels, strict=True):
        text = train.texts[int(row)]
        shown = text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …"
        quotes.append(f"<blockquote>{_text(shown)}<br><span class='quiet'>{_text(names)}</span></blockquote>")
    return "".join(quotes)

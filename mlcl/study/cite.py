"""BibTeX entries of what a study uses: mlcl, and the sources of its datasets, losses and encoders (`mlcl cite`).

They are made of what the catalogs say of each (`About.citation`, a loss's `paper`, an encoder's model). That is enough
to find a publication, and not always all of a reference: `note` says whose source it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import mlcl
from data_prep import registry
from data_prep.source import About, validate
from mlcl import encoders, losses
from mlcl.published import MODELS, PREFIX
from mlcl.study.config import Study

CITATION = re.compile(r"(?P<author>[^:]+): (?P<title>.+?)\. (?P<where>[^.]*?),? ?(?P<year>(?:19|20)\d\d)\.")
"""`Demszky et al.: GoEmotions: A Dataset of Fine-Grained Emotions. ACL 2020.`"""
ARXIV = re.compile(
    r"(?P<title>.+) \((?:arXiv:(?P<arxiv>[\d.]+)|(?P<where>[^()]+?)(?: (?P<year>(?:19|20)\d\d))?)\)"
)
"""`Focal Loss for Dense Object Detection (arXiv:1708.02002)`, `... (AAAI 2024)`"""
LIBRARIES = {
    "torchvision": ("TorchVision: PyTorch's computer vision library", "https://github.com/pytorch/vision"),
    "timm": ("PyTorch Image Models", "https://github.com/huggingface/pytorch-image-models"),
    "huggingface": ("Transformers", "https://github.com/huggingface/transformers"),
    "decoder": ("Transformers", "https://github.com/huggingface/transformers"),
}


@dataclass
class Entry:
    """One publication, or another source, and what of the study it stands for."""

    key: str
    fields: dict[str, str]
    of: list[str] = field(default_factory=list)

    def render(self) -> str:
        values = self.fields | {"note": f"source of {', '.join(self.of)}"}
        lines = [f"  {name} = {{{_escaped(value)}}}," for name, value in values.items() if value]
        return "\n".join([f"@misc{{{self.key},", *lines, "}"])


def bibliography(study: Study) -> str:
    """All entries of a study as BibTeX, each publication once. Raises DataError for settings that a source refuses."""
    entries: dict[str, Entry] = {}

    def add(fields: dict[str, str], what: str) -> None:
        known = entries.setdefault(fields["title"], Entry(_key(fields, entries), fields))
        known.of.append(what)

    add({"title": f"mlcl {mlcl.__version__}", "author": "{The mlcl maintainers}"}, "the benchmark suite")
    for name, dataset in study.datasets.items():
        for fields in _of_dataset(dataset.source, dataset.settings, name):
            add(fields, f"the dataset {name}")
    for name, loss in study.losses.items():
        if (paper := _of_paper(losses.describe(loss.name, file=loss.file).paper)) is not None:
            add(paper, f"the loss {name}")
    for name, encoder in study.encoders.items():
        for fields in _of_encoder(encoder.name, encoder.settings):
            add(fields, f"the encoder {name}")
    return "\n\n".join(entry.render() for entry in entries.values()) + "\n"


def _of_dataset(source: str, settings: dict[str, object], name: str) -> list[dict[str, str]]:
    found = registry.find(source)
    about = found.source.about
    if callable(about):
        about = about(validate(found.source.settings, settings, found.preset, name))
    assert isinstance(about, About)
    if not about.homepage:  # the user's own data
        return []
    cited = [
        {
            "author": _authors(match["author"]),
            "title": match["title"],
            "howpublished": match["where"],
            "year": match["year"],
            "url": about.homepage,
        }
        for match in CITATION.finditer(about.citation)
    ]
    return cited or [{"title": about.title, "howpublished": about.citation, "url": about.homepage}]


def _of_paper(paper: str) -> dict[str, str] | None:
    """None for what names no publication, such as the usual baseline."""
    match = ARXIV.fullmatch(paper)
    if match is None:
        return None
    fields = {"title": match["title"], "howpublished": match["where"] or "", "year": match["year"] or ""}
    if match["arxiv"]:
        fields |= {"eprint": match["arxiv"], "archiveprefix": "arXiv"}
        fields["url"] = f"https://arxiv.org/abs/{match['arxiv']}"
    return fields


def _of_encoder(name: str, settings: dict[str, object]) -> list[dict[str, str]]:
    info = encoders.describe(name)
    if info.name not in LIBRARIES:
        return []
    title, url = LIBRARIES[info.name]
    found = [{"title": title, "url": url}]
    checked = info.settings.model_validate(settings)
    source = checked.weights_source
    if source is not None and source.startswith(PREFIX):
        found.append({"title": MODELS[source.removeprefix(PREFIX)].title})
    elif source is not None and "/" in source and not source.startswith((".", "/", "~")):
        revision = str(getattr(checked, "revision", "") or "")
        about = {
            "title": source,
            "howpublished": "Hugging Face hub",
            "url": f"https://huggingface.co/{source}",
        }
        found.append(about | {"version": revision})
    return found


def _authors(text: str) -> str:
    return text.strip().removeprefix("splits: ").removeprefix("labels: ").replace(" et al.", " and others")


def _key(fields: dict[str, str], taken: dict[str, Entry]) -> str:
    first = re.sub(r"[^a-z]", "", fields.get("author", "").split(" ")[0].lower())
    words = [re.sub(r"[^a-z0-9]", "", word.lower()) for word in fields["title"].split()]
    start = next((word for word in words if len(word) > 3), words[0])
    key = f"{first or 'see'}{fields.get('year', '')}{start}"
    others = {entry.key for entry in taken.values()}
    return key if key not in others else f"{key}{len(others)}"


def _escaped(text: str) -> str:
    return re.sub(r"(?<!\\)([&%#_])", r"\\\1", text) if "://" not in text else text

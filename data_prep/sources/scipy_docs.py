"""Documentation strings of the scientific Python packages, with labels read from where and what they document.

Labels: package, subpackage, kind of object, sections of the documentation, properties of the code, common
arguments. Read from the installed files with `ast`; nothing is imported. The text is prose only: section
headings, parameter names and types, code examples, dotted names and package names are taken out, since they
would give labels away.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from data_prep.errors import DataError
from data_prep.readers.docstrings import Documented, collector_paused, documented, package_files
from data_prep.readers.near_duplicates import distinct_rows
from data_prep.source import About, RawPaths, Settings, Source

if TYPE_CHECKING:
    from data_prep.writer import DatasetWriter

ABOUT = About(
    title="Scientific Python docs",
    citation="Documentation of numpy, scipy, pandas, scikit-learn, matplotlib and networkx, read by mlcl.",
    homepage="https://scientific-python.org",
    licence="BSD-3-Clause (numpy, scipy, pandas, scikit-learn, networkx) and the Matplotlib licence; read from the "
    "installed packages, nothing is downloaded.",
)

# Name to import: name of the distribution.
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
}
ALIASES = ("np", "sp", "pd", "plt", "mpl", "nx", "scikit", "learn")
SECTIONS = {
    "parameters": "parameters",
    "other parameters": "parameters",
    "returns": "returns",
    "yields": "yields",
    "raises": "raises",
    "warns": "warns",
    "see also": "see also",
    "notes": "notes",
    "references": "references",
    "examples": "examples",
    "attributes": "attributes",
    "methods": "methods",
}
# In these only the indented descriptions are prose; the other lines are names and types.
NAMED_ENTRIES = {"parameters", "returns", "yields", "raises", "warns", "attributes", "methods"}
UNDERLINE = re.compile(r"\s*[-=~]{3,}\s*")
NO_PROSE = {"see also", "references", "examples"}
MIN_WORDS = 6
MAX_CHARACTERS = 4000  # cleaned of a document before words are counted


class ScipyDocsSettings(Settings):
    """How much is read. With fewer documents than asked for, all three splits shrink alike."""

    train: int = Field(default=6000, ge=1, description="training documents, at most")
    val: int = Field(default=1000, ge=1, description="validation documents, at most")
    test: int = Field(default=2000, ge=1, description="test documents, at most")
    max_words: int = Field(default=128, ge=MIN_WORDS, description="words kept of a document")
    min_positives: int = Field(
        default=30, ge=1, description="training documents that a label needs to be kept"
    )
    seed: int = Field(default=0, ge=0, description="which files go to which split")


@dataclass(frozen=True)
class _Document:
    row_id: str
    file: str
    text: str
    labels: frozenset[str]


def prepare(settings: ScipyDocsSettings, raw: RawPaths, writer: DatasetWriter) -> None:
    """Read, drop near-duplicates, split by file, keep the labels that are common enough, write."""
    with collector_paused():
        documented = list(_documents(settings.max_words))
    documents = [documented[row] for row in distinct_rows([document.text for document in documented])]
    splits = _split_by_file(documents, settings)
    labels = _common_labels(splits, settings.min_positives)
    writer.labels(labels)
    writer.note(f"Labels: at least {settings.min_positives} training documents, and one of each other split.")
    writer.note(
        f"{len(documented)} documented objects, {len(documents)} without near-duplicates; split by file."
    )
    for split, rows in splits.items():
        for row in rows:
            writer.split(split).add(row.row_id, row.labels.intersection(labels), row.text, where=row.row_id)


def _documents(max_words: int) -> Iterator[_Document]:
    seen: Counter[str] = Counter()
    for package in PACKAGES:
        for name, path in package_files(package):
            for item in documented(name, path):
                sections = _sections(item.doc)
                words = _prose(sections, _hidden(item)).split()
                if len(words) < MIN_WORDS:
                    continue
                row_id = f"{item.file}:{item.name}"
                seen[row_id] += 1  # overloads and property setters share a name
                unique = row_id if seen[row_id] == 1 else f"{row_id}#{seen[row_id]}"
                labels = frozenset(_labels(item, sections))
                yield _Document(unique, item.file, " ".join(words[:max_words]), labels)


# Text


def _sections(doc: str) -> list[tuple[str, list[str]]]:
    """The docstring's parts as (section, lines); the part before the first heading is called `summary`."""
    lines = doc.splitlines()
    parts: list[tuple[str, list[str]]] = [("summary", [])]
    skip = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        heading = SECTIONS.get(line.strip().lower().rstrip(":"))
        if skip:
            skip = False
        elif heading and UNDERLINE.fullmatch(following):
            parts.append((heading, []))
            skip = True
        else:
            parts[-1][1].append(line)
    return parts


def _prose(sections: list[tuple[str, list[str]]], hidden: frozenset[str]) -> str:
    """The text that stays: sentences without headings, code, and names that give labels away (`hidden` as well)."""
    chosen: list[str] = []
    for section, lines in sections:
        if section not in NO_PROSE:
            chosen.extend(
                line for line in lines if section not in NAMED_ENTRIES or line.startswith((" ", "\t"))
            )
    text = "\n".join(line for line in chosen if not CODE_LINE.match(line))[:MAX_CHARACTERS]
    text = QUOTED.sub(lambda match: _plain_word(match[1], hidden), text)
    for pattern in DROPPED:
        text = pattern.sub(" ", text)
    return " ".join(text.split())


def _hidden(item: Documented) -> frozenset[str]:
    return frozenset() if isinstance(item.node, ast.ClassDef) else frozenset(_arguments(item.node))


def _plain_word(quoted: str, hidden: frozenset[str]) -> str:
    """What is kept of `code`: a single word, unless it is hidden."""
    word = quoted.strip("`").removeprefix("~").split(".")[-1]
    return word if word.isalpha() and word not in hidden else " "


_NAMES = "|".join([*PACKAGES, *PACKAGES.values(), *ALIASES])
CODE_LINE = re.compile(r"\s*(>>>|\.\.\.|\.\. )")
QUOTED = re.compile(r"(?::[\w:-]+:)?(``[^`]*``|`[^`]*`)")  # `code`, ``code``, :class:`~package.name`
DROPPED = (
    re.compile(r"^\s*:?\s*[-=~^*]{3,}\s*$", re.MULTILINE),  # underlines
    re.compile(r"^\s*:\w+[^:\n]*:", re.MULTILINE),  # field lists
    re.compile(r"https?://\S+"),
    re.compile(r"[-=]{3,}"),
    re.compile(r"\b\w+(?:\.\w+)+(?:\(\))?"),  # dotted names
    re.compile(rf"\b(?:{_NAMES})\b", re.IGNORECASE),
    re.compile(r"[^A-Za-z0-9 .,;:!?'()%/-]+"),
)


# Labels


def _labels(item: Documented, sections: list[tuple[str, list[str]]]) -> Iterator[str]:
    parts = item.file.removesuffix(".py").split("/")
    yield f"package {parts[0]}"
    if len(parts) > 1 and (public := parts[1].strip("_")) != "init":
        yield f"module {parts[0]} {public}"
    yield from (f"kind {kind}" for kind in _kinds(item))
    yield from (f"section {name}" for name, _ in sections if name != "summary")
    yield from (f"code {fact}" for fact in _facts(item))
    if not isinstance(item.node, ast.ClassDef):
        yield from (f"argument {name}" for name in _arguments(item.node))


def _kinds(item: Documented) -> Iterator[str]:
    decorators = {
        ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in item.node.decorator_list
    }
    if isinstance(item.node, ast.ClassDef):
        yield "class"
    elif "property" in decorators or "cache_readonly" in decorators:
        yield "property"
    elif item.in_class:
        yield "method"
        yield from decorators & {"classmethod", "staticmethod"}
    else:
        yield "function"
    if item.node.name.startswith("_"):
        yield "private"


def _facts(item: Documented) -> Iterator[str]:
    """What the syntax tree shows of how it works."""
    for fact, types in FACTS.items():
        if not item.constructs.isdisjoint(types):
            yield fact
    if isinstance(item.node, ast.ClassDef):
        if item.node.bases:
            yield "subclass"
        return
    if item.node.args.vararg or item.node.args.kwarg:
        yield "variable arguments"
    if item.node.args.kwonlyargs:
        yield "keyword only"


FACTS: dict[str, tuple[type[ast.AST], ...]] = {
    "raises": (ast.Raise,),
    "loops": (ast.For, ast.While),
    "comprehension": (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    "generator": (ast.Yield, ast.YieldFrom),
    "try": (ast.Try,),
    "with": (ast.With,),
    "lambda": (ast.Lambda,),
    "assert": (ast.Assert,),
    "imports inside": (ast.Import, ast.ImportFrom),
}


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
        if argument.arg not in ("self", "cls") and len(argument.arg) > 1:
            yield argument.arg


def _common_labels(splits: dict[str, list[_Document]], min_positives: int) -> list[str]:
    """Labels that can be learned and scored, the most frequent first."""
    counts = {split: Counter(label for row in rows for label in row.labels) for split, rows in splits.items()}
    train = counts["train"]
    common = [
        label
        for label in train
        if train[label] >= min_positives and counts["val"][label] and counts["test"][label]
    ]
    return sorted(common, key=lambda label: (-train[label], label))


# Splits


def _split_by_file(documents: list[_Document], settings: ScipyDocsSettings) -> dict[str, list[_Document]]:
    """Whole files in a fixed random order: first the test split, then validation, then training."""
    wanted = {"test": settings.test, "val": settings.val, "train": settings.train}
    if not documents:
        raise DataError(
            f"scipy_docs: none of the packages {', '.join(PACKAGES.values())} has documentation here"
        )
    shrink = min(1.0, 0.98 * len(documents) / sum(wanted.values()))
    sizes = {split: max(int(size * shrink), 1) for split, size in wanted.items()}
    by_file: dict[str, list[_Document]] = {}
    for document in documents:
        by_file.setdefault(document.file, []).append(document)
    remaining = iter(sorted(by_file, key=lambda file: _hash(f"{settings.seed} {file}")))
    splits = {split: _fill(size, remaining, by_file) for split, size in sizes.items()}
    return {split: splits[split] for split in ("train", "val", "test")}


def _fill(size: int, files: Iterable[str], by_file: dict[str, list[_Document]]) -> list[_Document]:
    rows: list[_Document] = []
    for file in files:
        rows.extend(by_file[file])
        if len(rows) >= size:
            break
    return sorted(rows, key=lambda row: _hash(row.row_id))[:size]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


SOURCE = Source(
    about=ABOUT,
    modality="text",
    settings=ScipyDocsSettings,
    packages=tuple(PACKAGES.values()),
    prepare=prepare,
)

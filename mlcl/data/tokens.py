"""Texts -> token ids, once per dataset and tokenizer, kept beside the prepared dataset as memory maps."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data_prep import DataError
from data_prep import format as form
from mlcl.offline import offline
from mlcl.suggest import closest

if TYPE_CHECKING:
    from mlcl.data.dataset import PreparedDataset, Split

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0 to 3 of the trained tokenizers
KINDS = {"bpe": {"vocab_size"}, "word": {"vocab_size"}, "huggingface": {"name", "revision"}}
SPEC, TOKENIZER = "spec.json", "tokenizer.json"
BLOCK = 1000  # texts tokenised at a time: bounds memory
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKENIZER_FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "config.json",
)  # fmt: skip
PROBE = "a"  # any text will do: what surrounds its tokens are the special tokens


@dataclass(frozen=True)
class Tokens:
    """Token ids of all rows of a split, without padding and without special tokens.

    Attributes:
        ids: (total,) int32 memory map.
        offsets: (N + 1,) int64; row i is `ids[offsets[i]:offsets[i + 1]]`.
        vocab_size: all ids are below it.
        pad_id: what fills short rows.
        prefix_ids: special tokens that a published tokenizer puts before a text, such as [CLS]; trained ones have none.
        suffix_ids: the same behind a text.
    """

    ids: np.ndarray
    offsets: np.ndarray
    vocab_size: int
    pad_id: int
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def specials(self) -> int:
        """How many special tokens surround a text or a chunk of it."""
        return len(self.prefix_ids) + len(self.suffix_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64: tokens of each row with its special tokens, before it is cut."""
        return np.diff(self.offsets) + self.specials

    def padded(self, rows: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch, as wide as its longest row: token ids (n, T) int32 and mask (n, T) bool, T <= max_length.

        A row is the special tokens around as many of its own as fit. Raises DataError where none would fit.
        """
        starts, lengths = self._extents(rows)
        return self._filled(starts, np.minimum(lengths, self._room(max_length)))

    def chunked(
        self, rows: np.ndarray, max_length: int, max_chunks: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch in which a long text is several rows, its chunks, each with special tokens of its own.

        Chunks follow each other without overlap; what does not fit into `max_chunks` of them is left out. A text
        without tokens is one chunk of special tokens, or one padding token where there are no special ones.

        Returns:
            Token ids (m, T) int32, mask (m, T) bool with at least one token in each row, T <= max_length, and for
            each chunk the number of its text within the batch, (m,) int64, ascending.
        """
        room = self._room(max_length)
        starts, lengths = self._extents(rows)
        chunks = np.clip(-(-lengths // room), 1, max_chunks)
        text = np.repeat(np.arange(len(chunks)), chunks)
        skipped = room * (np.arange(len(text)) - np.repeat(np.cumsum(chunks) - chunks, chunks))
        batch, mask = self._filled(starts[text] + skipped, np.minimum(lengths[text] - skipped, room))
        mask[:, 0] = True
        return batch, mask, text

    def _room(self, max_length: int) -> int:
        room = max_length - self.specials
        if room < 1:
            raise DataError(
                f"max_length {max_length} leaves no room for text beside {self.specials} special tokens: "
                f"set it to {self.specials + 1} or more"
            )
        return room

    def _extents(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = self.offsets[rows]
        return starts, self.offsets[np.asarray(rows) + 1] - starts

    def _filled(self, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of prefix, `lengths` ids from `starts` on, suffix, padding; and where they are not padding."""
        first, last = len(self.prefix_ids), len(self.suffix_ids)
        ends = first + lengths
        columns = np.arange(max(int(ends.max(initial=first)) + last, 1))
        own = columns < ends[:, None]
        own[:, :first] = False
        batch = np.full(own.shape, self.pad_id, dtype=np.int32)
        batch[own] = self.ids[(starts[:, None] + columns - first)[own]]
        if not self.specials:
            return batch, own
        batch[:, :first] = self.prefix_ids
        behind = ends[:, None] + np.arange(last)
        np.put_along_axis(batch, behind, np.array(self.suffix_ids, dtype=np.int32)[None], axis=1)
        return batch, columns < (ends + last)[:, None]


class Encoder(Protocol):
    """What this module needs of a tokenizer."""

    vocab_size: int
    pad_id: int
    prefix_ids: list[int]
    suffix_ids: list[int]

    def encode(self, texts: list[str]) -> list[list[int]]: ...


def open_tokens(dataset: PreparedDataset, split: str, spec: Mapping[str, Any]) -> Tokens:
    """The tokens of one split; trains the tokenizer and tokenises all splits where nobody did so before."""
    spec = checked_spec(spec)
    folder = dataset.folder / form.TOKENS / _key(spec)
    if not (folder / SPEC).is_file():
        _tokenise(dataset, spec, folder)
    stored = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    ids, offsets = (np.load(folder / f"{split}_{part}.npy", mmap_mode="r") for part in ("ids", "offsets"))
    specials = (tuple(stored.get(part, ())) for part in ("prefix_ids", "suffix_ids"))
    return Tokens(ids, offsets, stored["vocab_size"], stored["pad_id"], *specials)


def save_tokenizer(dataset: PreparedDataset, spec: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Writes the tokenizer as a file of the tokenizers library, which reads it without this dataset or a hub.

    Returns `vocab_size`, `pad_id`, `prefix_ids` and `suffix_ids`, which the file does not say (see `Tokens`).
    """
    spec = checked_spec(spec)
    open_tokens(dataset, "train", spec)  # trained, where nobody did so before
    folder = dataset.folder / form.TOKENS / _key(spec)
    if spec["kind"] == "huggingface":
        _HuggingFace(spec).save(file)
    else:
        shutil.copyfile(folder / TOKENIZER, file)
    stored = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    return {key: stored[key] for key in ("vocab_size", "pad_id", "prefix_ids", "suffix_ids")}


def checked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer's specification with defaults; raises DataError naming what is wrong."""
    kind = spec.get("kind")
    if kind not in KINDS:
        raise DataError(f"tokenizer: unknown kind {kind!r}: {closest(str(kind), KINDS)}")
    for key in spec:
        if key not in KINDS[kind] | {"kind"}:
            raise DataError(f"tokenizer: unknown setting {key!r} of kind {kind}: {closest(key, KINDS[kind])}")
    if kind == "huggingface":
        return _checked_published(spec)
    size = spec.get("vocab_size", 8000)
    if not isinstance(size, int) or isinstance(size, bool) or size < 2 * len(SPECIAL_TOKENS):
        raise DataError(f"tokenizer: vocab_size must be a whole number of at least 8, got {size!r}")
    return {"kind": kind, "vocab_size": size}


def _checked_published(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a published tokenizer: a folder, or a hub id with a commit."""
    name, revision = spec.get("name"), spec.get("revision")
    if not isinstance(name, str) or not name:
        raise DataError("tokenizer: kind huggingface needs name: a hub id or a folder")
    if Path(name).expanduser().is_dir():
        return {"kind": "huggingface", "name": name}
    if name.startswith((".", "/", "~")):
        raise DataError(f"tokenizer {name!r} cannot be loaded: there is no such folder")
    if not isinstance(revision, str) or not COMMIT.fullmatch(revision):
        raise DataError(
            f"tokenizer {name!r}: is no folder here, and a hub id needs revision: the full commit hash "
            f"(40 hexadecimal digits), got {revision!r}"
        )
    return {"kind": "huggingface", "name": name, "revision": revision}


def _key(spec: Mapping[str, Any]) -> str:
    """Names the folder of the tokens; another tokenizer in the same folder is another key."""
    keyed = dict(spec)
    if spec["kind"] == "huggingface":
        keyed["form"] = "with special tokens apart"  # tokens written before they were kept are written anew
        if "revision" not in spec:
            keyed["content"] = _content(Path(spec["name"]).expanduser())
    digest = hashlib.sha256(json.dumps(keyed, sort_keys=True).encode()).hexdigest()[:12]
    return f"{spec['kind']}-{digest}"


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(
        {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    ):
        digest.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def _tokenise(dataset: PreparedDataset, spec: dict[str, Any], folder: Path) -> None:
    """Write the tokens of all splits aside, then rename; two processes at once are safe."""
    from filelock import FileLock

    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / SPEC).is_file():
            return
        work = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        encoder = _encoder(dataset["train"], spec, work)
        for split in dataset.card["splits"]:
            _write_split(dataset[split], encoder, work)
        stored = {**spec, "vocab_size": encoder.vocab_size, "pad_id": encoder.pad_id}
        stored |= {"prefix_ids": encoder.prefix_ids, "suffix_ids": encoder.suffix_ids}
        (work / SPEC).write_text(json.dumps(stored), encoding="utf-8")
        work.rename(folder)


def _write_split(split: Split, encoder: Encoder, work: Path) -> None:
    from data_prep.writer import NpyStream

    ids = NpyStream(work / f"{split.name}_ids.npy", np.int32, ())
    lengths = np.zeros(len(split) + 1, dtype=np.int64)
    for start, texts in _blocks(split):
        for row, tokens in enumerate(encoder.encode(texts), start=start):
            ids.append(np.array(tokens, dtype=np.int32))
            lengths[row + 1] = len(tokens)
    ids.close()
    np.save(work / f"{split.name}_offsets.npy", np.cumsum(lengths))


def _blocks(split: Split) -> Iterator[tuple[int, list[str]]]:
    for start in range(0, len(split), BLOCK):
        yield start, split.texts[start : start + BLOCK]


def _encoder(train: Split, spec: dict[str, Any], work: Path) -> Encoder:
    if spec["kind"] == "huggingface":
        return _HuggingFace(spec)
    return _Trained(train, spec["kind"], spec["vocab_size"], work / TOKENIZER)


class _Trained:
    """A tokenizer trained on the training split: byte-pair encoding, or whole words."""

    pad_id = 0
    prefix_ids: list[int] = []
    suffix_ids: list[int] = []

    def __init__(self, train: Split, kind: str, vocab_size: int, path: Path) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        model, trainer_type = {
            "bpe": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
            "word": (models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer),
        }[kind]
        trainer = trainer_type(
            vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
        )
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        self._tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        self._tokenizer.train_from_iterator(iter(train.texts), trainer)
        self._tokenizer.save(str(path))
        self.vocab_size = self._tokenizer.get_vocab_size()

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]


class _HuggingFace:
    """A published tokenizer, from the hub or from a folder."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._name = spec["name"]
        with _quiet():
            self._tokenizer = self._load(spec)
        if not self._tokenizer.is_fast:
            raise DataError(
                f"tokenizer {self._name!r} has no fast form (tokenizer.json): save it once with "
                "transformers' save_pretrained from its fast class and give that folder"
            )
        self.vocab_size = 1 + max(self._tokenizer.get_vocab().values())
        self.pad_id = self._tokenizer.pad_token_id or 0
        self.prefix_ids, self.suffix_ids = self._specials()

    def _load(self, spec: dict[str, Any]) -> Any:
        from transformers import AutoTokenizer

        folder = "revision" not in spec
        source = str(Path(spec["name"]).expanduser()) if folder else spec["name"]
        try:
            return AutoTokenizer.from_pretrained(
                source,
                revision=spec.get("revision", "main"),
                trust_remote_code=False,
                local_files_only=folder or bool(offline()),
            )
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(
                f"tokenizer {self._name!r} cannot be loaded ({reason}); give a hub id or folder"
            ) from None

    def _specials(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind a single text."""
        whole, bare = (self._ids([PROBE], specials)[0] for specials in (True, False))
        for first in range(len(whole) - len(bare) + 1):
            if bare and whole[first : first + len(bare)] == bare:
                return whole[:first], whole[first + len(bare) :]
        raise DataError(
            f"tokenizer {self._name!r}: special tokens are not told from the text "
            f"({PROBE!r} becomes {bare} without and {whole} with them)"
        )

    def _ids(self, texts: list[str], specials: bool) -> list[list[int]]:
        return self._tokenizer(
            texts,
            add_special_tokens=specials,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._ids(texts, specials=False)

    def save(self, file: Path) -> None:
        """Without the cutting and padding that some published files ask for: here it is done elsewhere."""
        from tokenizers import Tokenizer

        bare = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        bare.no_truncation()
        bare.no_padding()
        bare.save(str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice on special tokens and model types."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

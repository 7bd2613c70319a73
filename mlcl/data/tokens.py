"""Texts -> token ids, once per dataset and tokeniser, kept beside the prepared dataset as memory maps."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from data_prep import DataError
from data_prep import format as form
from data_prep.errors import closest

if TYPE_CHECKING:
    from mlcl.data.dataset import PreparedDataset, Split

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0 to 3 of the trained tokenisers
KINDS = {"bpe": {"vocab_size"}, "word": {"vocab_size"}, "huggingface": {"name", "revision"}}
SPEC, TOKENIZER = "spec.json", "tokenizer.json"
BLOCK = 1000  # texts tokenised at a time: bounds memory


@dataclass(frozen=True)
class Tokens:
    """Token ids of all rows of a split, without padding and without special tokens.

    Attributes:
        ids: (total,) int32 memory map.
        offsets: (N + 1,) int64; row i is `ids[offsets[i]:offsets[i + 1]]`.
        vocab_size: all ids are below it.
        pad_id: what fills short rows.
    """

    ids: np.ndarray
    offsets: np.ndarray
    vocab_size: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def padded(self, rows: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """A batch, as wide as its longest row: token ids (n, T) int32 and mask (n, T) bool, T <= max_length."""
        starts = self.offsets[rows]
        lengths = np.minimum(self.offsets[np.asarray(rows) + 1] - starts, max_length)
        columns = np.arange(max(int(lengths.max(initial=0)), 1))
        mask = columns < lengths[:, None]
        batch = np.full(mask.shape, self.pad_id, dtype=np.int32)
        batch[mask] = self.ids[(starts[:, None] + columns)[mask]]
        return batch, mask


class Encoder(Protocol):
    """What this module needs of a tokeniser."""

    vocab_size: int
    pad_id: int

    def encode(self, texts: list[str]) -> list[list[int]]: ...


def open_tokens(dataset: PreparedDataset, split: str, spec: Mapping[str, Any]) -> Tokens:
    """The tokens of one split; trains the tokeniser and tokenises all splits where nobody did so before."""
    spec = checked_spec(spec)
    folder = dataset.folder / form.TOKENS / _key(spec)
    if not (folder / SPEC).is_file():
        _tokenise(dataset, spec, folder)
    stored = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    ids, offsets = (np.load(folder / f"{split}_{part}.npy", mmap_mode="r") for part in ("ids", "offsets"))
    return Tokens(ids, offsets, stored["vocab_size"], stored["pad_id"])


def checked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tokeniser's specification with defaults; raises DataError naming what is wrong."""
    kind = spec.get("kind")
    if kind not in KINDS:
        raise DataError(f"tokenizer: unknown kind {kind!r}: {closest(str(kind), KINDS)}")
    for key in spec:
        if key not in KINDS[kind] | {"kind"}:
            raise DataError(f"tokenizer: unknown setting {key!r} of kind {kind}: {closest(key, KINDS[kind])}")
    if kind == "huggingface":
        if not isinstance(spec.get("name"), str):
            raise DataError("tokenizer: kind huggingface needs name: a hub id or a folder")
        return dict(spec)
    size = spec.get("vocab_size", 8000)
    if not isinstance(size, int) or isinstance(size, bool) or size < 2 * len(SPECIAL_TOKENS):
        raise DataError(f"tokenizer: vocab_size must be a whole number of at least 8, got {size!r}")
    return {"kind": kind, "vocab_size": size}


def _key(spec: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    return f"{spec['kind']}-{digest}"


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
    """A tokeniser trained on the training split: byte-pair encoding, or whole words."""

    pad_id = 0

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
    """A published tokeniser, from the hub or from a folder."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                spec["name"], revision=spec.get("revision", "main")
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"tokenizer {spec['name']!r} cannot be loaded ({reason}); give a hub id or folder"
            ) from None
        self.vocab_size = len(self._tokenizer)
        self.pad_id = self._tokenizer.pad_token_id or 0

    def encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)[
            "input_ids"
        ]
        return [list(ids) for ids in encoded]

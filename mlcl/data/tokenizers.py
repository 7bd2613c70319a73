"""Tokenizers: trained on a dataset's texts or published; their token ids are stored once per dataset and tokenizer."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from data_prep import DataError
from mlcl import published
from mlcl.data.tokens import Tokens
from mlcl.digests import digests_of, first_defect, is_sealed, sealed
from mlcl.offline import offline
from mlcl.suggest import closest

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0 to 3 of trained tokenizers
KINDS = {"bpe": {"vocab_size"}, "word": {"vocab_size"}, "huggingface": {"name", "revision"}}
SPEC, TOKENIZER = "spec.json", "tokenizer.json"
BLOCK = 1000  # texts tokenised at a time: bounds memory
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKENIZER_FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "config.json",
)  # fmt: skip
PROBE = "a"  # any text: whatever surrounds its tokens are the special tokens

SplitTexts = Mapping[str, Sequence[str]]
"""Split -> its texts; `train` is among them."""


class Tokenizer(Protocol):
    """What this module needs of a tokenizer."""

    vocab_size: int
    pad_id: int
    prefix_ids: list[int]
    suffix_ids: list[int]

    def encode(self, texts: list[str]) -> list[list[int]]: ...


def open_tokens(
    folder: Path, texts: SplitTexts, split: str, spec: Mapping[str, Any], content: str = ""
) -> Tokens:
    """The tokens of one split, memory-mapped; on first use the tokenizer is trained and all splits are tokenised.

    Args:
        folder: has a subfolder of tokens for each tokenizer.
        texts: of all splits.
        split: whose tokens to open.
        spec: see `PreparedDataset.tokens`.
        content: a digest of the texts. Stored tokens that are of others or not what was written are made again, with
            a warning that names the file.
    """
    spec = checked_spec(spec)
    folder = folder / _key(spec)
    stored = _stored(folder, spec, content) or _tokenise(texts, spec, folder, content)
    ids, offsets = (np.load(folder / f"{split}_{part}.npy", mmap_mode="r") for part in ("ids", "offsets"))
    specials = (tuple(stored.get(part, ())) for part in ("prefix_ids", "suffix_ids"))
    return Tokens(ids, offsets, stored["vocab_size"], stored["pad_id"], *specials)


def save_tokenizer(
    folder: Path, texts: SplitTexts, spec: Mapping[str, Any], content: str, file: Path
) -> dict[str, Any]:
    """Writes the tokenizer as a file of the tokenizers library, which opens it without the dataset or a hub.

    Folder, texts, spec and content are those of `open_tokens`. Returns `vocab_size`, `pad_id`, `prefix_ids` and
    `suffix_ids`, which the file does not hold (see `Tokens`).
    """
    spec = checked_spec(spec)
    open_tokens(folder, texts, "train", spec, content)  # trains it on first use
    folder = folder / _key(spec)
    if spec["kind"] == "huggingface":
        _HuggingFace(spec).save(file)
    else:
        shutil.copyfile(folder / TOKENIZER, file)
    stored = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    return {key: stored[key] for key in ("vocab_size", "pad_id", "prefix_ids", "suffix_ids")}


def checked_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer's specification with defaults filled in. Raises DataError naming what is wrong."""
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
    if published.is_published(name):
        try:
            published.find(name)
        except published.PublishedError as error:
            raise DataError(f"tokenizer: {error}") from None
        return {"kind": "huggingface", "name": name}
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
    """The name of the tokens' folder; a digest, for published ones also of the tokenizer's files."""
    keyed = dict(spec)
    if spec["kind"] == "huggingface":
        keyed["form"] = "with special tokens apart"  # older token folders had them among the ids
        if published.is_published(spec["name"]):
            keyed["content"] = published.digest(spec["name"])
        elif "revision" not in spec:
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


def _stored(folder: Path, spec: Mapping[str, Any], content: str) -> dict[str, Any] | None:
    """What the folder's SPEC says; None, after a warning, if it or a file is not what was written, or if it is not
    there."""
    file = folder / SPEC
    try:
        stored: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        stored = None
    if not is_sealed(stored):
        defect: str | None = f"{file}: is not what was written (its seal does not fit)"
    elif stored.get("of") != {"spec": spec, "content": content}:
        defect = f"{file}: is of other texts or of another tokenizer"
    else:
        defect = first_defect(folder, stored["files"])
    if defect is None:
        return dict(stored)
    warnings.warn(f"{defect}; the texts are tokenised again", stacklevel=2)
    return None


def _tokenise(texts: SplitTexts, spec: dict[str, Any], folder: Path, content: str) -> dict[str, Any]:
    """Writes the tokens of all splits beside the folder, then renames; safe for processes that do so at once.

    Returns what the folder's SPEC says."""
    from filelock import FileLock

    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (there := _stored(folder, spec, content)) is not None:
            return there
        work = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        tokenizer = _create(texts["train"], spec, work)
        for split in texts:
            _write_split(split, texts[split], tokenizer, work)
        stored = {**spec, "vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
        stored |= {"prefix_ids": tokenizer.prefix_ids, "suffix_ids": tokenizer.suffix_ids}
        stored = sealed({**stored, "of": {"spec": spec, "content": content}, "files": digests_of(work)})
        (work / SPEC).write_text(json.dumps(stored), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        return stored


def _write_split(split: str, texts: Sequence[str], tokenizer: Tokenizer, work: Path) -> None:
    from data_prep.writer import NpyStream

    ids = NpyStream(work / f"{split}_ids.npy", np.int32, ())
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    for start in range(0, len(texts), BLOCK):
        for row, tokens in enumerate(tokenizer.encode(list(texts[start : start + BLOCK])), start=start):
            ids.append(np.array(tokens, dtype=np.int32))
            lengths[row + 1] = len(tokens)
    ids.close()
    np.save(work / f"{split}_offsets.npy", np.cumsum(lengths))


def _create(train: Sequence[str], spec: dict[str, Any], work: Path) -> Tokenizer:
    if spec["kind"] == "huggingface":
        return _HuggingFace(spec)
    return _Trained(train, spec["kind"], spec["vocab_size"], work / TOKENIZER)


class _Trained:
    """Trained on the training texts: byte-pair encoding, or whole words."""

    pad_id = 0
    prefix_ids: list[int] = []
    suffix_ids: list[int] = []

    def __init__(self, train: Sequence[str], kind: str, vocab_size: int, path: Path) -> None:
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
        self._tokenizer.train_from_iterator(iter(train), trainer)
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
        if published.is_published(spec["name"]):
            try:
                source = str(published.folder(spec["name"]))
            except published.PublishedError as error:
                raise DataError(f"tokenizer: {error}") from None
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
        """The special tokens that the tokenizer adds before and after a single text."""
        whole, bare = (self._ids([PROBE], specials)[0] for specials in (True, False))
        for first in range(len(whole) - len(bare) + 1):
            if bare and whole[first : first + len(bare)] == bare:
                return whole[:first], whole[first + len(bare) :]
        raise DataError(
            f"tokenizer {self._name!r}: special tokens cannot be told from those of the text "
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
        """Without the truncation and padding that some published files set: batches are padded by `Tokens`."""
        from tokenizers import Tokenizer

        bare = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        bare.no_truncation()
        bare.no_padding()
        bare.save(str(file))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the library's advice on special tokens and model types."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)

"""Preprocessing: raw texts, images or vectors become the encoder's input, exactly as in preparation and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import DataError
from data_prep.readers.images import decode
from data_prep.readers.text import clean
from mlcl.data import Tokens
from mlcl.model.config import TOKENIZER, ModelConfig, ModelError
from mlcl.training.inputs.batches import Images, Inputs, Texts, Vectors

Preprocessor = Callable[[Sequence[Any] | np.ndarray, Sequence[str]], Inputs]
"""(raw inputs, for each the file and row to name in messages) -> the inputs as one batch. Raises ModelError."""


def preprocessor(config: ModelConfig, encoder: Any, folder: Path) -> Preprocessor:
    """The preprocessing of this model; `encoder`: the encoder's settings."""
    match config.modality:
        case "text":
            return _Texts(config, encoder, folder)
        case "image":
            return _Images(config)
        case _:
            return _Vectors(config)


class _Texts:
    """Cleans, tokenises, and truncates texts as in training."""

    def __init__(self, config: ModelConfig, encoder: Any, folder: Path) -> None:
        from tokenizers import Tokenizer

        file = folder / TOKENIZER
        if not file.is_file():
            raise ModelError(f"{file}: is missing; export the model again")
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing narrower
            raise ModelError(f"{file}: is no tokenizer ({error}); export the model again") from None
        assert config.tokenizer is not None
        self._about, self._cleaning = config.tokenizer, config.cleaning
        self._max_length, self._max_chunks = encoder.max_length, encoder.max_chunks

    def __call__(self, inputs: Sequence[Any] | np.ndarray, places: Sequence[str]) -> Texts:
        for text, place in zip(inputs, places, strict=True):
            if not isinstance(text, str):
                raise ModelError(f"{place}: expected a text, got {type(text).__name__}")
        texts = [clean(text, self._cleaning) for text in inputs] if self._cleaning else list(inputs)
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        ids = np.array([token for row in rows for token in row], dtype=np.int32)
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        about = self._about
        specials = (tuple(about.prefix_ids), tuple(about.suffix_ids))
        tokens = Tokens(ids, offsets, about.vocab_size, about.pad_id, *specials)
        return Texts(tokens, self._max_length, self._max_chunks)


class _Images:
    """Decodes and resizes images as `data_prep` does. An array must have the prepared shape and type already."""

    def __init__(self, config: ModelConfig) -> None:
        shape = config.encoder.inputs
        self._shape = (shape["height"], shape["width"], shape["channels"])
        self._pool = ThreadPoolExecutor()  # decoding releases the GIL

    def __call__(self, inputs: Sequence[Any] | np.ndarray, places: Sequence[str]) -> Images:
        return Images(np.stack(list(self._pool.map(self._pixels, inputs, places))))

    def _pixels(self, image: Any, place: str) -> np.ndarray:
        if isinstance(image, np.ndarray):
            if image.shape != self._shape or image.dtype != np.uint8:
                raise ModelError(
                    f"{place}: expected uint8 of shape {self._shape}, got {image.dtype} of shape {image.shape}"
                )
            return image
        if not isinstance(image, str | Path | bytes):
            raise ModelError(f"{place}: expected a file, its bytes or an array, got {type(image).__name__}")
        height, width, channels = self._shape
        if height != width:
            raise ModelError(
                f"the model takes images of {height} x {width} pixels; give arrays of that shape"
            )
        try:
            encoded = image if isinstance(image, bytes) else Path(image).read_bytes()
            pixels = decode(encoded, height, place)[0]
        except OSError as error:
            raise ModelError(f"{place}: cannot be read ({error.strerror or error})") from None
        except DataError as error:
            raise ModelError(str(error)) from None
        except ImportError:
            raise ModelError("images are decoded by pillow: pip install 'mlcl[data]'") from None
        return pixels if channels == 3 else _grey(pixels)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1) by luminance; equal channels stay what they are."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


class _Vectors:
    """Checks that each vector has as many numbers as in training, all finite."""

    def __init__(self, config: ModelConfig) -> None:
        self._dimensions = config.encoder.inputs["dimensions"]

    def __call__(self, inputs: Sequence[Any] | np.ndarray, places: Sequence[str]) -> Vectors:
        return Vectors(np.stack([self._row(row, place) for row, place in zip(inputs, places, strict=True)]))

    def _row(self, row: Any, place: str) -> np.ndarray:
        try:
            vector = np.asarray(row, dtype=np.float32)
        except (TypeError, ValueError):
            raise ModelError(f"{place}: expected a vector of numbers") from None
        if vector.shape != (self._dimensions,):
            raise ModelError(
                f"{place}: has {vector.size if vector.ndim == 1 else vector.shape} numbers, the model takes "
                f"{self._dimensions}, in the order of the prepared dataset's columns"
            )
        if not np.isfinite(vector).all():
            column = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise ModelError(f"{place}: number {column + 1} is {vector[column]}; all must be finite")
        return vector

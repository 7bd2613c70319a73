"""The prepared form of a dataset: names of its files, shared by the writer here and the reader in `mlcl.data`.

DIR/card.json                    written last: without it there is no dataset
DIR/.card.json                   a copy: by it a folder is known as prepared where the card was deleted
DIR/<split>/ids.npy              (N,) unicode
DIR/<split>/label_offsets.npy    (N + 1,) int64   labels of row i: label_ids[offsets[i]:offsets[i + 1]]
DIR/<split>/label_ids.npy        (nnz,) int32     sorted within a row
image   images.npy (N, H, W, C) uint8, sizes.npy (N, 2) int32: height and width before resizing
text    texts.bin UTF-8, text_offsets.npy (N + 1,) int64
vector  vectors.npy (N, F) float32
DIR/tokens/<key>/                tokenised texts, added by `mlcl.data` on first use
with unknown labels only, which makes it format 2:
DIR/<split>/unknown_offsets.npy  (N + 1,) int64   unknown labels of row i, as above
DIR/<split>/unknown_ids.npy      (m,) int32       sorted within a row
"""

VERSION = 1
WITH_UNKNOWN_LABELS = 2
"""Other files, so another version: a reader that does not know of them would take unknown labels for absent ones."""
READABLE = (VERSION, WITH_UNKNOWN_LABELS)
CARD = "card.json"
CARD_COPY = ".card.json"
SPLITS = ("train", "val", "test")
IDS = "ids.npy"
LABEL_OFFSETS = "label_offsets.npy"
LABEL_IDS = "label_ids.npy"
UNKNOWN_OFFSETS = "unknown_offsets.npy"
UNKNOWN_IDS = "unknown_ids.npy"
IMAGES = "images.npy"
SIZES = "sizes.npy"
TEXTS = "texts.bin"
TEXT_OFFSETS = "text_offsets.npy"
VECTORS = "vectors.npy"
TOKENS = "tokens"

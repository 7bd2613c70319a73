"""Settings and a prepared dataset become scores: encoder and loss by name, a protocol, a loop.

`settings`   all settings of one cell (no torch)
`run`        one cell from its settings to its scores
`protocols`  how a cell is trained and evaluated, one file each
`context`    what a protocol works with, and what it hands back
`loop`       the training loop that the protocols share
`batches`    rows of a prepared dataset as tensors
`seeding`    where randomness comes from
"""

"""Training and evaluation of one cell: settings and a prepared dataset in, scores out. Knows nothing of the grid.

In reading order: `settings`, `launch` and `run`, `protocols`, `context`, `heads`, `methods`, `fit`, `inputs`, `loop`,
`outcome` (docs/training.md).
"""

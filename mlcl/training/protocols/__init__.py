"""How a cell is trained and evaluated: one protocol, one file.

A protocol is a function `run(context) -> Outcome`; the file's stem is its name in `CellSettings.protocol`.
"""

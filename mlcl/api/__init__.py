"""What `import mlcl` gives: one cell, or a few, without a study file.

`datasets`    `prepare`: a known dataset, arrays, texts or a DataFrame -> a prepared dataset
`fitting`     `fit`: one cell -> its scores, metrics, learning curve and model
`comparing`   `compare`: several losses and seeds -> a small table

Everything here calls what a study calls: a cell has the same settings, defaults and checks as one in a study file, and
the same numbers.
"""

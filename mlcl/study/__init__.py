"""From a study file to its cells, their fingerprints and their records. Planning imports neither torch nor pandas.

`config`        the study file, validated once, as typed objects
`cells`         the grid: study -> cells (a pure function)
`code`          the definitions that a cell's result passes through
`fingerprint`   the digest of all that a cell's result depends on
`plan`          cells + datasets + records that exist -> what is current, what has to be made, and why
`estimate`      what a plan takes: time and disk; `sizes`: the rows of its datasets
`make`          a request becomes a prepared dataset or a record; `progress` shows it, `gpus` assigns GPUs
`pair_weights`  the pair weights of a study's losses, for a figure
`export`        the model of a cell as a folder of its own
`runlock`       one run at a time in one folder, and no lock left by a killed run
"""

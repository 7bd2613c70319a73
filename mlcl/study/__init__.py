"""From a study file to its cells, their fingerprints and their records. Pure bookkeeping: no torch, no pandas.

`config`       the study file, validated once, as typed objects
`cells`        the grid: study -> cells (a pure function)
`fingerprint`  what makes a cell stale
`plan`         cells + datasets + records that exist -> what is current, what has to be made, and why
`make`         a request becomes a prepared dataset or a record
`runlock`      one run at a time in one folder, and no lock left by a run that was killed
"""

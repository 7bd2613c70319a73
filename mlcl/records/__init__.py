"""What a finished study is, apart from how it was planned. Needs neither torch nor the study file.

`paths`     where everything lies
`files`     atomic files and folders, the JSON cache
`format`    the format number of files that outlive a run
`outline`   what a study asks for: written by the plan, read by everything that follows
`record`    what a finished cell leaves behind, and how a new one replaces an old one
`diagnosis` whether a cell was trained to its end
`code`      the definitions that records were made by
`status`    the state of a cell, and where a study stands
`coverage`  the same as a matrix
`rescore`   metrics of a record anew, from its stored scores
`search`    the choice among the trials of a search
`labels`    each label of each cell, and which labels are taken for which, from stored scores
`collect`   records -> metrics.csv, costs.csv, cells.csv, labels.csv
`merge`     records of several machines or studies brought together
"""

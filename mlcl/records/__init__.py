"""What a finished study is, apart from how it was planned: needs neither torch nor the study file.

`paths`    where everything lies
`files`    atomic files, the JSON cache
`record`   what a finished cell leaves behind
`outline`  what a study asks for: written by the plan, read by everything that follows
`rescore`  metrics of a record anew, from its stored scores
`collect`  records -> metrics.csv, costs.csv, cells.csv
`status`   how far a study is
`merge`    records of several machines brought together
"""

"""The leaderboard: what all kept studies together say, on one page that rebuilds itself from `results/reference/`.

`comparisons`  losses of one study compared for a modality, a range of numbers of labels, an amount of data, a readout
`families`     contrastive against classification losses, and the readout's part in their difference
`verdicts`     the claims over the datasets of all studies
`quality`      how far each study is, and what is wrong with its rows
`tables`       all of these as tables
`page`         the page in HTML and in Markdown

Intervals are those of `mlcl.reporting.standings` and `contrasts`; nothing is computed here in another way.
"""

"""Uncertainty: over seeds, over test examples, over datasets.

`seeds`     intervals of means over seeds, Welch's test, effect sizes
`examples`  metrics without some of the test examples (the jackknife)
`contrast`  weighted sums of means, with the variance over seeds and examples
`datasets`  ranks, Friedman, Nemenyi, Wilcoxon-Holm, probability of improvement
"""

CONFIDENCE = 0.95
"""Of every interval that a table, figure or sentence shows."""
ALPHA = 0.05
"""Level of every test: 1 - CONFIDENCE."""
FEWEST_DATASETS = 6
"""For tests of ranks: with five datasets the smallest two-sided p-value of Wilcoxon's test is 0.0625."""

"""Uncertainty: over seeds, over test examples, over datasets.

`seeds`     intervals of means and of contrasts of means, effect sizes
`examples`  paired bootstrap over test examples
`datasets`  ranks, Friedman, Nemenyi, Wilcoxon-Holm, probability of improvement
"""

CONFIDENCE = 0.95
"""Of every interval that a table, figure or sentence shows."""
ALPHA = 0.05
"""Level of every test: 1 - CONFIDENCE."""
FEWEST_DATASETS = 3
"""Below this no statistic over datasets is shown."""

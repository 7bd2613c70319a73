"""How sure: over seeds, over test examples, over datasets.

`seeds`     intervals of means and of contrasts of means, effect sizes
`examples`  paired bootstrap over test examples
`datasets`  ranks, Friedman, Nemenyi, Wilcoxon-Holm, probability of improvement
"""

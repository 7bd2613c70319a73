"""From features and scores to metrics.

`readouts`        names of the ways in which scores are made of features (no torch)
`linear`          linear evaluation of frozen features (torch)
`knn`             nearest neighbours of frozen features (torch)
`metrics`         scores -> metrics (no torch)
`per_label`       decisions -> each label for itself, and which labels are taken for which (no torch)
`representation`  embeddings -> metrics (no torch)
"""

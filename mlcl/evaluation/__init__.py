"""From features and scores to metrics.

`readouts`        names of the ways in which scores are made of features (no torch)
`linear`          linear evaluation of frozen features (torch)
`knn`             nearest neighbours of frozen features (torch)
`metrics`         scores -> metrics (no torch)
`representation`  embeddings -> metrics (no torch)
"""

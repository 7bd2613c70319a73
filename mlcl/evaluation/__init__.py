"""From features and scores to metrics.

`linear`          linear evaluation of frozen features (torch)
`knn`             nearest neighbours of frozen features (torch)
`metrics`         scores -> metrics (no torch)
`representation`  embeddings -> metrics (no torch)
"""

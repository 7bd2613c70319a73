"""From features and scores to metrics.

`linear`   linear evaluation of frozen features (torch)
`metrics`  scores -> metrics (no torch)
`rescore`  metrics of a record anew from its stored scores (no torch)
"""

"""From a prepared dataset to the batches that an encoder takes.

`sampling`     which rows form a batch, in which order
`batches`      rows as tensors: gathered on the host, copied to the device, formed for the encoder
`prefetch`     gathering the next batches while the device computes
`transforms`   augmentation: what a study may name, and what it does
`randaugment`  RandAugment's operations on whole batches
"""

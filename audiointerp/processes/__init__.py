"""Several processes that make the results of one command together, on one machine or on many.

`launching` starts them for `--devices`, `world` is how they know of each other, `dividing` divides a training batch.
"""

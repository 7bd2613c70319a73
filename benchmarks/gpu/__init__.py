"""One command on a GPU machine without a network: what is packed for it, the steps it runs, what they found.

python -m benchmarks.gpu pack DIR                        here: wheels, prepared data, weights (docs/gpu.md)
bash benchmarks/gpu/run.sh DIR OUT --minutes 9           there
"""

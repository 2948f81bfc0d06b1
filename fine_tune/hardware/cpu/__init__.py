"""Operators that are faster on a CPU, or need less memory, than those of the libraries.

`use_cpu_kernels` (kernels.py) puts them into a model; nothing else does.
"""

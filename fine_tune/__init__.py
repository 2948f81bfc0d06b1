"""Task-specific distillation of BERT, one readable loop per method.

Reading order: `config` (every flag), `task` and `data` (text to batches), `model` (teacher, student, gates), `losses`,
`layer_map`, then `train/` (the loops). `build` holds the wiring that the `run_*.py` scripts share. Importing this
package, or `flag`, `config`, `path` and `task`, imports nothing heavy and creates nothing on disk.
"""

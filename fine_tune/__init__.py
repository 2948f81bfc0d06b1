"""Task-specific distillation of BERT, one readable loop per method.

The rooms; each imports only from those below it.

compare/      suites: methods x seeds, sweeps, tests of every pair, reports
train/        methods.py, the table of methods and their flags; then one loop per method
glove/        the GloVe document: its files, word vectors, augmented rows, runs validated by epoch
plot/         pictures of runs: curves, gates, shares of the teacher's layers, [CLS]
export/       a student leaves: HuggingFace folder, ONNX, int8, model card; checked; run without PyTorch
run/          how a run starts, is checked, goes on, is written down; optimiser; resume
teacher/      what a loop asks of its teacher; a live one, its outputs on disk, banks
scores/       predictions, metrics, size and speed
model/        encoder, classifier, gates; how a student starts; checkpoints; models read back
data/         text to tokens, once; tokens to batches, in an order that is a pure function
flags/        a dataclass field becomes a flag; groups of flags; config.json
tasks/        the table of tasks, the reader of their files, official archives, sample corpus
hub.py        local folder or model hub
files.py      whole-or-nothing writes, locks, JSON
path.py       where things live
losses.py     the losses, pure and unweighted
layer_map.py  which teacher layer each student layer follows
hardware/     device, processes, precision, seed, threads; cpu/: faster operators, put in by one call

Importing this package, `flags`, `tasks` or `train.methods` imports nothing heavy and creates nothing on disk.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (of older Pythons this line is all that runs)
    script = sys.argv[0].rpartition("/")[2]
    sys.stderr.write("{}: error: Python 3.11 or later is needed, this is {}.{}\n".format(script, *sys.version_info[:2]))
    sys.exit(2)

"""Every command of a document, one after the other, on real rows: as written, but for devices, steps and batches.

The encoders have random weights, a vocabulary of the rows' own words, and the hub's names as folders. For SST-2 they
have the size of `bert-base-uncased`, since its commands say the student's; for BoolQ only the number of layers.
"""

import re
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from test_archive import MIRRORS
from test_flags import DOCUMENT

from fine_tune.hardware.precision import has_bfloat16

SHORT = {
    "total_step": 2, "gate_total_step": 2, "warmup_step": 1, "gate_warmup_step": 1, "ckpt_step": 2, "log_step": 1,
    "tckpt": 2, "ckpt": 2, "batch_size": 4, "device_id": -1, "tdevice_id": -1, "gate_device_id": -1,
}  # fmt: skip
TRAINED = {"partial_LAD_0_42": "partial_LAD_5_42"}
"""The document evaluates a run that it does not train."""
ROWS = {"SST-2": 50, "BoolQ": 12}
"""Of every split; those of BoolQ are long."""
OWN = {"config.json", "run.json", "metrics.jsonl", "encoder.json", "tokenizer"}
GATES = {"lad": range(1, 12), "lad_user_defined": range(1, 12), "partial_lad": range(1, 10), "lad_no": range(1, 12, 2)}
"""0-based teacher layers that have a gate."""
ARCHIVES = {
    name: next((folder / f"{name}.zip" for folder in MIRRORS if (folder / f"{name}.zip").is_file()), None)
    for name in ("SST-2", "BoolQ")
}


def unpack(archive: Path, data: Path) -> list[str]:
    """Put the first real rows of every split in place; gives the words of the training split."""
    words: set[str] = set()
    with zipfile.ZipFile(archive) as zipped:
        for name in (name for name in zipped.namelist() if name.endswith(("tsv", "jsonl"))):
            file = Path(zipped.extract(name, data / "fine_tune"))
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[: 1 + ROWS[archive.stem]]
            file.write_text("".join(lines), encoding="utf-8")
            words.update(re.findall(r"\w+|[^\w\s]", "".join(lines).lower()) if file.stem == "train" else [])
    return sorted(words)


def random_encoder(folder: Path, words: list[str], **sizes: int) -> None:
    """Save a random BERT, or an ALBERT if its name says so, of base size but for `sizes`."""
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=512)
    tokenizer.save_pretrained(folder)
    sizes |= {"vocab_size": len(tokenizer), "pad_token_id": 0}
    albert = folder.name.startswith("albert")
    config = transformers.AlbertConfig(**sizes) if albert else transformers.BertConfig(**sizes)
    transformers.AutoModel.from_config(config).save_pretrained(folder)


def command(flags: str) -> dict[str, object]:
    """Read a command of the document, cut short."""
    words = flags.split()
    given = dict(zip((word[2:] for word in words[::2]), words[1::2], strict=True))
    given["experiment"] = TRAINED.get(given["experiment"], given["experiment"])
    return given | {name: value for name, value in SHORT.items() if name in given}


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVES["SST-2"] is None, reason="SST-2.zip is not at hand: set GLUE_MIRROR to its folder")
def test_every_command_of_the_document_runs_and_leaves_its_files(tmp_path, monkeypatch, run):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fine_tune.run.preflight.judge", lambda *_: None)  # two updates make no teacher
    random_encoder(tmp_path / "bert-base-uncased", unpack(ARCHIVES["SST-2"], tmp_path / "data"))
    for name, (script, flags) in DOCUMENT.items():
        given = command(flags)
        run(script, *(word for flag, value in given.items() for word in (f"--{flag}", value)))
        folder = tmp_path / "data" / "fine_tune_experiment" / f"{given['experiment']}_bert_sst2"
        there = {file.name for file in folder.iterdir()}
        if script.startswith("run_fine_tune_eval"):
            split = given["dataset"]
            assert there >= {f"eval_{split}.json", f"prediction_{split}-2.tsv"}, name
        elif script == "generate_test_prediction":
            assert len((folder / "SST-2.tsv").read_text(encoding="utf-8").splitlines()) == 1 + ROWS["SST-2"]
        else:
            files = OWN | {"model-2.pt"} | {f"gate-{layer}-2.pt" for layer in GATES.get(name, ())}
            assert there == files | ({"gate_config.json"} if name in GATES else set()), name


TUNE = """--task boolq --dataset train --num_class 2 --beta1 0.9 --beta2 0.999 --dropout 0.1 --eps 1e-8 --max_norm 1.0
    --num_gpu 1 --seed 42 --weight_decay 0.01"""
LARGE = f"""{TUNE} --batch_size 32 --lr 1e-5 --max_seq_len 256 --total_step 2946 --warmup_step 295 --amp"""
BASE = f"""{TUNE} --accum_step 8 --batch_size 128 --lr 3e-5 --max_seq_len 512"""
SCORE = "--task boolq --batch_size 128"
BOOLQ = [
    ("run_fine_tune", f"""{LARGE} --experiment BLarge_3_uncased --model bert --ptrain_ver bert-large-uncased
        --accum_step 16 --ckpt_step 250 --log_step 250""", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment BLarge_2 --model bert --dataset train", "no run at "),
    ("run_fine_tune_eval", f"{SCORE} --experiment BLarge_2 --model bert --dataset val", "no run at "),
    # Its assistant is shown in a table only; these two commands make one, of small width.
    ("run_fine_tune_gen_logits", f"{SCORE} --experiment BLarge_3_uncased --model bert --dataset train --ckpt 2946", ""),
    ("run_fine_tune_distill", f"""{LARGE} --experiment BLarge_uncased_TA_1 --model bert
        --dataset BLarge_3_uncased_bert_boolq --accum_step 8 --ckpt_step 200 --d_ff 64 --d_model 32
        --num_attention_heads 16 --num_hidden_layers 12 --type_vocab_size 2""", ""),
    ("run_fine_tune_gen_logits", f"""{SCORE} --experiment BLarge_uncased_TA_1 --model bert --dataset train
        --ckpt 2946""", ""),
    ("run_fine_tune_distill", f"""{LARGE} --experiment BLarge_uncased_TA_3 --model bert
        --dataset BLarge_uncased_TA_1_bert_boolq --accum_step 8 --ckpt_step 200 --d_ff 4096 --d_model 1024
        --num_attention_heads 16 --num_hidden_layers 6 --type_vocab_size 2""", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment BLarge_uncased_TA_3 --model bert --dataset train", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment BLarge_uncased_TA_3 --model bert --dataset val", ""),
    ("run_fine_tune", f"""{BASE} --experiment 1 --model albert --ptrain_ver albert-base-v2 --ckpt_step 500
        --log_step 250 --total_step 10000 --warmup_step 1000""", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment 1 --model albert --dataset train", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment 1 --model albert --dataset val", ""),
    ("run_fine_tune_gen_logits", f"{SCORE} --experiment 1 --model albert --dataset train --ckpt 0", "--ckpt 0"),
    ("run_fine_tune_gen_logits", f"{SCORE} --experiment 1 --model albert --dataset train", ""),  # with a checkpoint
    ("run_fine_tune_distill", f"""{BASE} --experiment distill_1 --model albert --dataset 1_albert_boolq --ckpt_step 1000
        --d_emb 128 --d_ff 3072 --d_model 768 --log_step 500 --num_attention_heads 16 --num_hidden_layers 6
        --total_step 100000 --type_vocab_size 2 --warmup_step 10000""", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment distill_1 --model albert --dataset train", ""),
    ("run_fine_tune_eval", f"{SCORE} --experiment distill_1 --model albert --dataset dev_mismatched",
     "--dataset 'dev_mismatched': boolq has the splits train, val, test"),
]  # fmt: skip
"""Commands of the BoolQ document, what they share written once; a message where the document itself is wrong."""


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVES["BoolQ"] is None, reason="BoolQ.zip is not at hand: set GLUE_MIRROR to its folder")
def test_every_command_of_the_boolq_document(tmp_path, monkeypatch, run, refused):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    words = unpack(ARCHIVES["BoolQ"], tmp_path / "data")
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    random_encoder(tmp_path / "bert-large-uncased", words, num_hidden_layers=24, **small)
    random_encoder(tmp_path / "albert-base-v2", words, num_hidden_layers=12, embedding_size=8, **small)
    for script, flags, told in BOOLQ:
        words = flags.split()
        given = {}
        for flag, value in zip(words, [*words[1:], "--"], strict=True):
            if flag.startswith("--"):
                given[flag[2:]] = None if value.startswith("--") else value
        short = SHORT | {"accum_step": 2, "num_gpu": 0} | ({"ckpt": 2} if given.get("ckpt") != "0" else {"ckpt": 0})
        given |= {name: value for name, value in short.items() if name in given}
        if not has_bfloat16(torch.device("cpu")):
            given.pop("amp", None)
        line = [word for name, value in given.items() for word in (f"--{name}", value) if word is not None]
        if told:
            assert told in refused(script, *line)
        else:
            run(script, *line)
            folder = tmp_path / "data" / "fine_tune_experiment" / f"{given['experiment']}_{given['model']}_boolq"
            left = {"eval": f"eval_{given['dataset']}.json", "logits": "boolq-distill.jsonl"}
            assert (folder / left.get(script.rpartition("_")[2], "model-2.pt")).is_file(), line

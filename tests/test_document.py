"""Every command of a document, one after the other, on real rows: as written, but for devices, steps and batches.

The encoders have random weights, a vocabulary of the rows' own words, and the hub's names as folders. For SST-2 they
have the size of `bert-base-uncased`, since its commands say the student's; for BoolQ only the number of layers, for
MNLI a quarter of the width, which its commands then say as well.
"""

import json
import re
import shutil
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
ROWS = {"SST-2": 50, "BoolQ": 12, "MNLI": 48}
"""Of every split; those of BoolQ are long."""
OWN = {"config.json", "run.json", "metrics.jsonl", "encoder.json", "tokenizer"}
GATES = {"lad": range(1, 12), "lad_user_defined": range(1, 12), "partial_lad": range(1, 10), "lad_no": range(1, 12, 2)}
"""0-based teacher layers that have a gate."""
ARCHIVES = {
    name: next((folder / f"{name}.zip" for folder in MIRRORS if (folder / f"{name}.zip").is_file()), None)
    for name in ("SST-2", "BoolQ", "MNLI")
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


def cut_short(flags: str, **short: object) -> tuple[dict[str, object], list[object]]:
    """Read a command of a document, cut short; its flags, and its words."""
    words, given = flags.split(), dict[str, object]()
    for flag, value in zip(words, [*words[1:], "--"], strict=True):
        if flag.startswith("--"):
            given[flag[2:]] = None if value.startswith("--") else value
    given |= {name: value for name, value in (SHORT | short).items() if name in given}
    if not has_bfloat16(torch.device("cpu")):
        given.pop("amp", None)
    return given, [word for name, value in given.items() for word in (f"--{name}", value) if word is not None]


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
        ckpt = 0 if "--ckpt 0" in flags else 2
        given, line = cut_short(flags, accum_step=2, num_gpu=0, ckpt=ckpt)
        if told:
            assert told in refused(script, *line)
        else:
            run(script, *line)
            folder = tmp_path / "data" / "fine_tune_experiment" / f"{given['experiment']}_{given['model']}_boolq"
            left = {"eval": f"eval_{given['dataset']}.json", "logits": "boolq-distill.jsonl"}
            assert (folder / left.get(script.rpartition("_")[2], "model-2.pt")).is_file(), line


STUDENT = """--model bert --task mnli --batch_size 32 --beta1 0.9 --beta2 0.999 --d_ff 3072 --d_model 768 --dropout 0.1
    --eps 1e-8 --log_step 500 --max_norm 1.0 --num_attention_heads 12 --num_hidden_layers 6 --type_vocab_size 2
    --weight_decay 0.01 --device_id 1 --teacher_exp test --tmodel bert --tckpt 36816"""
GO_ON = "--model bert --task mnli --device_id 1 --accum_step 1 --batch_size 32 --log_step 100 --total_step 24544"
SPLITS = ("train", "dev_matched", "dev_mismatched")
NOBODY = "no run at "
MNLI = [
    ("run_fine_tune", """--experiment bert_base_teacher --model bert --ptrain_ver bert-base-uncased --task mnli
        --dataset train --num_class 3 --accum_step 1 --batch_size 32 --beta1 0.9 --beta2 0.999 --ckpt_step 3000
        --dropout 0.1 --eps 1e-8 --log_step 500 --lr 3e-5 --max_norm 1.0 --max_seq_len 128 --device_id 1 --seed 42
        --total_step 36816 --warmup_step 10000 --weight_decay 0.01 --amp""", ""),
    *(("run_fine_tune_eval", f"""--experiment bert_base_teacher --model bert --task mnli --dataset {split}
        --batch_size 512 --device_id 1""", "") for split in SPLITS),
    ("run_fine_tune_distill_mgpu", f"""{STUDENT} --experiment PKD --accum_step 1 --ckpt_step 12272 --lr 5e-5
        --total_step 49088 --warmup_step 4908 --tdevice_id 1 --mu 100 --use_hidden_loss --softmax_temp 10
        --soft_weight 0.5 --use_classify_loss --cls_steps 0 --ce_weight 1 --scl_temp 1""", ""),
    ("run_fine_tune_contrast_distill", f"""{STUDENT} --experiment contrast_by_label_1 --accum_step 4 --ckpt_step 1000
        --lr 5e-5 --total_step 122720 --warmup_step 8181 --membank_device 1 --neg_num 10 --two_stage --teacher_device 1
        --contrast_steps 98176""", ""),
    ("run_layerwise_contrast_distill", f"""{STUDENT} --experiment debug --accum_step 2 --ckpt_step 5000 --lr 3e-5
        --total_step 122720 --warmup_step 30000 --neg_num 20 --contrast_steps 0 --contrast_temp 0.07 --softmax_temp 1
        --soft_label_weight 0.2 --defined_by_label""", ""),
    # Their source has no command of its own in the document: the first script with the hidden loss alone.
    ("run_fine_tune_distill_mgpu", f"""{STUDENT} --experiment MSE_base --accum_step 1 --ckpt_step 24544 --lr 5e-5
        --total_step 24544 --warmup_step 2454 --use_hidden_loss""", ""),
    ("train_scl_from_ckpt", f"""{GO_ON} --experiment SCL_1 --src_experiment MSE_base --src_ckpt 24544 --scl_temp 0.1
        --ckpt_step 2000 --lr 5e-5 --warmup_step 2454""", ""),
    ("train_kd_from_ckpt", f"""{GO_ON} --teacher_exp test --tmodel bert --tckpt 36816 --experiment SCL_1_ce
        --src_experiment SCL_1 --src_ckpt 24544 --tdevice_id 1 --softmax_temp 10 --soft_weight 0.5 --ckpt_step 1000
        --lr 1e-5 --warmup_step 2454""", ""),
    *(("run_fine_tune_eval", f"""--experiment PKD --model bert --task mnli --dataset {split} --batch_size 512
        --device_id 1 --ckpt 98176""", "--ckpt 3: no checkpoint from this step on; the last one is 2")
      for split in SPLITS),
    ("build_membank", """--experiment teacher_base --model bert --task mnli --dataset train --ckpt 36816
        --batch_size 256 --device_id 0 --layer_wise""", NOBODY),
    ("build_logitsbank", """--experiment test --model bert --task mnli --dataset train --ckpt 36816 --batch_size 256
        --device_id 1""", ""),
    ("plot_CLS_embedding", """--ckpt 24544 --experiment SCL_1_ce --model bert --task mnli --dataset dev_matched
        --batch_size 128 --device_id 0""", ""),
]  # fmt: skip
"""Commands of the MNLI document in its order, what they share written once; a message where the document is wrong.

PKD is evaluated from an update on that it does not have: 98176 of 49088, here 3 of 2.
"""


def as_in_the_document(data: Path) -> None:
    """Write GLUE's tables as the corpus' own JSON lines, where the document puts them, and a row without a majority."""
    for split in SPLITS:
        header, *rows = (line.split("\t") for line in (data / "MNLI" / f"{split}.tsv").read_text("utf-8").splitlines())
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        lines.insert(3, json.dumps(json.loads(lines[0]) | {"gold_label": "-"}))
        (data / "mnli").mkdir(exist_ok=True)
        (data / "mnli" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.rmtree(data / "MNLI")


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVES["MNLI"] is None, reason="MNLI.zip is not at hand: set GLUE_MIRROR to its folder")
def test_every_command_of_the_mnli_document(tmp_path, monkeypatch, run, refused):
    """Its teacher `test` and its `teacher_base` are trained nowhere: both are the one that it fine-tunes."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fine_tune.run.preflight.judge", lambda *_: None)  # two updates make no teacher
    words = unpack(ARCHIVES["MNLI"], tmp_path / "data")
    as_in_the_document(tmp_path / "data" / "fine_tune")
    small = {"hidden_size": 192, "num_attention_heads": 12, "intermediate_size": 768}
    random_encoder(tmp_path / "bert-base-uncased", words, num_hidden_layers=12, **small)
    runs = tmp_path / "data" / "fine_tune_experiment"
    banks = {
        "run_fine_tune_contrast_distill": "build_membank.py",
        "run_layerwise_contrast_distill": "build_logitsbank.py",
    }
    for script, flags, told in MNLI:
        sizes = {"d_model": 192, "d_ff": 768, "batch_size": 16, "accum_step": 1, "membank_device": -1}
        steps = {"teacher_device": -1, "contrast_steps": 1 if "98176" in flags else 0, "src_ckpt": 2}
        given, line = cut_short(flags, **sizes, **steps, ckpt=3 if script == "run_fine_tune_eval" else 2)
        if told:
            assert told in refused(script, *line)
            continue
        if given.get("teacher_exp") == "test" and not (runs / "test_bert_mnli").is_dir():
            assert NOBODY in refused(script, *line)
            shutil.copytree(runs / "bert_base_teacher_bert_mnli", runs / "test_bert_mnli")
        if script in banks:
            assert f"make it with: python {banks[script]} --experiment test" in refused(script, *line)
            of = ("--experiment", "test", "--task", "mnli", "--ckpt", 2, "--device_id", -1)
            run("build_membank", *of, *["--layer_wise"] * ("layerwise" in script))
            if "layerwise" in script:
                run("build_logitsbank", *of)
        run(script, *line)
        folder = runs / f"{given['experiment']}_bert_mnli"
        left = {
            "run_fine_tune_eval": f"eval_{given.get('dataset')}.json", "build_logitsbank": "logitsbank-2.pt",
            "plot_CLS_embedding": "cls_dev_matched.png",
        }  # fmt: skip
        assert (folder / left.get(script, "model-2.pt")).is_file(), line
    assert len(torch.load(runs / "test_bert_mnli" / "logitsbank-2.pt", weights_only=True)["logitsbank"]) == ROWS["MNLI"]
    assert (runs / "test_bert_mnli" / "membank11.pt").is_file()

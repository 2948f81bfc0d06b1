"""Every command of the SST-2 document, one after the other, on real rows: as written, but for devices, steps, batches.

The encoder stands in for `bert-base-uncased`: of its size, with random weights and a vocabulary of the rows' own words,
in a folder of that name.
"""

import zipfile
from collections import Counter
from pathlib import Path

import pytest
import transformers
from test_archive import MIRRORS
from test_flags import DOCUMENT

SHORT = {
    "total_step": 2, "gate_total_step": 2, "warmup_step": 1, "gate_warmup_step": 1, "ckpt_step": 2, "log_step": 1,
    "tckpt": 2, "ckpt": 2, "batch_size": 4, "device_id": -1, "tdevice_id": -1, "gate_device_id": -1,
}  # fmt: skip
TRAINED = {"partial_LAD_0_42": "partial_LAD_5_42"}
"""The document evaluates a run that it does not train."""
ROWS = 50
"""Of every split."""
OWN = {"config.json", "run.json", "metrics.jsonl", "encoder.json", "tokenizer"}
GATES = {"lad": range(1, 12), "lad_user_defined": range(1, 12), "partial_lad": range(1, 10), "lad_no": range(1, 12, 2)}
"""0-based teacher layers that have a gate."""
ARCHIVE = next((folder / "SST-2.zip" for folder in MIRRORS if (folder / "SST-2.zip").is_file()), None)


def unpack(archive: Path, data: Path) -> list[str]:
    """Put the first real rows in place; gives the words of the training split, the most frequent first."""
    words: Counter[str] = Counter()
    with zipfile.ZipFile(archive) as zipped:
        for name in ("train", "dev", "test"):
            file = Path(zipped.extract(f"SST-2/{name}.tsv", data / "fine_tune"))
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[: 1 + ROWS]
            file.write_text("".join(lines), encoding="utf-8")
            words.update(" ".join(lines[1:]).split() if name == "train" else [])
    return [word for word, _ in words.most_common(1000)]


def base_size_encoder(folder: Path, words: list[str]) -> None:
    """Save a random BERT of 12 layers and width 768."""
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=512)
    tokenizer.save_pretrained(folder)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder)


def command(flags: str) -> dict[str, object]:
    """Read a command of the document, cut short."""
    words = flags.split()
    given = dict(zip((word[2:] for word in words[::2]), words[1::2], strict=True))
    given["experiment"] = TRAINED.get(given["experiment"], given["experiment"])
    return given | {name: value for name, value in SHORT.items() if name in given}


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason="SST-2.zip is not at hand: set GLUE_MIRROR to its folder")
def test_every_command_of_the_document_runs_and_leaves_its_files(tmp_path, monkeypatch, run):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fine_tune.run.preflight.judge", lambda *_: None)  # two updates make no teacher
    base_size_encoder(tmp_path / "bert-base-uncased", unpack(ARCHIVE, tmp_path / "data"))
    for name, (script, flags) in DOCUMENT.items():
        given = command(flags)
        run(script, *(word for flag, value in given.items() for word in (f"--{flag}", value)))
        folder = tmp_path / "data" / "fine_tune_experiment" / f"{given['experiment']}_bert_sst2"
        there = {file.name for file in folder.iterdir()}
        if script.startswith("run_fine_tune_eval"):
            split = given["dataset"]
            assert there >= {f"eval_{split}.json", f"prediction_{split}-2.tsv"}, name
        elif script == "generate_test_prediction":
            assert len((folder / "SST-2.tsv").read_text(encoding="utf-8").splitlines()) == 1 + ROWS
        else:
            files = OWN | {"model-2.pt"} | {f"gate-{layer}-2.pt" for layer in GATES.get(name, ())}
            assert there == files | ({"gate_config.json"} if name in GATES else set()), name

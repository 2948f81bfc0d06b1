"""Every command of the GloVe document, in order, on real rows: as written, but for epochs, samples and hub names.

Teachers of the three families are random and tiny, word vectors random, of 20 dimensions under the document's name.
"""

import random
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from test_archive import MIRRORS
from tokenizers import ByteLevelBPETokenizer

from fine_tune.path import PROJECT

BERT, ROBERTA, ELECTRA = (
    f"--config=configs/config-{kind}-cls.json --data_dir=data/sst2" for kind in ("bert", "roberta", "electra")
)
LARGE = "--bert_model_name_or_path=./embeddings/bert-large-uncased --bert_do_lower_case"
ROBERTA_LARGE = "--bert_model_name_or_path=./embeddings/roberta-large"
ELECTRA_LARGE = "--bert_model_name_or_path=./embeddings/electra-large-discriminator"
OUT, STILL = "--bert_output_dir=bert-checkpoint", "--use_transformers_optimizer --warmup_epoch=0 --weight_decay=0.0"
CNN, DENSE, DSA = (f"--config=configs/config-{kind}.json" for kind in ("glove-cnn", "densenet-cnn", "densenet-dsa"))
MORPH = "--data_dir=./data/clova_sentiments_morph"
DHA = "--bert_model_name_or_path=./embeddings/pytorch.all.dha.2.5m_step"
KOREAN_BERT = "--config=configs/config-bert-cls.json"
AUGMENT = "--input data/clova_sentiments/train.txt --output data/clova_sentiments_morph/augmented.raw"
COPY = "augmented.raw.pred"
ENGLISH = [
    f"preprocess.py {BERT} {LARGE}",
    f"train.py {BERT} {LARGE} {OUT} --lr=1e-5 --epoch=3 --batch_size=64",
    f"evaluate.py {BERT} {OUT}",
    f"preprocess.py {ROBERTA} {ROBERTA_LARGE}",
    f"train.py {ROBERTA} {ROBERTA_LARGE} {OUT} --lr=1e-5 --epoch=10 {STILL} --batch_size=64",
    f"evaluate.py {ROBERTA} {OUT}",
    f"preprocess.py {ELECTRA} {ELECTRA_LARGE} --bert_do_lower_case",
    f"train.py {ELECTRA} {ELECTRA_LARGE} {OUT} --lr=1e-6 --epoch=15 --lr_decay_rate=0.9 --batch_size=64 "
    "--bert_do_lower_case",
    f"evaluate.py {ELECTRA} {OUT}",
    "augment_data.py --input data/sst2/train.txt --output data/sst2/augmented.raw --lower --parallel",
    f"preprocess.py {BERT} {LARGE} --augmented",
    f"evaluate.py {BERT} {OUT} --batch_size=128 --augmented",
    f"preprocess.py {ELECTRA} {ELECTRA_LARGE} --bert_do_lower_case --augmented",
    f"evaluate.py {ELECTRA} {OUT} --batch_size=128 --augmented",
    # RoBERTa's rows have another mask; they replace the others' when the user says so.
    "augment_data.py --input data/sst2/train.txt --output data/sst2/augmented.raw --mask_token='<mask>' --lower "
    "--parallel --overwrite",
    f"preprocess.py {ROBERTA} {ROBERTA_LARGE} --augmented",
    f"evaluate.py {ROBERTA} {OUT} --batch_size=128 --augmented",
    f"cp data/sst2/{COPY}",
    f"preprocess.py {DENSE} --data_dir=data/sst2 --augmented",
    f"train.py {CNN} --data_dir=data/sst2 --lr=1e-3 {STILL} --save_path=pytorch-model-cnn.pt --augmented",
    f"evaluate.py {CNN} --data_dir=data/sst2 --model_path=pytorch-model-cnn.pt",
    f"preprocess.py {DENSE} --data_dir=data/sst2 --augmented",
    f"train.py {DENSE} --data_dir=data/sst2 {STILL} --save_path=pytorch-model-densenet.pt --augmented",
    f"evaluate.py {DENSE} --data_dir=data/sst2 --model_path=pytorch-model-densenet.pt",
    f"preprocess.py {DSA} --data_dir=data/sst2 --augmented",
    f"train.py {DSA} --data_dir=data/sst2 {STILL} --save_path=pytorch-model-densenet.pt --augmented",
    f"evaluate.py {DSA} --data_dir=data/sst2 --model_path=pytorch-model-densenet.pt",
]
KOREAN = [
    f"preprocess.py {KOREAN_BERT} {DHA} {MORPH}",
    f"train.py {KOREAN_BERT} {DHA} {OUT} --lr=2e-5 --epoch=30 --batch_size=64 {MORPH} {STILL}",
    f"evaluate.py {KOREAN_BERT} --data_dir=data/clova_sentiments_morph {OUT}",
    f"augment_data.py {AUGMENT} --analyzer=khaiii --n_iter=2 --max_ng=2 --parallel",
    f"augment_data.py {AUGMENT} --analyzer=npc --n_iter=2 --max_ng=2 --parallel",
    f"augment_data.py {AUGMENT} --analyzer=kiwi --n_iter=2 --max_ng=2 --parallel",  # in the place of both
    f"preprocess.py {KOREAN_BERT} {DHA} {MORPH} --augmented",
    f"evaluate.py {KOREAN_BERT} --data_dir=data/clova_sentiments_morph {OUT} --batch_size=128 --augmented",
    f"cp ./data/clova_sentiments_morph/{COPY}",
    f"preprocess.py {DENSE} --data_dir=data/clova_sentiments_morph --embedding_path=embeddings/kor.glove.300k.300d.txt "
    "--augmented",
    f"train.py {DENSE} --data_dir=data/clova_sentiments_morph --lr_decay_rate=0.9 "
    "--save_path=pytorch-model-densenet.pt --augmented --measure=accuracy",
    f"evaluate.py {DENSE} {MORPH} --model_path=pytorch-model-densenet.pt",
]
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def test_all_commands_of_the_document_are_here():
    scripts = [line for line in ENGLISH + KOREAN if not line.startswith("cp ") and "--analyzer=kiwi" not in line]
    assert len(scripts) == 36


def archive(name: str) -> Path | None:
    return next((folder / name for folder in MIRRORS if (folder / name).is_file()), None)


def cut(command: str) -> tuple[str, list[str]]:
    """Cut a command short: one epoch, two samples, the CPU, tokens without a tagger where there is none."""
    script, *words = shlex.split(command)
    given = [word for word in words if not word.startswith(("--epoch=", "--batch_size=64"))]
    if script == "train.py":
        given += ["--epoch=1", "--device=cpu", "--batch_size=32"]
    if script == "evaluate.py":
        given += ["--device=cpu"]
    if script == "augment_data.py" and "data/sst2/train.txt" in command:
        pytest.importorskip("numpy")
        given += ["--n_iter=2"] + ([] if has("spacy") else ["--no_analyzer"])
    return script.removesuffix(".py"), given


def has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def save_encoder(folder: Path, config: transformers.PreTrainedConfig, texts: list[str]) -> None:
    """Write a random encoder and a tokenizer of the texts' words, or RoBERTa's pieces of bytes."""
    folder.mkdir(parents=True)
    if config.model_type == "roberta":
        pieces = ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        pieces.train_from_iterator(texts, vocab_size=config.vocab_size, special_tokens=special, show_progress=False)
        pieces.save_model(str(folder))
        tokenizer = transformers.RobertaTokenizerFast(
            vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
        )
    else:
        words = sorted({word for text in texts for word in text.split()})
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run_all(commands: list[str], run, capsys, refused) -> dict[str, str]:
    """Run commands; give what each logged, the accuracy lines of `evaluate.py` among it."""
    told = {}
    for command in commands:
        if command.startswith("cp "):
            source = Path(command.split()[1])
            shutil.copyfile(source, source.with_name("augmented.txt"))
            continue
        script, words = cut(command)
        if "khaiii" in command or "npc" in command:
            assert "kiwi" in refused(f"glove_student.{script}", *words)
            continue
        capsys.readouterr()
        run(f"glove_student.{script}", *words)
        told[command] = capsys.readouterr().err
    return told


def check_scores(told: dict[str, str], rows: int) -> None:
    """Every scoring command tells the document's three lines."""
    scored = {command: text for command, text in told.items() if command.startswith("evaluate.py")}
    for command, text in scored.items():
        lines = [line for line in text.splitlines() if line.startswith("INFO:__main__:")]
        if "--augmented" in command:
            assert lines == []
            continue
        assert lines[0].startswith("INFO:__main__:[Accuracy] : 0.") and lines[0].endswith(f"/{rows:5d}")
        assert lines[1].startswith("INFO:__main__:[Elapsed Time] : ") and lines[1].endswith("ms on average")
        assert lines[2].startswith("INFO:__main__:[Elapsed Time(total_duration_time, average)] : ")
        assert len(lines) == 3


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder in the place of `glove_student`, with its configurations."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data_dir"))
    folder = tmp_path / "glove_student"
    folder.mkdir()
    (folder / "configs").symlink_to(PROJECT / "glove_student" / "configs")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(archive("SST-2.zip") is None, reason="SST-2.zip is not at hand: set GLUE_MIRROR to its folder")
def test_the_english_commands(project, run, capsys, refused):
    with zipfile.ZipFile(archive("SST-2.zip")) as zipped:
        train, dev = (zipped.read(f"SST-2/{name}.tsv").decode().splitlines()[1:] for name in ("train", "dev"))
    rows = {"train": random.Random(0).sample(train, 200), "valid": dev[:40], "test": dev[40:80]}
    (project / "data" / "sst2").mkdir(parents=True)
    for name, lines in rows.items():
        (project / "data" / "sst2" / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts = [line.split("\t")[0] for line in rows["train"]]
    for name, config in {
        "bert-large-uncased": transformers.BertConfig(**TINY),
        "roberta-large": transformers.RobertaConfig(
            **TINY, vocab_size=500, max_position_embeddings=130, type_vocab_size=1
        ),
        "electra-large-discriminator": transformers.ElectraConfig(**TINY, embedding_size=8),
    }.items():
        save_encoder(project / "embeddings" / name, config, texts)
    words = sorted({word for text in texts for word in text.split()})
    numbers = np.random.default_rng(0).normal(size=(len(words), 20))
    lines = (f"{word} {' '.join(f'{x:.4f}' for x in row)}\n" for word, row in zip(words, numbers, strict=True))
    (project / "embeddings" / "glove.6B.300d.txt").write_text("".join(lines), encoding="utf-8")

    told = run_all(ENGLISH, run, capsys, refused)
    check_scores(told, 40)
    folder = project / "data" / "sst2"
    made = {"label.txt", "vocab.txt", "embedding.npy", "augmented.txt.ids", "valid.txt.ids", "test.txt.ids"}
    made |= {"train.txt.fs", "augmented.raw.fs", "augmented.raw.pred", "test.txt.pred", "augmented.raw"}
    assert {path.name for path in folder.iterdir()} >= made
    for teacher in ("bert-large-uncased", "roberta-large", "electra-large-discriminator"):
        assert (folder / f"augmented.raw.{teacher}.pred").is_file()  # no teacher replaced another's
        assert list((project / "bert-checkpoint").glob(f"{teacher}-*/model.safetensors"))
    labels = (folder / "augmented.txt").read_text(encoding="utf-8").splitlines()
    first = labels[0].split("\t")
    assert first[0] == texts[0].strip() and all(len(word.split(".")[1]) == 6 for word in first[1].split(" "))
    assert len((folder / "test.txt.pred").read_text(encoding="utf-8").splitlines()) == 40
    for student in ("pytorch-model-cnn.pt", "pytorch-model-densenet.pt"):
        assert "encoder.words.weight" in torch.load(project / student, weights_only=True)
    # Two students under one name: both are there, the name is the last one's.
    assert len(list((project / "pytorch-model-densenet.runs").glob("densenet-*/run/model-*.pt"))) == 2
    transformers.AutoModel.from_pretrained(project / "bert-checkpoint" / "roberta")


@pytest.mark.slow
@pytest.mark.skipif(not has("kiwipiepy") or not has("gensim"), reason="needs: pip install -r requirements-glove.txt")
@pytest.mark.skipif(archive("clova_sentiments.zip") is None, reason="clova_sentiments.zip is not at hand")
def test_the_korean_commands(project, run, capsys, refused):
    small = project.parent / "clova_sentiments.zip"
    with zipfile.ZipFile(archive(small.name)) as zipped, zipfile.ZipFile(small, "w") as cut_zip:
        for name in zipped.namelist():
            lines = zipped.read(name).decode().splitlines(keepends=True)[:60]
            cut_zip.writestr(name, "".join(lines))
    sizes = ("--width", 16, "--layers", 2, "--heads", 2, "--pieces", 900, "--word_dimension", 20)
    sizes += ("--word_count", 1)  # of 60 rows, most morphemes occur once
    run("glove_student.prepare_korean", "--source", small, "--folder", project, *sizes)
    check_scores(run_all(KOREAN, run, capsys, refused), 60)

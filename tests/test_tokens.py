"""Tests of students that are not made like their teacher: other tokens, another architecture."""

import json

import pytest
import torch
import transformers
from conftest import SIZES, VOCABULARY, WORDS, make_encoder

from fine_tune.data.batches import updates
from fine_tune.data.tokens import load_split, load_tokenizer
from fine_tune.tasks.table import TASKS

QUICK = ("--task", "sst2", "--device_id", -1, "--batch_size", 8, "--log_step", 1, "--total_step", 4, "--warmup_step", 1)
TAUGHT = (*QUICK, "--teacher_exp", "teacher", "--dropout", 0)
RANDOM = ("--student_init", "random")
SLOW = [pytest.param(script, marks=pytest.mark.slow) for script in ("run_kd_distil", "run_pkd_distill")]


@pytest.fixture
def other(tmp_path):
    """Folder of an encoder with other tokens: the words in another order, some of them cut in two."""
    folder = tmp_path / "other"
    make_encoder(folder, transformers.BertConfig(**SIZES | {"vocab_size": len(VOCABULARY) + 1}))
    words = [word for word in reversed(WORDS) if word != "boring"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "bor", "##ing"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)
    assert len(tokenizer) == len(VOCABULARY) + 1 and tokenizer.tokenize("boring film") == ["bor", "##ing", "film"]
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_each_is_fed_its_own_tokens(data, run, teacher, other, monkeypatch):
    """The teacher says of every row what it says where it alone reads; the student's run is scored with its tokens."""
    from fine_tune.teacher.live import LiveTeacher

    heard, plain = {}, LiveTeacher.__call__

    def listen(self, batch):
        out = plain(self, batch)
        heard.setdefault(len(heard), (batch.rows, batch.student["input_ids"], batch.teacher["input_ids"], out.logits))
        return out

    with monkeypatch.context() as patch:
        patch.setattr(LiveTeacher, "__call__", listen)
        run("run_kd_distil", "--experiment", "s", *TAUGHT, "--tokenizer", other)
    assert len(heard) == 4
    state = data.state("s", 4)["encoder.embeddings.word_embeddings.weight"]
    assert len(state) == len(VOCABULARY) + 1 and data.config("s")["tokenizer"] == other
    run("run_fine_tune_gen_logits", "--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    lines = (teacher / "sst2-distill.jsonl").read_text(encoding="utf-8").splitlines()
    for rows, mine, its, logits in heard.values():
        assert torch.equal(logits, torch.tensor([json.loads(lines[row])["logits"] for row in rows]))
        assert mine.shape[0] == its.shape[0] and not torch.equal(mine[:, :3], its[:, :3])
    run("run_fine_tune_eval", "--experiment", "s", "--task", "sst2", "--device_id", -1)
    assert json.loads((data.run("s") / "eval_dev.json").read_text(encoding="utf-8"))["rows"] == 8


@pytest.mark.slow
def test_the_teachers_embeddings_are_not_copied_to_other_tokens(data, run, teacher, other, capsys):
    run("run_kd_distil", "--experiment", "s", *TAUGHT, "--tokenizer", other, "--lr", 1e-12)
    assert "embeddings  random" in capsys.readouterr().out
    run("run_kd_distil", "--experiment", "own", *TAUGHT, "--tokenizer", other, "--lr", 1e-12, "--ptrain_ver", other,
        "--init_from", "pretrained")  # fmt: skip
    words = transformers.AutoModel.from_pretrained(other).embeddings.word_embeddings.weight
    torch.testing.assert_close(data.state("own", 4)["encoder.embeddings.word_embeddings.weight"], words)
    assert not torch.allclose(data.state("s", 4)["encoder.embeddings.word_embeddings.weight"], words)


@pytest.mark.parametrize(("script", "flags"), [
    ("run_pkd_distill", ("--pkd_exp", "pkd-skip")),
    pytest.param("run_alp_distil", ("--alp_exp", "alp-kd"), marks=pytest.mark.slow),
    pytest.param("run_probing_lad", ("--probing_exp", "lad_cls"), marks=pytest.mark.slow),
])  # fmt: skip
def test_methods_that_match_cls_take_both_tokens(script, flags, data, run, teacher, other):
    run(script, "--experiment", "s", *TAUGHT, *flags, "--tokenizer", other)
    assert len(data.metrics("s")) == 4


@pytest.mark.parametrize("script", [*SLOW[1:], "run_lad_distil", "run_fine_tune_distill_mgpu"])
def test_methods_that_match_all_tokens_refuse_other_tokens(script, data, refused, teacher, other):
    flags = ("--use_hidden_loss",) * script.endswith("mgpu")
    told = refused(script, "--experiment", "s", *TAUGHT, "--tokenizer", other, *flags)
    assert told.startswith("--tokenizer: ") and "matches all tokens, and the student's are not the teacher's" in told


def test_each_is_padded_to_its_own_length(data, encoder, other):
    """With `--pad_to_max`: neither loses its last tokens."""
    mine, its = (load_split(TASKS["sst2"], "train", load_tokenizer(name), length)
                 for name, length in ((encoder, 12), (other, 24)))  # fmt: skip
    (batch,) = next(updates(mine, its, batch_size=4, seed=1, pad_to=12))
    assert batch.student["input_ids"].shape == (4, 12) and batch.teacher["input_ids"].shape == (4, 24)
    assert all((row == 3).sum() == 1 for row in batch.teacher["input_ids"])  # [SEP]


@pytest.mark.slow
def test_the_teachers_tokenizer_under_another_name_is_no_other(data, run, teacher, encoder):
    run("run_lad_distil", "--experiment", "s", *TAUGHT, "--tokenizer", encoder)
    run("run_lad_distil", "--experiment", "plain", *TAUGHT)
    assert data.metrics("s") == data.metrics("plain")


@pytest.mark.slow
def test_banks_of_a_teacher_with_other_tokens_are_read(data, run, teacher, other):
    of = ("--experiment", "teacher", "--task", "sst2", "--dataset", "train", "--device_id", -1)
    run("build_membank", *of, "--layer_wise")
    run("build_logitsbank", *of)
    run("run_layerwise_contrast_distill", "--experiment", "s", *TAUGHT, "--tokenizer", other, "--neg_num", 3)
    assert len(data.metrics("s")) == 4


@pytest.mark.parametrize("script", [*SLOW, "run_lad_distil"])
def test_an_albert_learns_from_a_bert(script, data, run, teacher):
    run(script, "--experiment", "s", *TAUGHT, "--model", "albert", "--d_emb", 8, *RANDOM)
    state = torch.load(data.run("s", model="albert") / "model-4.pt", weights_only=True)
    assert state["encoder.embeddings.word_embeddings.weight"].shape == (len(VOCABULARY), 8)
    assert sum("albert_layers" in name and "query.weight" in name for name in state) == 1
    run("run_fine_tune_eval", "--experiment", "s", "--model", "albert", "--task", "sst2", "--device_id", -1)


@pytest.mark.slow
def test_a_bert_learns_from_an_albert(data, run, albert):
    run("run_fine_tune", "--experiment", "a", "--model", "albert", "--ptrain_ver", albert, *QUICK, "--max_seq_len", 24)
    flags = ("--teacher_exp", "a", "--tmodel", "albert", *RANDOM)
    run("run_pkd_distill", "--experiment", "s", *QUICK, *flags)
    assert data.state("s", 4)["encoder.embeddings.word_embeddings.weight"].shape == (len(VOCABULARY), 16)
    run("run_kd_distil", "--experiment", "aa", *QUICK, *flags, "--model", "albert")
    assert data.config("aa", model="albert")["d_emb"] == 128


@pytest.mark.parametrize(("flags", "told"), [
    (("--model", "albert"), "--model albert: its layers share one set of weights, so none are copied; use"),
    (("--d_emb", 8), "--d_emb 8: a BERT's embeddings are as wide as its states; leave it out"),
    (("--tokenizer", "/nowhere"), "no tokenizer '/nowhere'"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused(flags, told, data, refused, teacher):
    assert told in refused("run_kd_distil", "--experiment", "s", *TAUGHT, *flags)

"""Shared fixtures: a tiny random BERT, tiny data in the official formats, scripts run in process; no downloads."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import importlib
import json
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the process that only hands out tests needs neither
    import torch
    import transformers

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, like the next, in the background of a shell script
signal.signal(signal.SIGHUP, signal.SIG_DFL)

GOOD = "good great fine warm funny bright clever lovely moving sharp".split()
BAD = "bad dull poor cold boring flat silly ugly empty slow".split()
OTHER = (
    "the a this that film movie story plot actor scene music end is was and but very so rather not it he she they who "
    "what why how did do like love hate see ."
).split()
WORDS = [*GOOD, *BAD, *OTHER]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
MNLI_HEADER = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\t"
    "sentence1\tsentence2"
)
STSB_HEADER = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
LABELS = {"mnli": ("entailment", "neutral", "contradiction"), "pair": ("entailment", "not_entailment")}


def sentence(seed: int, most: int = 12) -> str:
    """Draw a sentence of 2 to `most` words; an even seed gives a good one, an odd seed a bad one."""
    draw = random.Random(seed)
    words = [draw.choice(OTHER) for _ in range(draw.randint(1, most - 1))]
    words.insert(draw.randint(0, len(words)), draw.choice(BAD if seed % 2 else GOOD))
    return " ".join(words)


def make_encoder(folder: Path, config: "transformers.PreTrainedConfig") -> str:
    """Save a random encoder and a BERT tokenizer into `folder`."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64)
    assert len(tokenizer) == len(VOCABULARY)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


SIZES = {
    "vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 64,
}  # fmt: skip


QUICK_CASES = {
    "test_a_run_cut_three_times_ends_as_an_uncut_one": 0,
    "test_a_killed_and_a_stopped_run_end_as_an_uncut_one": 0,
    "test_a_wrong_run_is_refused_before_it_leaves_anything": 1,
    "test_a_sound_teacher_is_never_refused": 4,
    "test_a_table_that_cannot_be_meant_is_named": 3,
    "test_every_task_goes_the_whole_way": 1,
    "test_the_hidden_loss_is_the_sum_over_layers": 0,
    "test_damaged_tables_are_read_or_refused": 1,
    "test_what_is_read_is_what_the_live_teacher_says": 2,
    "test_processes_and_chunks_change_nothing": 2,
    "test_damaged_vectors": 0,
    "test_a_sentences_outputs_do_not_depend_on_its_batch_to_the_last_bit": 1,
    "test_accumulated_micro_batches_have_the_gradient_of_the_whole": 2,
    "test_one_backward_pass_equals_one_per_term_and_layer": 2,
    "test_layerwise_contrast_is_the_reference_on_the_banks": 0,
    "test_predictions_do_not_depend_on_the_batch_size": 2,
    "test_archives_of_any_kind_are_unpacked_or_refused": 0,
    "test_tables_in_any_encoding_are_read_as_they_are_meant_or_refused": 0,
    "test_correlations_are_those_of_the_rows_that_were_drawn": 0,
    "test_predictions_stand_under_the_ids_of_the_file": 0,
    "test_lad_writes_exactly_these_files": 1,
    "test_ngrams_have_the_rate_the_lengths_and_the_places_they_should": 0,
    "test_every_cell_trains_and_resumes": 2,
    "test_every_method_learns_own_rows": 2,
    "test_a_classifier_and_its_import_and_its_export_say_the_same": 2,
    "test_transformers_reads_the_folder_and_says_the_same": 1,
    "test_a_damaged_export_is_refused_in_one_line": 1,
    "test_a_run_is_scored_predicted_and_drawn_without_its_task_file": 0,
    "test_a_file_is_answered_in_its_order": 1,
    "test_pairs_and_numbers": 0,
    "test_damaged_zips_are_refused_or_still_sound": 0,
    "test_products_by_onednn_change_nothing_but_rounding": 0,
    "test_a_student_of_all_layers_starts_as_its_teacher": 2,
    "test_half_precision_is_near_and_learns": 1,
    "test_layers_are_recomputed_or_it_is_said_that_they_cannot_be": 1,
    "test_a_label_of_another_task_is_refused": 2,
    "test_a_score_out_of_range_or_no_number_is_refused": 1,
    "test_a_wrong_header_is_refused": 2,
    "test_other_columns_are_refused": 2,
    "test_an_unusual_packing_is_refused": 1,
    "test_all_tokens_of_another_tokenizer_are_refused_and_logits_learned": 0,
    "test_a_split_from_the_command_line_is_that_of_later_runs": 0,
    "test_a_test_split_with_labels_is_scored_and_one_that_is_missing_refused": 0,
    "test_what_cannot_be_a_teacher_is_refused_and_leaves_nothing": 2,
    "test_a_copy_that_would_mean_nothing_is_refused": 1,
    "test_two_tasks_of_one_name_are_refused_with_both": 0,
    "test_huggingfaces_flags_write_the_same_task": 0,
    "test_what_looks_wrong_is_told_before_the_start": 1,
    "test_augmented_rows_are_written_into_the_data_folder": 0,
    "test_the_cache_follows_the_content_not_the_path": 0,
    "test_other_logits_are_refused_and_the_older_export_is_kept": 0,
    "test_nothing_in_the_folder_knows_this_machine_and_all_may_read_it": 0,
    "test_a_folder_that_is_there_is_kept": 0,
    "test_a_file_is_written_whole_and_never_over_another": 0,
    "test_operations_are_those_that_torch_counts": 1,
    "test_counts_of_words_do_not_tell_the_label": 0,
}
"""Of these tests only so many cases, the first, are in the fast set; others there look at the same code."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the other cases as slow."""
    seen: dict[str, int] = {}
    for item in items:
        name = item.name.partition("[")[0]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > QUICK_CASES.get(name, len(items)):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def libraries() -> None:
    """Torch on one thread, transformers silent."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random BERT: 4 layers, width 16, 2 heads, feed-forward 32, 64 positions, 60 tokens."""
    import transformers

    return make_encoder(tmp_path_factory.mktemp("encoder") / "bert", transformers.BertConfig(**SIZES))


@pytest.fixture(scope="session")
def albert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random ALBERT of the same sizes and vocabulary."""
    import transformers

    config = transformers.AlbertConfig(**SIZES, embedding_size=8, pad_token_id=0, bos_token_id=2, eos_token_id=3)
    return make_encoder(tmp_path_factory.mktemp("encoder") / "albert", config)


def labelled(task: str, row: int) -> str:
    """Write row `row` of a labelled split in the task's own format."""
    one, two, binary, pair = sentence(2 * row + row % 2), sentence(100 + row), row % 2, LABELS["pair"][row % 2]
    return {
        "sst2": f"{one} \t{binary}",
        "sample": f"{one}\t{binary}",
        "qnli": f"{row}\t{one}\t{two}\t{pair}",
        "rte": f"{row}\t{one}\t{two}\t{pair}",
        "mnli": f"{row}\t{row}\t{row}n\tfiction\t(a)\t(b)\t(A)\t(B)\t{one}\t{two}\tneutral\t{LABELS['mnli'][row % 3]}",
        "boolq": json.dumps({"question": two, "passage": one, "idx": row, "label": bool(binary)}),
        "mrpc": f"{binary}\t{row}\t{row + 1}\t{one}\t{two}",
        "qqp": f"{row}\t{row}\t{row + 1}\t{one}\t{two}\t{binary}",
        "cola": f"gj04\t{binary}\t{'' if binary else '*'}\t{one}",
        "stsb": f"{row}\tcaptions\tMSRvid\t2012\t{row}\tnone\tnone\t{one}\t{two}\t{row % 6 * 0.9:.3f}",
    }[task]


def unlabelled(task: str, row: int) -> str:
    """Write row `row` of a test split in the task's own format."""
    one, two = sentence(300 + row), sentence(400 + row)
    return {
        "sst2": f"{row}\t{one}",
        "sample": f"{row}\t{one}",
        "cola": f"{row}\t{one}",
        "qnli": f"{row}\t{one}\t{two}",
        "rte": f"{row}\t{one}\t{two}",
        "qqp": f"{row}\t{one}\t{two}",
        "mnli": f"{row}\t{row}\t{row}n\tfiction\t(a)\t(b)\t(A)\t(B)\t{one}\t{two}",
        "boolq": json.dumps({"question": two, "passage": one, "idx": row}),
        "mrpc": f"{row}\t{row}\t{row + 1}\t{one}\t{two}",
        "stsb": f"{row}\tcaptions\tMSRvid\t2012\t{row}\tnone\tnone\t{one}\t{two}",
    }[task]


HEADERS = {
    "sst2": ("sentence\tlabel", "index\tsentence"),
    "sample": ("sentence\tlabel", "index\tsentence"),
    "qnli": ("index\tquestion\tsentence\tlabel", "index\tquestion\tsentence"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "index\tsentence1\tsentence2"),
    "mnli": (f"{MNLI_HEADER}\tlabel1\tgold_label", MNLI_HEADER),
    "boolq": (None, None),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "\ufeffindex\t#1 ID\t#2 ID\t#1 String\t#2 String"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "id\tquestion1\tquestion2"),
    "cola": (None, "index\tsentence"),
    "stsb": (f"{STSB_HEADER}\tscore", STSB_HEADER),
}


def write_task(data_dir: Path, task: str, train: int = 8, dev: int = 8, test: int = 6) -> None:
    """Write every split of a task in its real format."""
    from fine_tune.tasks.table import TASKS

    entry = TASKS[task]
    folder = data_dir / "fine_tune" / entry.folder
    folder.mkdir(parents=True)
    for number, split in enumerate(entry.splits):
        known = entry.is_labelled(split)
        count = train if split == "train" else dev if known else test
        header = HEADERS[task][0 if known else 1]
        start = 0 if split == "train" else 24 + 8 * number
        rows = [labelled(task, start + row) if known else unlabelled(task, row) for row in range(count)]
        text = "\n".join([header] * bool(header) + rows) + "\n"
        (folder / f"{split}.{entry.suffix}").write_text(text, encoding="utf-8")


class Data:
    """A data folder: `root`, its experiments, and a writer for every task."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, task: str, **rows: int) -> None:
        write_task(self.root, task, **rows)

    def file(self, name: str) -> Path:
        return self.root / "fine_tune" / name

    def run(self, experiment: str, task: str = "sst2", model: str = "bert") -> Path:
        return self.root / "fine_tune_experiment" / f"{experiment}_{model}_{task}"

    def config(self, experiment: str, task: str = "sst2", name: str = "config.json", model: str = "bert") -> Any:
        return json.loads((self.run(experiment, task, model) / name).read_text(encoding="utf-8"))

    def metrics(self, experiment: str, task: str = "sst2") -> list[dict[str, float]]:
        lines = (self.run(experiment, task) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def state(self, experiment: str, step: int, task: str = "sst2") -> "dict[str, torch.Tensor]":
        import torch

        return torch.load(self.run(experiment, task) / f"model-{step}.pt", weights_only=True)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    """DATA_DIR of one test, with an SST-2 of 24 train, 8 dev and 6 test rows."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    write_task(tmp_path, "sst2", train=24)
    return Data(tmp_path)


def call(script: str, *argv: object) -> None:
    """Run a script's main in process."""
    importlib.import_module(script).main([str(word) for word in argv])


@pytest.fixture(scope="module")
def shipped(tuned, tmp_path_factory):
    """Data folder in which the tuned teacher is exported in all forms."""
    root = tmp_path_factory.mktemp("shipped")
    shutil.copytree(tuned, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(root))
        call("export_model", "--experiment", "teacher", "--task", "sst2", "--int8", "--max_loss", 1)
    return Data(root)


@pytest.fixture
def run() -> Callable[..., None]:
    """`run("run_fine_tune", "--experiment", ..)` runs a script's main in process."""
    return call


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused("run_fine_tune", ..)` checks that a script ends with exit code 2 and one line, which it returns."""

    def check(script: str, *argv: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            call(script, *argv)
        assert end.value.code == 2
        message = capsys.readouterr().err.split(": error: ", 1)[1].strip()
        assert "\n" not in message
        return message

    return check


@pytest.fixture(scope="session")
def tuned(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data folder with a teacher `teacher` of SST-2, fine-tuned for 4 steps (checkpoints 2 and 4)."""
    root = tmp_path_factory.mktemp("tuned")
    write_task(root, "sst2", train=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(root))
        call(
            "run_fine_tune", "--experiment", "teacher", "--task", "sst2", "--ptrain_ver", encoder, "--max_seq_len", 24,
            "--total_step", 4, "--warmup_step", 1, "--batch_size", 8, "--lr", 5e-2, "--log_step", 1, "--ckpt_step", 2,
            "--device_id", -1, "--dropout", 0,
        )  # fmt: skip
    return root


@pytest.fixture
def teacher(data: Data, tuned: Path) -> Path:
    """Folder of a copy of the tuned teacher in this test's data folder."""
    folder = data.run("teacher")
    shutil.copytree(tuned / "fine_tune_experiment" / folder.name, folder)
    return folder


@pytest.fixture(autouse=True)
def clean_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pytest's own arguments out of what scripts record."""
    monkeypatch.setattr(sys, "argv", ["test"])


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: no test cuts the power. `torture.py` waits."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random numbers."""
    import torch

    torch.manual_seed(0)

"""Tests of metrics, predictions, submission files and the ranking of checkpoints."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fine_tune.data.tokens import Split, load_split, load_tokenizer
from fine_tune.losses import hard_target_loss
from fine_tune.model.classifier import Classifier
from fine_tune.model.encoder import pretrained_encoder
from fine_tune.path import log_dir
from fine_tune.scores.metrics import best_checkpoints, decide, score
from fine_tune.scores.predict import predict, save_prediction, save_submission
from fine_tune.tasks.table import TASKS

CPU = torch.device("cpu")


def random_split(task, count=200, labelled=True):
    """A split without texts, with random labels."""
    draw = np.random.default_rng(7)
    label = (
        draw.uniform(0, 5, count).astype(np.float32) if task.regression else draw.integers(task.num_class, size=count)
    )
    ids = np.array([str(row) for row in range(count)])
    empty = np.zeros(0)
    return Split(task, "dev", ids, label if labelled else None, empty, empty, np.zeros(count + 1), 0, 24, "key")


@pytest.mark.parametrize("name", list(TASKS))
def test_scores_are_those_of_sklearn_and_scipy(name):
    task = TASKS[name]
    split, logits = random_split(task), 3 * torch.randn(200, task.num_class)
    got, gold = score(split, logits), split.label
    guess = logits[:, 0].numpy() if task.regression else logits.argmax(1).numpy()
    if task.regression:
        loss = sk.mean_squared_error(gold, guess)
        want = {"pearson": stats.pearsonr(gold, guess).statistic, "spearman": stats.spearmanr(gold, guess).statistic}
    else:
        loss = sk.log_loss(gold, torch.softmax(logits.double(), 1).numpy())
        want = {"accuracy": sk.accuracy_score(gold, guess)}
    if name in ("mrpc", "qqp"):
        want["f1"] = sk.f1_score(gold, guess)
    if name == "cola":
        want["matthews"] = sk.matthews_corrcoef(gold, guess)
    assert got == pytest.approx(want | {"loss": loss}, rel=1e-5)


def test_the_deciding_metric_comes_first():
    first = {name: task.metrics[0] for name, task in TASKS.items()}
    assert first == dict.fromkeys(TASKS, "accuracy") | {"cola": "matthews", "stsb": "pearson"}


@pytest.mark.parametrize("name", ["cola", "stsb", "mrpc"])
def test_a_constant_prediction_has_a_score_of_zero(name):
    task = TASKS[name]
    logits = torch.tensor([[1.0, 0.0][: task.num_class]]).expand(200, -1)
    got = score(random_split(task), logits)
    assert all(got[metric] == 0 for metric in task.metrics if metric != "accuracy")


def test_a_split_without_labels_cannot_be_scored():
    with pytest.raises(ValueError, match="labels of this split of sst2 are not public"):
        score(random_split(TASKS["sst2"], labelled=False), torch.zeros(200, 2))


@pytest.fixture
def scored(data, encoder):
    """A classifier and 24 rows."""
    model = Classifier(pretrained_encoder(encoder), 2, 0.5)
    return model, load_split(TASKS["sst2"], "train", load_tokenizer(encoder), 24)


def test_predictions_come_in_the_order_of_the_file(scored):
    model, rows = scored
    model.train()
    logits = predict(model, rows, 5, CPU)
    assert not model.training and not logits.requires_grad
    one_by_one = torch.cat([model(**rows.inputs(np.array([row]))).logits for row in range(24)])
    torch.testing.assert_close(logits, one_by_one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 24, 100])
def test_predictions_do_not_depend_on_the_batch_size(scored, size):
    torch.testing.assert_close(predict(*scored, size, CPU), predict(*scored, 5, CPU), rtol=1e-5, atol=1e-6)


def test_a_prediction_table_holds_ids_labels_and_logits(tmp_path):
    task = TASKS["sst2"]
    split, logits = random_split(task, 3), torch.tensor([[0.5, -1.0], [0.0, 2.0], [1.0, 0.0]])
    save_prediction(tmp_path / "table.tsv", split, logits)
    lines = [line.split("\t") for line in (tmp_path / "table.tsv").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == ["id", "label", "prediction", "logit_0", "logit_1"]
    assert lines[2] == ["1", str(split.label[1]), "1", "0.0", "2.0"]
    save_prediction(tmp_path / "table.tsv", random_split(task, 3, labelled=False), logits)
    assert (tmp_path / "table.tsv").read_text(encoding="utf-8").startswith("id\tprediction\tlogit_0")


WORDS = {
    "sst2": "0 1", "cola": "0 1", "mrpc": "0 1", "qqp": "0 1", "sample": "0 1", "qnli": "entailment not_entailment",
    "rte": "entailment not_entailment", "mnli": "entailment neutral contradiction",
}  # fmt: skip


@pytest.mark.parametrize("name", list(WORDS))
def test_a_submission_has_glues_header_and_label_words(tmp_path, name):
    task, words = TASKS[name], WORDS[name].split()
    logits = torch.eye(task.num_class).flip(0)
    save_submission(tmp_path / "x.tsv", random_split(task, task.num_class, labelled=False), logits)
    want = ["index\tprediction"] + [f"{row}\t{word}" for row, word in enumerate(reversed(words))]
    assert (tmp_path / "x.tsv").read_text(encoding="utf-8") == "\n".join(want) + "\n"


def test_a_submission_of_stsb_is_clipped(tmp_path):
    logits = torch.tensor([[-0.5], [2.3456], [5.5], [0.0], [5.0]])
    save_submission(tmp_path / "x.tsv", random_split(TASKS["stsb"], 5, labelled=False), logits)
    values = [line.split("\t")[1] for line in (tmp_path / "x.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert values == ["0.000", "2.346", "5.000", "0.000", "5.000"]
    assert decide(TASKS["stsb"], logits).tolist() == pytest.approx([0, 2.3456, 5, 0, 5])


def test_a_submission_of_boolq_is_superglues_json(tmp_path):
    split = random_split(TASKS["boolq"], 2, labelled=False)
    split.row_id = np.array(["5", "3"])
    save_submission(tmp_path / "x.jsonl", split, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [{"idx": 5, "label": "true"}, {"idx": 3, "label": "false"}]


def test_submission_files_have_the_servers_names():
    names = {name: [file for _, file in task.submission] for name, task in TASKS.items()}
    assert names == {
        "sst2": ["SST-2.tsv"], "qnli": ["QNLI.tsv"], "mnli": ["MNLI-m.tsv", "MNLI-mm.tsv"], "boolq": ["BoolQ.jsonl"],
        "mrpc": ["MRPC.tsv"], "qqp": ["QQP.tsv"], "rte": ["RTE.tsv"], "cola": ["CoLA.tsv"], "stsb": ["STS-B.tsv"],
        "sample": ["SAMPLE.tsv"],
    }  # fmt: skip


def test_checkpoints_are_ranked_by_loss_upwards_by_metrics_downwards_and_the_earlier_wins():
    scores = {
        10: {"loss": 0.5, "accuracy": 0.8}, 20: {"loss": 0.3, "accuracy": 0.9}, 30: {"loss": 0.4, "accuracy": 0.9},
        40: {"loss": 0.3, "accuracy": 0.7},
    }  # fmt: skip
    assert best_checkpoints(scores, "loss") == [(20, 0.3), (40, 0.3), (30, 0.4)]
    assert best_checkpoints(scores, "accuracy") == [(20, 0.9), (30, 0.9), (10, 0.8)]
    assert best_checkpoints(scores, "accuracy", 1) == [(20, 0.9)]


def test_the_summary_ranks_the_selected_checkpoints(data, teacher, run, capsys):
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    run("run_fine_tune_eval", *ask)
    summary = data.config("teacher", name="eval_dev.json")
    assert (
        summary["rows"] == 8
        and set(summary["checkpoints"]) == {"2", "4"}
        and set(summary["best"]) == {"loss", "accuracy"}
    )
    for name, ranked in summary["best"].items():
        scores = [summary["checkpoints"][str(step)][name] for step, _ in ranked]
        assert scores == [value for _, value in ranked] == sorted(scores, reverse=name != "loss")
    assert "@ 2" in capsys.readouterr().out
    run("run_fine_tune_eval", *ask, "--ckpt", 3, "--dataset", "train")
    assert set(data.config("teacher", name="eval_train.json")["checkpoints"]) == {"4"}
    assert not (teacher / "prediction_train-2.tsv").exists()


@pytest.mark.slow
def test_scores_go_to_tensorboard_under_task_split_and_metric(data, teacher, run):
    """Beside those of training; scored again, a split is replaced and the others stay."""
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    for more in ((), ("--dataset", "train"), ("--ckpt", 3)):
        run("run_fine_tune_eval", *ask, *more)
    board = EventAccumulator(str(log_dir("teacher", "bert", "sst2"))).Reload()
    scored = {tag for tag in board.Tags()["scalars"] if not tag.startswith("train/")}
    assert scored == {f"sst2/{split}/{name}" for split in ("dev", "train") for name in ("loss", "accuracy")}
    for split, steps in (("dev", ["4"]), ("train", ["2", "4"])):
        scores = data.config("teacher", name=f"eval_{split}.json")["checkpoints"]
        assert list(scores) == steps
        for name in ("loss", "accuracy"):
            events = board.Scalars(f"sst2/{split}/{name}")
            assert [str(event.step) for event in events] == steps
            assert [event.value for event in events] == pytest.approx([scores[step][name] for step in steps], rel=1e-6)


def test_loss_of_the_summary_is_the_mean_over_all_rows(data, teacher, run):
    run("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--device_id", -1, "--batch_size", 3)
    lines = (teacher / "prediction_dev-4.tsv").read_text(encoding="utf-8").splitlines()[1:]
    cells = [[float(cell) for cell in line.split("\t")] for line in lines]
    logits, label = torch.tensor([row[3:] for row in cells]), torch.tensor([int(row[1]) for row in cells])
    want = hard_target_loss(logits, label).item()
    assert data.config("teacher", name="eval_dev.json")["checkpoints"]["4"]["loss"] == pytest.approx(want, rel=1e-5)


def test_no_checkpoint_selected_is_an_error(teacher, refused):
    message = refused("run_fine_tune_eval", "--experiment", "teacher", "--task", "sst2", "--device_id", -1, "--ckpt", 5)
    assert message == "--ckpt 5: no checkpoint from this step on; the last one is 4"


def test_an_unlabelled_split_is_not_scored(teacher, refused):
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    assert "--dataset test" in refused("run_fine_tune_eval", *ask, "--dataset", "test")
    assert "--dataset other" in refused("run_fine_tune_eval", *ask, "--dataset", "other").replace("'", "")
    assert "--dataset dev" in refused("generate_test_prediction", *ask, "--dataset", "dev")
    assert not list(teacher.glob("eval_*")) and not list(teacher.glob("*.tsv"))


def test_predictions_are_of_the_best_scored_checkpoint_else_of_the_last(data, teacher, run):
    ask = ("--experiment", "teacher", "--task", "sst2", "--device_id", -1)
    run("generate_test_prediction", *ask)
    assert (teacher / "prediction_test-4.tsv").is_file()
    scores = {"4": {"loss": 0.1, "accuracy": 0.5}, "2": {"loss": 0.2, "accuracy": 1.0}}
    (teacher / "eval_dev.json").write_text(json.dumps({"checkpoints": scores}), encoding="utf-8")
    run("generate_test_prediction", *ask)
    assert (teacher / "prediction_test-2.tsv").is_file()

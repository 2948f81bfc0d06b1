"""Tests of `plot_run.py`: what is drawn, what is written, what is refused."""

import csv
import json
import math
import warnings

import pytest

from fine_tune.plot import pictures as plot
from fine_tune.plot import shares
from fine_tune.plot.style import look
from fine_tune.run.history import read_run, read_runs

GATES = {2: 0.5, 3: 0.25, 4: 0.8}


def named(openings):
    return {f"gate_{layer}": g for layer, g in openings.items()}


@pytest.fixture
def write(tmp_path):
    """Write the folder of a run: entries of its log, configuration, and scores by split and checkpoint."""

    def write(name, *entries, config=None, scores=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        if entries:
            (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
        (folder / "config.json").write_text(json.dumps(config or {}))
        for split, checkpoints in (scores or {}).items():
            (folder / f"eval_{split}.json").write_text(json.dumps({"rows": 8, "checkpoints": checkpoints}))
        return folder

    return write


def table(file):
    return list(csv.DictReader(file.open()))


@pytest.mark.parametrize(
    ("openings", "config", "message"),
    [
        (GATES, {}, "config.json: has no layer_map, so it needs num_hidden_layers in 1..4"),
        (GATES, {"num_hidden_layers": 9}, "num_hidden_layers in 1..4 for the shares of the teacher layers, got 9"),
        (GATES, {"layer_map": "even"}, "config.json: layer_map must be like 2:1,4:2 (teacher:student), got 'even'"),
        (GATES, {"layer_map": "6:1"}, "student layer 1 follows teacher layer 6 (config.json), but the gates in"),
        ({2: 0.5, 4: 0.5}, {"method": "lad", "layer_map": "4:1"}, "a chain has a gate for every layer but its first"),
    ],
)
def test_gates_that_do_not_fit_the_configuration_are_refused(refused, write, openings, config, message):
    folder = write("run", {"step": 1, **named(openings)}, config=config)
    error = refused("plot_run", folder)
    assert message in error and str(folder) in error
    assert not list(folder.glob("*.png"))


@pytest.mark.slow
def test_every_picture_has_its_numbers_beside_it(run, write, tmp_path, capsys):
    lad = write(
        "lad",
        *({"step": step, "loss": 2.0, "hidden_loss": 0.1, "lr": 1e-4, "gate_lr": 1e-6, "target_spread": 0.3}
          | named(GATES) for step in (5, 10)),
        config={"method": "lad", "layer_map": "2:1,4:2"}, scores={"dev": {"10": {"loss": 0.5, "accuracy": 0.9}}},
    )  # fmt: skip
    alp = write("alp", {"step": 10, "loss": 1.0, "lr": 1e-4, "attn_1_1": 0.25, "attn_1_2": 0.75})
    out = tmp_path / "new" / "out"
    run("plot_run", lad, alp, "--out", out)
    names = ["losses", "gates", "shares", "attention", "spread", "scores"]
    files = [out / f"{name}.{kind}" for name in names for kind in ("png", "csv")]
    assert capsys.readouterr().out.split() == [str(file) for file in files]
    assert sorted(out.iterdir()) == sorted(files) and not list(lad.glob("*.png"))
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[::2])

    assert {"run": "alp", "step": "10", "name": "lr", "value": "0.0001"} in table(out / "losses.csv")
    assert {"run": "lad", "step": "5", "name": "hidden_loss", "value": "0.1"} in table(out / "losses.csv")
    assert len(table(out / "losses.csv")) == 2 * 4 + 2
    assert {"run": "lad", "step": "10", "name": "gate_3", "value": "0.25"} in table(out / "gates.csv")
    assert table(out / "attention.csv") == [
        {"run": "alp", "student_layer": "1", "teacher_layer": layer, "share": share}
        for layer, share in (("1", "0.25"), ("2", "0.75"))
    ]
    assert table(out / "scores.csv") == [{"run": "lad", "step": "10", "name": "dev/accuracy", "value": "0.9"}]
    assert [row["value"] for row in table(out / "spread.csv")] == ["0.3", "0.3"]
    assert {row["student_layer"]: row["share"] for row in table(out / "shares.csv")}.keys() == {"1", "2"}


def test_what_a_run_has_no_data_for_is_not_drawn(run, write, capsys):
    folder = write("teacher", {"step": 10, "loss": 0.6, "lr": 1e-5})
    run("plot_run", folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json", "losses.csv", "losses.png", "metrics.jsonl",
    ]  # fmt: skip


def test_a_picture_left_by_an_earlier_call_is_named(run, write, capsys):
    folder = write("teacher", {"step": 10, "loss": 0.6, "lr": 1e-5})
    (folder / "gates.png").write_bytes(b"old")
    run("plot_run", folder)
    assert f"{folder / 'gates.png'} is of an earlier call: these runs have no data for it" in capsys.readouterr().out


@pytest.mark.slow
def test_the_only_loss_of_fine_tuning_stands_beside_the_hard_losses(write):
    folders = [
        write("student", {"step": 1, "loss": 3.0, "hard_loss": 1.0}),
        write("soft", {"step": 1, "loss": 2.0, "soft_loss": 2.0}),
        write("teacher", {"step": 1, "loss": 0.7}),
    ]
    figure, rows = plot.losses(read_runs(folders))
    hard = figure.axes[2]
    assert hard.get_title() == "hard loss"
    assert [list(line.get_ydata()) for line in hard.lines] == [[1.0], [0.7]]
    assert ("teacher", 1, "hard_loss", 0.7) in rows and ("soft", 1, "hard_loss", 2.0) not in rows


def test_every_gate_of_the_log_is_drawn(write):
    entries = [
        {"step": step, **{f"gate_{layer}": layer / 100 + step / 1000 for layer in (2, 3, 11)}} for step in (1, 2)
    ]
    folders = [write("one", *entries), write("two", entries[0]), write("none", {"step": 1, "loss": 1})]
    figure, _ = shares.gates(read_runs(folders))
    drawn = [{str(line.get_label()): list(line.get_ydata()) for line in axis.lines} for axis in figure.axes]
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    assert [drawn[0].get(f"_child{index}") for index in (1, 2, 3)] == [
        [entry[f"gate_{layer}"] for entry in entries] for layer in (2, 3, 11)
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2", "3", "11"]


def test_one_checkpoint_is_a_point(write):
    one = write("one", scores={"dev": {"10": {"accuracy": 0.8}}})
    two = write("two", scores={"dev": {"9": {"accuracy": 0.7}, "10": {"accuracy": 0.9}}, "test": {"9": {"f1": 0.5}}})
    figure, _ = plot.scores(read_runs([one, two]))
    assert [axis.get_title() for axis in figure.axes] == ["accuracy on dev", "f1 on test"]
    point, line = figure.axes[0].lines
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([10], [0.8])
    assert point.get_marker() not in ("", "None") and point.get_markevery() == (0, 1)
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([9, 10], [0.7, 0.9])
    assert figure.axes[1].lines[0].get_color() == line.get_color() != point.get_color()


def test_cells_show_percentages_and_the_embedding_output(write):
    config = {"method": "lad_no", "num_hidden_layers": 2}
    figure, _ = shares.shares(read_runs([write("run", {"step": 3, **named({1: 0.25, 2: 0.9999})}, config=config)]))
    axis = figure.axes[0]
    assert axis.get_title() == "run, update 3"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["emb", "1", "2"]
    cells = {text.get_position(): text.get_text() for text in axis.texts}
    assert cells == {(0, 0): "75", (1, 0): "25", (1, 1): "0", (2, 1): "100"}
    assert "product of the gates' mean openings" in figure.get_suptitle()


def test_runs_look_different_up_to_28():
    assert len({tuple(look(index).items()) for index in range(28)}) == 28


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 4, 13))])
def test_any_number_of_runs_fits(write, tmp_path, count):
    runs = read_runs(
        [
            write(
                f"lad_with_quite_a_long_name_{number}_bert_sst2",
                *({"step": step, "loss": 1 / step, "target_spread": 0.1, **named(GATES)} for step in range(1, 9)),
                config={"num_hidden_layers": 2}, scores={"dev": {"8": {"accuracy": 0.9}}},
            )
            for number in range(count)
        ]
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written, _ = plot.draw(runs, tmp_path / "out")
    assert len(written) == 10


def test_a_loss_of_zero_and_a_log_with_a_repeated_update(write):
    run = read_run(write("run", {"step": 2, "loss": 0}, {"step": 1, "loss": 3}, {"step": 2, "loss": 0.0}))
    assert run.log == {"loss": {1: 3, 2: 0}}
    figure, _ = plot.losses({"run": run, "nothing": read_run(write("other", {"step": 1, "loss": 0}))})
    assert all(math.isfinite(limit) for limit in figure.axes[0].get_ylim())


def test_two_folders_of_one_name_are_told_apart_and_one_named_twice_is_one(write, tmp_path):
    one, two = write("a/run", {"step": 1, "loss": 1.0}), write("b/run", {"step": 1, "loss": 2.0})
    runs = read_runs([one, two, tmp_path / "a" / ".." / "a" / "run"])
    assert list(runs) == [str(one.resolve()), str(two.resolve())]
    assert list(read_runs([one, one])) == ["run"]


def test_a_folder_that_is_not_a_run_is_refused(refused, tmp_path):
    assert f"{tmp_path}: no log entries in metrics.jsonl" in refused("plot_run", tmp_path)


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"loss": 1.0}', '{"step": 2, "loss": "low"}', '{"step": 2, "loss": null}']
)
def test_a_damaged_line_is_named(refused, write, line):
    folder = write("run", {"step": 1, "loss": 1.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line)
    assert f"{folder / 'metrics.jsonl'}:2: not a log entry" in refused("plot_run", folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"checkpoints": {"last": {}}}', '{"checkpoints": {"2": 0.5}}'])
def test_damaged_scores_are_named(refused, write, text):
    folder = write("run", {"step": 1, "loss": 1.0})
    (folder / "eval_dev.json").write_text(text)
    assert str(folder / "eval_dev.json") in refused("plot_run", folder)


def test_a_file_in_place_of_the_folder_is_refused(refused, write, tmp_path):
    (tmp_path / "out").write_text("")
    assert str(tmp_path / "out") in refused(
        "plot_run", write("run", {"step": 1, "loss": 1.0}), "--out", tmp_path / "out"
    )

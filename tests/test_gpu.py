"""Tests that need a GPU: where the models live, and what makes them fast there, changes nothing but rounding."""

import os
import signal

import pytest
import torch
from test_resume import interrupted

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
QUICK = ("--task", "sst2", "--batch_size", 4, "--total_step", 4, "--log_step", 1, "--dropout", 0)
LAD = ("--teacher_exp", "teacher", *QUICK)


def losses(data, name: str) -> list[float]:
    return [entry["loss"] for entry in data.metrics(name)]


@pytest.mark.parametrize("places", [(0, 0, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0)], ids=str)
def test_losses_do_not_depend_on_the_devices(places, data, run, teacher):
    for name, (student, outputs, gates) in {"there": places, "cpu": (-1, -1, -1)}.items():
        devices = ("--device_id", student, "--tdevice_id", outputs, "--gate_device_id", gates)
        run("run_lad_distil", "--experiment", name, *LAD, *devices)
    assert losses(data, "there") == pytest.approx(losses(data, "cpu"), rel=1e-3)


@pytest.mark.parametrize(
    ("flags", "rel", "updates"),
    [
        (("--precision", "bf16"), 0.03, 4),
        (("--precision", "fp16"), 0.01, 1),  # the first updates only find the loss scale
        (("--teacher_cache", "states"), 0.01, 4),
        (("--gradient_checkpointing",), 1e-3, 4),
        (("--compile",), 1e-3, 4),
        (("--precision", "bf16", "--compile"), 0.03, 4),
    ],
    ids=str,
)
def test_speed_changes_rounding_only(flags, rel, updates, data, run, teacher):
    run("run_lad_distil", "--experiment", "plain", *LAD, "--device_id", 0)
    run("run_lad_distil", "--experiment", "fast", *LAD, "--device_id", 0, *flags)
    assert losses(data, "fast")[:updates] == pytest.approx(losses(data, "plain")[:updates], rel=rel)
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # else every new length takes half a second


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_goes_on_where_it_was_stopped(precision, data, run, teacher):
    flags = (*LAD, "--device_id", 0, "--precision", precision, "--dropout", 0.1)
    run("run_lad_distil", "--experiment", "whole", *flags)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        interrupted(patch, "step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        run("run_lad_distil", "--experiment", "parts", *flags)
    run("run_lad_distil", "--experiment", "parts", *flags, "--resume")
    assert losses(data, "parts") == pytest.approx(losses(data, "whole"), rel=1e-3)


def test_memory_of_the_gpu_is_told_before_the_run(data, run, teacher, capsys):
    run("run_lad_distil", "--experiment", "tried", *LAD, "--device_id", 0, "--dry_run")
    told = capsys.readouterr().out
    assert "memory, expected" in told and ", GPU " in told

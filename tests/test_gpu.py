"""Tests that need a GPU: where the models live changes nothing but rounding."""

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
QUICK = ("--task", "sst2", "--batch_size", 4, "--total_step", 4, "--log_step", 1, "--dropout", 0)


@pytest.mark.parametrize("places", [(0, 0, 0), (0, 0, -1), (0, -1, 0), (-1, 0, 0)], ids=str)
def test_losses_do_not_depend_on_the_devices(places, data, run, teacher):
    def losses(name: str, student: int, teacher: int, gates: int) -> list[float]:
        devices = ("--device_id", student, "--tdevice_id", teacher, "--gate_device_id", gates)
        run("run_lad_distil", "--experiment", name, "--teacher_exp", "teacher", *QUICK, *devices)
        return [entry["loss"] for entry in data.metrics(name)]

    assert losses("there", *places) == pytest.approx(losses("cpu", -1, -1, -1), rel=1e-3)

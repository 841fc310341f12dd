"""A run that diverges stops, names its rate and a better one, and leaves its checkpoint; noise stops nothing."""

import json
import math

import pytest
import torch

from doyen.adapters import list_adapters
from doyen.errors import GateError
from doyen.finetuning.divergence import DivergenceWatch, better_rate
from doyen.finetuning.training import finetune


def fed(losses, norm=1.0):
    watch = DivergenceWatch(5e-4)
    for loss in losses:
        watch.see(loss, norm, 0.01)


@pytest.mark.parametrize(
    "losses",
    [
        [3.0] * 40,
        [2.0, 2.0, 2.0, 2.0, *[9.0, 1.0, 1.0] * 12],  # hard batches between
        [2.0] * 4 + [3.9] * 30,  # higher, but not far
        [0.01] * 4 + [0.9] * 30,  # much higher by share, not in nats
        [2.0] * 4 + [9.0] * 4,  # too short to tell
    ],
)
def test_noise_stops_nothing(losses):
    fed(losses)


def test_a_loss_that_rises_and_stays_stops():
    with pytest.raises(
        GateError, match=r"step \d+ with learning rate 0.01: the loss has risen from 2.00 to 5.00"
    ) as caught:
        fed([2.0] * 4 + [1.5] * 10 + [5.0] * 20)
    assert "--learning-rate 0.0005" in caught.value.hint


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan)])
def test_what_is_no_number_stops_at_once(loss, norm):
    watch = DivergenceWatch(5e-4)
    watch.see(2.0, 1.0, 0.01)
    with pytest.raises(GateError, match="step 2 with learning rate 0.01.*not a? ?numbers? any more"):
        watch.see(loss, norm, 0.01)
    with pytest.raises(GateError, match="before anything was learned") as caught:
        DivergenceWatch(5e-4).see(loss, norm, 0.01)
    assert "weights sound" in caught.value.hint


def test_a_better_rate():
    assert better_rate(0.1, 5e-4) == 5e-4
    assert better_rate(8e-4, 5e-4) == 2e-4
    assert better_rate(1e-5, 5e-5) == pytest.approx(3e-6)


def test_a_resumed_run_remembers_its_beginning(tmp_path):
    lines = [json.dumps({"loss": 2.0})] * 8 + [json.dumps({"loss": 0.1})] * 9  # these will be run again
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    watch = DivergenceWatch.of_run(tmp_path, 5e-4, 8)
    with pytest.raises(GateError, match="risen from 2.00"):
        for _ in range(8):
            watch.see(9.0, 1.0, 0.01)


def test_a_rate_far_too_high_stops_a_run_and_keeps_a_sound_checkpoint(llama, examples, settings_of, tmp_path):
    settings = settings_of(llama, method="full", learning_rate=1.0, epochs=20.0)
    steps = []
    with pytest.raises(GateError, match="diverges in step .* with learning rate 1: ") as caught:
        finetune(
            tmp_path, settings, examples, [], name="a", report=lambda p: steps.append(p.step), checkpoint_every_s=0.0
        )
    assert "--learning-rate 5e-05" in caught.value.hint
    assert steps[-1] < 20 and list_adapters(tmp_path) == []
    kept = torch.load(tmp_path / "adapters" / ".a.training" / "checkpoint.pt", weights_only=True)
    assert kept["state"]["step"] == steps[-1]
    assert all(torch.isfinite(value).all() for value in kept["weights"].values())
    lower = settings_of(llama, epochs=1.0)
    assert finetune(tmp_path, lower, examples, [], name="a").steps == 2  # the same name, a lower rate

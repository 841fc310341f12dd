"""Room on the disk before training; a disk that fills up, and checkpoints cut off, while it runs."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import doyen
from doyen.errors import DoyenError, GateError, Interrupted
from doyen.finetuning.generations import before, generations, keep_before, read_checkpoint
from doyen.finetuning.methods import trained_model
from doyen.finetuning.preparing import Prepared
from doyen.finetuning.running import finetune
from doyen.finetuning.space import Needed, disk_full_said, is_disk_full, needed_space, require_space
from doyen.finetuning.training import finetune as train_adapter

EXBIBYTE = 2**60
full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")


# ---- before


def test_the_room_needed_follows_the_trained_weights(phi, settings_of):
    def needed(method):
        settings = settings_of(phi, method=method).finetune
        return needed_space(trained_model(phi, settings, Prepared([], [], "", {}, {}, []), lambda _: None), generations)

    lora, qlora, full = needed("lora"), needed("qlora"), needed("full")
    trained = 2 * 4 * ((64 + 128) + (64 + 64) + (64 + 192) + (96 + 64))
    every = sum(t.numel() for t in load_file(str(phi / "model.safetensors")).values())
    assert (lora.checkpoints, lora.made) == ((3 * 12 + 8) * trained, 4 * trained) == (qlora.checkpoints, qlora.made)
    assert (full.checkpoints, full.made, full.export) == ((3 * 12 + 8) * every, 2 * every, 2 * every)
    assert lora.export == qlora.export == 2 * (every + trained)
    assert generations(2**31) == 2


def test_too_little_room_stops_before_training(tmp_path):
    with pytest.raises(
        GateError, match=r"not enough disk space at .* GiB free, 1073741826\.\d\d GiB needed \(1073741824"
    ):
        require_space(tmp_path / "not" / "there", Needed(EXBIBYTE, 2**31, 0), lambda _: None)
    said = []
    found = require_space(tmp_path, Needed(1, 1, EXBIBYTE), said.append)
    assert found["free_gib"] > 0 and "will need 1073741824.0 GiB" in said[0]
    assert require_space(tmp_path, Needed(1, 1, 1), said.append) and len(said) == 1


# ---- while it runs


def test_a_full_disk_is_known_from_any_library():
    assert is_disk_full(OSError(errno.ENOSPC, "x")) and is_disk_full(OSError(errno.EDQUOT, "x"))
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    try:
        try:
            raise OSError(errno.ENOSPC, "x")
        except OSError as error:
            raise RuntimeError("enforce fail at inline_container.cc") from error
    except RuntimeError as error:
        assert is_disk_full(error)
    assert not is_disk_full(OSError(errno.EACCES, "x")) and not is_disk_full(RuntimeError("x"))


def test_other_errors_pass(tmp_path):
    for error in (OSError(errno.EACCES, "x"), GateError("No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, disk_full_said(tmp_path, "doyen finetune"):
            raise error
        assert caught.value is error


@full_device
def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_goes_on(phi, examples, tmp_path):
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    rows = tmp_path / "examples.jsonl"
    rows.write_text("".join(json.dumps(e.as_dict()) + "\n" for e in examples))
    options = {"examples": rows, "epochs": 4.0, "rank": 2, "learning_rate": 0.02, "batch_size": 4, "replay": 0.0}
    run = expert / "adapters" / ".x.training"

    def fill(progress):  # from step 3 on, what is written for a checkpoint goes to a device that is full
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        finetune(expert, name="x", report=fill, **options)
    kept = (run / "checkpoint.pt").read_bytes()

    def full(progress):
        if progress.step == 5:
            for name in ("checkpoint", "checkpoint.pt"):
                (run / f".{name}.{os.getpid()}.partial").symlink_to("/dev/full")
            raise KeyboardInterrupt

    with pytest.raises(DoyenError, match="no space left on the disk .*; the last checkpoint is kept") as caught:
        finetune(expert, name="x", resume=True, report=full)
    assert caught.value.hint == "free space there, then doyen finetune --name x --resume"
    assert (run / "checkpoint.pt").read_bytes() == kept
    for left in run.glob(".*.partial"):
        left.unlink()
    steps = []
    finetune(expert, name="x", resume=True, report=lambda p: steps.append(p.step))
    assert steps == [4, 5, 6, 7, 8]


# ---- cut off


@pytest.fixture(scope="module")
def stopped(phi, examples, tmp_path_factory):
    """An interrupted run with two generations of checkpoints, of steps 5 and 4: (expert, settings)."""
    from doyen.config import FinetuneSettings, ModelSettings, Settings

    tuned = FinetuneSettings(
        rank=4, alpha=8, learning_rate=0.02, epochs=4.0, batch_size=4, micro_batch_tokens=256, dropout=0.1, replay=0.0
    )
    settings = Settings(model=ModelSettings(name=str(phi)), finetune=tuned)
    expert = tmp_path_factory.mktemp("stopped")

    def stop(progress):
        if progress.step == 6:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_adapter(expert, settings, examples, [], name="a", report=stop, checkpoint_every_s=0.0)
    return expert, settings


def test_a_checkpoint_cut_off_gives_way_to_the_one_before_bit_for_bit(stopped, examples, tmp_path):
    expert, settings = stopped
    shutil.copytree(expert, tmp_path / "cut")
    path = tmp_path / "cut" / "adapters" / ".a.training" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    steps = []
    train_adapter(
        tmp_path / "cut", settings, examples, [], name="a", resume=True, report=lambda p: steps.append(p.step)
    )
    assert steps == [5, 6, 7, 8]
    train_adapter(tmp_path / "whole", settings, examples, [], name="a")
    cut, whole = (load_file(str(tmp_path / e / "adapters/a/adapter_model.safetensors")) for e in ("cut", "whole"))
    assert all(torch.equal(cut[key], whole[key]) for key in whole)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.6, 0.999])
def test_a_checkpoint_cut_off_anywhere_with_none_before_is_told(stopped, examples, tmp_path, kept):
    expert, settings = stopped
    shutil.copytree(expert, tmp_path / "cut")
    path = tmp_path / "cut" / "adapters" / ".a.training" / "checkpoint.pt"
    before(path).unlink()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(GateError, match="is damaged .* no sound one before it") as caught:
        read_checkpoint(path)
    assert caught.value.hint == "doyen finetune --name a without --resume starts anew"
    if kept == 0.6:
        with pytest.raises(GateError, match="is damaged"):
            train_adapter(tmp_path / "cut", settings, examples, [], name="a", resume=True)


def test_the_one_before_is_kept_and_a_first_one_has_none(tmp_path):
    path = tmp_path / "checkpoint.pt"
    keep_before(path)
    assert not before(path).exists()
    for text in ("one", "two", "three"):
        keep_before(path)
        partial = tmp_path / "partial"
        partial.write_text(text)
        partial.replace(path)
    assert path.read_text() == "three" and before(path).read_text() == "two" and len(list(tmp_path.iterdir())) == 2

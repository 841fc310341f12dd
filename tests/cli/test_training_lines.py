"""What `doyen finetune` writes beside its bar and in the end."""

from types import SimpleNamespace

import pytest

from doyen.cli.training import Curve, _stopping


def step(loss, held_out=None):
    return SimpleNamespace(loss=loss, held_out_loss=held_out, tokens_per_s=123.4, seconds_left=61.0)


def test_the_loss_is_drawn_on_a_terminal_only():
    drawn, plain = Curve(drawn=True), Curve(drawn=False)
    assert [drawn.remark(step(x)) for x in (2.0, 1.0)][-1] == "█▁ loss 1.000 123 tokens/s 61 s left"
    assert plain.remark(step(2.0)) == "loss 2.000 123 tokens/s 61 s left"


def test_the_last_held_out_loss_stays_in_the_line():
    curve = Curve(drawn=False)
    assert "held-out" not in curve.remark(step(2.0))
    assert "held-out 1.500" in curve.remark(step(1.9, 1.5)) and "held-out 1.500" in curve.remark(step(1.8))


@pytest.mark.parametrize(("held_out", "lines"), [({}, 0), ({"kept_step": 40}, 0), ({"kept_step": 30}, 1)])
def test_weights_from_before_the_end_are_told(held_out, lines):
    assert len(_stopping(SimpleNamespace(held_out=held_out, steps=40))) == lines

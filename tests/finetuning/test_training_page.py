"""training.html and its drawings: whole, without any request, also half-way, and true to the numbers."""

import re
from html.parser import HTMLParser

import pytest

from doyen.finetuning.drawing import Curve, axis_ticks, chart, smoothed, sparkline
from doyen.finetuning.training_page import TrainingPage, read_history, render_training, write_page

FACTS = {
    "name": "lora-1<b>",
    "model": "tiny",
    "method": "lora",
    "settings": {"rank": 16, "report_to": ""},
    "gates": {"supervision": {"examples": 8, "tokens": 40}},
    "examples": {"train": 8, "questions": ["hash"], "left_out": {}},
}
DONE = {
    "steps": 30,
    "tokens": 12345,
    "seconds": 61.2,
    "peak_memory_gib": 1.5,
    "held_out": {"kept_step": 20, "stopped_early": True},
    "forgetting": {"rise": 0.031, "bits_per_byte_before": 1.2},
    "calibration": {"threshold": 0.5},
}


def lines(count):
    rows = []
    for step in range(1, count + 1):
        row = {"step": step, "steps": 30, "loss": 2.0 / step, "learning_rate": 5e-4, "tokens_per_s": 200.0}
        row["seconds_left"] = 10.0 * (30 - step)
        rows.append(row | ({"held_out_loss": 1.5} if step % 10 == 0 else {}))
    return rows


class Checker(HTMLParser):
    """Collects open tags, and whatever could load something."""

    VOID = ("meta", "line", "polyline")

    def __init__(self):
        super().__init__()
        self.open, self.requests = [], []

    def handle_starttag(self, tag, attributes):
        self.requests += [v for k, v in attributes if k in ("src", "href") or "://" in (v or "")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == [] and checker.requests == []
    assert "{{" not in page and "<b>" not in page and "nan" not in page.lower().replace("finance", "")
    return page


def test_the_held_out_curve_of_a_finished_run_begins_before_the_first_step():
    measured = FACTS | DONE | {"held_out": {"before": 4.25, "after": 1.5, "kept_step": 30}}
    page = checked(render_training(measured, lines(30), running=False))
    assert "held-out, step 0: 4.25" in page and ">step 0</text>" in page
    assert "held-out loss from 4.250 to 1.500" in page
    assert ">step 1</text>" in page  # of the other charts


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_a_page_of_a_run_that_goes_on(count):
    page = checked(render_training(FACTS, lines(count), running=True))
    assert 'http-equiv="refresh"' in page
    assert ("step 30 of 30" in page) == (count == 30)


def test_a_finished_page_shows_what_was_kept_and_warns():
    page = checked(render_training(FACTS | DONE, lines(30), running=False))
    assert 'http-equiv="refresh"' not in page
    assert "3.1%" in page and "Stopped early" in page and 'class="kept"' in page
    assert page.count("<circle") == 3
    for title in ("Held-out loss", "Forgetting", "When it refuses", "Gates", "Settings"):
        assert f"<h2>{title}</h2>" in page
    assert "hash" not in page  # the questions' hashes are no reading


def test_the_page_is_written_at_most_once_in_a_while(tmp_path):
    import json

    page = TrainingPage(tmp_path, FACTS)
    page.update()
    first = page.path.read_text()
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines(5)))
    page.update()
    assert page.path.read_text() == first
    TrainingPage(tmp_path, FACTS, every_s=0.0).update()
    assert "step 5 of 30" in page.path.read_text()
    write_page(tmp_path, FACTS | DONE)
    assert "Training of lora-1&lt;b&gt;</h1>" in page.path.read_text()
    assert [row["step"] for row in read_history(tmp_path)] == [1, 2, 3, 4, 5]
    assert {p.name for p in tmp_path.iterdir()} == {"history.jsonl", "training.html"}


def test_a_curve_is_drawn_where_its_numbers_are():
    svg = chart([Curve("loss", [(1, 4.0), (2, 2.0), (3, 0.0)])], "Loss")
    points = re.search(r'points="([^"]*)"', svg)[1]
    assert points == "0.00,0.00 50.00,50.00 100.00,100.00"
    assert ">4<" in svg and ">0<" in svg and 'aria-label="Loss"' in svg


def test_small_numbers_have_short_labels():
    svg = chart([Curve("rate", [(1, 0.0), (2, 5e-4)])], "Rate")
    assert ">6e-4<" in svg and ">0<" in svg and "0.000" not in svg


def test_long_curves_are_thinned_to_their_ends():
    svg = chart([Curve("loss", [(i, float(i)) for i in range(1, 5001)])], "Loss")
    points = re.search(r'points="([^"]*)"', svg)[1].split()
    assert 500 < len(points) < 800 and points[-1].startswith("100.00,")


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (1.37, 1.41), (5e-5, 5e-4), (3.0, 3.0), (0.0, 0.0), (-2.0, 950.0)]
)
def test_ticks_are_few_and_enclose(low, high):
    ticks = axis_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


def test_a_sparkline_falls_as_the_loss_does():
    assert sparkline([4, 3, 2, 1]) == "█▆▃▁"
    assert sparkline([]) == sparkline([float("nan")]) == ""
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert len(sparkline(list(range(100)), 16)) == 16 and sparkline(list(range(100)), 16)[-1] == "█"


def test_smoothing_begins_at_the_first_value():
    found = smoothed([(1, 5.0), (2, 5.0), (3, 1.0)])
    assert found[0] == (1, 5.0) and found[1][1] == pytest.approx(5.0) and 1.0 < found[2][1] < 5.0

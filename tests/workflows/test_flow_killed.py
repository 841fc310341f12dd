import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROWS = 250


@pytest.mark.slow
def test_a_run_killed_again_and_again_has_each_row_once(flow_file, expert, claims, tmp_path):
    out = tmp_path / "out.csv"
    table = claims([f"C{n},water {n},1" for n in range(ROWS)])
    script = Path(__file__).with_name("killed_run.py")
    command = [sys.executable, str(script), *map(str, (flow_file(), expert, table, out))]
    rng, kills = random.Random(4), 0
    journal = out.with_name("out.csv.audit.jsonl")
    for _ in range(40):
        before = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command)
        try:
            while process.poll() is None and (not journal.exists() or journal.stat().st_size <= before):
                time.sleep(0.01)  # it works: now it may be killed at any moment
            process.wait(rng.uniform(0, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += process.wait() != 0
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 3
    with out.open(encoding="utf-8", newline="") as file:
        assert [row["claim"] for row in csv.DictReader(file)] == [f"C{n}" for n in range(ROWS)]
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()][1:]
    assert [line["row"] for line in lines] == list(range(1, ROWS + 1))
    assert not list(tmp_path.glob(".*partial"))

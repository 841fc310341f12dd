import pytest
from flow_engine import Scripted
from small_stores import make_expert

TRIAGE = """
name = "triage"
system = "You handle claims."
arm = "base"

[input]
id = "claim"
columns = { claim = "text", text = "text", amount = "number" }
optional = ["amount"]

[steps.peril]
do = "classify"
instruction = "What caused the damage?"
input = "{text}"
choices = ["water", "storm", "other"]

[steps.facts]
do = "extract"
instruction = "Take out the facts."
input = "{text}"
max_tokens = 60
[steps.facts.schema]
type = "object"
required = ["amount"]
[steps.facts.schema.properties]
amount = { type = "integer", minimum = 0, maximum = 100000 }
place = { type = ["string", "null"], maxLength = 20 }

[steps.verdict]
do = "decide"
rules = [
  { when = "facts.amount > 1000", then = "refer", because = "a large claim" },
  { when = "peril == 'other'", then = "reject", because = "not insured" },
]
choices = ["pay", "refer"]
instruction = "Pay, or refer to a person?"
input = "Cause: {peril}\\nReport: {text}"
"""


@pytest.fixture
def flow_file(tmp_path):
    """Write a workflow file, with replacements; return its path."""

    def write(*changes, text=TRIAGE, more="", name="workflow.toml"):
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "flow" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + more, encoding="utf-8")
        return path

    return write


@pytest.fixture
def expert(tmp_path):
    return make_expert(tmp_path / "expert")


@pytest.fixture
def claims(tmp_path):
    """Write a table of claims; return its path."""

    def write(rows, name="claims.csv", header="claim,text,amount"):
        path = tmp_path / name
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


def answer(system, user):
    """Decide by words of the report, as a good model would."""
    if "JSON" in system:
        found = [int(word) for word in user.split() if word.isdigit()]
        return f'{{"amount": {found[-1] if found else 0}}}', 0.8
    if "caused" in system:
        return next((peril for peril in ("water", "storm") if peril in user), "other"), 0.9
    return "refer" if "lawyer" in user else "pay", 0.95


@pytest.fixture
def engine():
    return Scripted(answer)

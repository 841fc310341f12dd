import pytest

from doyen.errors import WorkflowError
from doyen.workflows.definition import Decide, Extract
from doyen.workflows.reading import load_workflow


def test_a_valid_file(flow_file):
    flow = load_workflow(flow_file())
    assert flow.step_names == ["peril", "facts", "verdict"]
    assert flow.decision == "verdict" and flow.id_column == "claim"
    assert isinstance(flow.step("facts"), Extract) and flow.step("facts").fields == ["amount", "place"]
    assert isinstance(flow.step("verdict"), Decide) and flow.step("verdict").decisions == ("refer", "reject", "pay")
    assert load_workflow(flow_file().parent).fingerprint == flow.fingerprint


def test_what_shapes_results_changes_the_fingerprint(flow_file):
    before = load_workflow(flow_file()).fingerprint
    assert load_workflow(flow_file(('arm = "base"', 'arm = "rag"'))).fingerprint == before
    assert load_workflow(flow_file(("> 1000", "> 2000"))).fingerprint != before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('do = "classify"', 'do = "clasify"', "[steps.peril] do: 'clasify' is no kind of step; did you mean 'classify'?"),
        ('choices = ["water"', 'choises = ["water"', "[steps.peril] choises: is no field of it; did you mean 'choices'?"),
        ("max_tokens = 60", 'max_tokens = "60"', "[steps.facts] max_tokens: is a text"),
        ("max_tokens = 60", "max_tokens = 0", "[steps.facts] max_tokens: is 0, expected 1 to 4096"),
        ("peril == 'other'", "pery == 'other'", "rules[2].when: 'pery' is no input column or earlier step; did you mean 'peril'?"),
        ("facts.amount > 1000", "facts.amout > 1000", "'facts' has no field 'amout'; did you mean 'amount'?"),
        ("peril == 'other'", "peril == 'othr'", "'othr' is no choice; did you mean 'other'?"),
        ("facts.amount > 1000", "facts.amount > 'x'", "compares a number with a text"),
        ("facts.amount > 1000", "facts.amount + 1", "is a number, expected true or false"),
        ("facts.amount > 1000", "facts.amount >", "is no expression"),
        ("Cause: {peril}", "Cause: {perils}", "[steps.verdict] input: 'perils' is no input column"),
        ("Cause: {peril}", "Cause: {peril", "is no name; write {{ for a brace"),
        ('input = "{text}"\nchoices', 'input = "{verdict}"\nchoices', "a cycle: peril → verdict → peril"),
        ('input = "{text}"\nchoices', 'input = "{facts}"\nchoices', "the value of the later step [steps.facts]; move it before"),
        ('arm = "base"', 'arm = "rags"', "is 'rags', expected one of base, rag"),
        ('amount = "number" }', 'amount = "numbr" }', "columns.amount: is 'numbr', expected one of text, number"),
        ('id = "claim"', 'id = "clam"', "[input] id: 'clam' is no column; did you mean 'claim'?"),
        ("minimum = 0, maximum = 100000", "minimum = 5, maximum = 1", "nothing satisfies the schema"),
        ('type = "object"\n', 'type = "object"\nuniqueItems = true\nnot = {}\n', "keywords that answers cannot be held to"),
        ('choices = ["water", "storm", "other"]', 'choices = ["water"]', "needs two choices or more"),
        ('choices = ["pay", "refer"]', 'choices = ["pay", "refer"]\notherwise = "refer"', "one of the two says"),
        ("[steps.peril]", "[steps.text]", "an input column has this name"),
        ("[steps.peril]", '[steps."a b"]', "names are of letters, digits and '_'"),
        ('system = "You handle claims."', 'sistem = "x"', "the file sistem: is no field of it; did you mean 'system'?"),
        ('system = "You handle claims."', 'decision = "facts"', "is a extract step; a classify, decide or draft step decides"),
        ("facts.amount > 1000", "__import__('os') == 1", "is no function of expressions"),
    ],
)  # fmt: skip
def test_faults_name_step_field_and_what_was_expected(flow_file, old, new, said):
    with pytest.raises(WorkflowError) as error:
        load_workflow(flow_file((old, new)))
    assert said in str(error.value)
    assert all(line.startswith("workflow.toml: ") for line in str(error.value).splitlines())


def test_all_faults_are_told_together(flow_file):
    with pytest.raises(WorkflowError) as error:
        load_workflow(flow_file(("facts.amount > 1000", "facts.amout > 1000"), ("peril == 'other'", "peril == 'othr'")))
    assert "amout" in str(error.value) and "othr" in str(error.value)


def test_no_toml_and_no_file(flow_file, tmp_path):
    path = flow_file(text="name = ")
    with pytest.raises(WorkflowError, match="is no TOML"):
        load_workflow(path)
    with pytest.raises(WorkflowError, match="there is no workflow file"):
        load_workflow(tmp_path / "none.toml")


CHECKED = """
[steps.letter]
do = "draft"
when = "verdict != 'refer'"
instruction = "Write to the customer."
input = "{verdict}"
[steps.right]
do = "check"
of = "letter"
most_words = 100
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("most_words = 100", "citations = true", "[steps.letter] is shown no passages to cite"),
        ("most_words = 100", 'quotes = ["{letter}"]', "[steps.letter] is shown no passages to cite"),
        (
            "most_words = 100",
            'quotes = ["{lettre}"]',
            "'lettre' is no input column or earlier step; did you mean 'letter'?",
        ),
        ("most_words = 100", "", "nothing is checked"),
        ('of = "letter"', 'of = "text"', "'text' is a column, expected the name of a step"),
        ('of = "letter"', 'of = "facts"', "[steps.facts] gives no text"),
        ("most_words = 100", 'numbers_in = ["txt"]', "'txt' is no input column or earlier step; did you mean 'text'?"),
        ('input = "{verdict}"', 'input = "{verdict}"\npassages = "facts"', "'facts' is no retrieve step"),
        ("verdict != 'refer'", "confidence(right) > 1", "'right' is no step that asks a model"),
    ],
)
def test_faults_of_checks(flow_file, old, new, said):
    assert old in CHECKED
    with pytest.raises(WorkflowError) as error:
        load_workflow(flow_file(more=CHECKED.replace(old, new)))
    assert said in str(error.value)


def test_the_file_of_the_guide_is_valid(tmp_path):
    import re
    from pathlib import Path

    guide = (Path(__file__).parents[2] / "docs" / "guides" / "workflows.md").read_text(encoding="utf-8")
    path = tmp_path / "triage.toml"
    path.write_text(re.search(r"```toml\n(name = .*?)```", guide, re.DOTALL)[1], encoding="utf-8")
    flow = load_workflow(path)
    assert flow.decision == "verdict" and len(flow.steps) == 9

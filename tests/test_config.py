"""doyen.toml: every fault at once, the round trip, finding the expert, writing atomically."""

import re
import tomllib
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doyen.config import (
    AnswerSettings,
    ModelSettings,
    RetrievalSettings,
    Settings,
    StoreSettings,
    find_expert,
    load_settings,
    parse_settings,
    settings_toml,
    with_name,
    write_atomic,
    write_name,
)
from doyen.errors import ConfigError, ExpertError

FAULTY = """
format = 9
chunking = 3
[retreival]
candidates = 5
[model]
nmae = "x"
max_answer_tokens = "many"
[retrieval]
dense_weight = 1.5
candidates = 4
[answer]
arm = "ragg"
passages = true
"""


def faults_of(text):
    with pytest.raises(ConfigError) as caught:
        parse_settings(text)
    assert caught.value.hint and "settings.md" in caught.value.hint
    return str(caught.value).splitlines()


def test_all_faults_are_reported_together():
    first, *lines = faults_of(FAULTY)
    assert first == "doyen.toml has 9 fault(s):"
    expected = [
        "format = 9: this doyen reads format 1",
        "chunking = 3: expected a table",
        "unknown table 'retreival' (did you mean 'retrieval'?)",
        "[model] unknown key 'nmae' (did you mean 'name'?)",
        "[model] max_answer_tokens = 'many': expected int, got str",
        "[retrieval] dense_weight = 1.5: expected a value from 0 to 1",
        "[retrieval] candidates = 4: expected a value from 10 to 1000",
        "[answer] arm = 'ragg': expected one of base, rag, finetuned, rag+finetuned",
        "[answer] passages = True: expected int, got bool",
    ]
    assert len(lines) == len(expected)
    for fault in expected:
        assert any(fault in line for line in lines), fault


def test_an_unknown_key_without_a_near_one_lists_those_that_are_known():
    assert "unknown key 'zzz' (known: uri)" in "\n".join(faults_of("[store]\nzzz = 1"))


def test_an_open_range_names_its_one_end():
    assert "batch_tokens = 3: expected at least 256" in faults_of("[model]\nbatch_tokens = 3")[1]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_out_of_range(value):
    assert "expected a value from 0 to 1" in faults_of(f"[retrieval]\ndense_weight = {value}")[1]


def test_a_whole_number_does_for_a_fraction():
    assert parse_settings("[retrieval]\ndense_weight = 1").retrieval.dense_weight == 1.0


def test_broken_toml_says_where():
    with pytest.raises(ConfigError, match=r"here/doyen.toml is not valid TOML: .*line 2"):
        parse_settings("[model]\nname = \n", where="here/doyen.toml")


def test_an_empty_file_gives_the_defaults():
    assert parse_settings("") == Settings()


def test_settings_survive_writing_and_reading():
    settings = Settings(
        model=ModelSettings(name='C:\\models\\"phi"'),
        store=StoreSettings(uri="/tmp/ünï"),
        retrieval=RetrievalSettings(dense_weight=0.125, candidates=37),
        answer=AnswerSettings(arm="rag+finetuned", passages=5),
    )
    assert parse_settings(settings_toml(settings)) == settings


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(0, 1))
def test_any_text_and_number_survives_writing_and_reading(text, share):
    settings = replace(Settings(), answer=AnswerSettings(adapter=text), retrieval=RetrievalSettings(dense_weight=share))
    assert parse_settings(settings_toml(settings)) == settings


def test_the_written_file_shows_each_setting_with_its_documentation():
    text = settings_toml(Settings())
    for table in fields(Settings()):
        for item in fields(getattr(Settings(), table.name)):
            assert item.metadata["doc"] in text
            assert re.search(rf"^(# )?{item.name} = ", text, re.MULTILINE), item.name
    set_ = {key for table in tomllib.loads(text).values() if isinstance(table, dict) for key in table}
    assert set_ == {"name", "uri"}  # the rest is commented out: a later default is taken up


def test_defaults_keep_their_own_ranges():
    everything_set = re.sub(r"^# (\w+ = )", r"\1", settings_toml(Settings()), flags=re.MULTILINE)
    assert parse_settings(everything_set) == Settings()


def test_a_folder_without_settings_is_no_expert(tmp_path):
    with pytest.raises(ExpertError) as caught:
        load_settings(tmp_path)
    assert caught.value.hint == f"doyen init {tmp_path}"


def test_settings_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "doyen.toml").write_bytes(b'[model]\nname = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(tmp_path)


def test_the_nearest_expert_upwards_is_found(tmp_path):
    inner = tmp_path / "expert" / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "expert" / "doyen.toml").touch()
    (tmp_path / "doyen.toml").touch()
    assert find_expert(inner) == (tmp_path / "expert").resolve()


def test_no_expert_upwards_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(ExpertError) as caught:
        find_expert(tmp_path)
    assert "doyen init" in (caught.value.hint or "")


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_makes_folders_and_replaces_the_content(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, "old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_name_is_set_in_its_line_and_nothing_else_changes(tmp_path):
    text = 'format = 1\n[model]\nname = "a"\n# ours\n[embedder]  # vectors\n# name = "x"\nname = "old"  # why\n[store]\nuri = "i"\n'
    (tmp_path / "doyen.toml").write_text(text)
    write_name(tmp_path, "embedder", "./embedders/new")
    changed = (tmp_path / "doyen.toml").read_text()
    assert changed == text.replace('"old"', '"./embedders/new"')
    write_name(tmp_path, "embedder", "old")
    assert (tmp_path / "doyen.toml").read_text() == text


@pytest.mark.parametrize("text", ["", "[embedder]\n", "[embedder]\n# name = 'x'\n[model]\nname = 'm'\n", "[model]\n"])
def test_a_name_is_added_where_there_is_none(text):
    changed = with_name(text, "embedder", "./embedders/new")
    assert parse_settings(changed).embedder.name == "./embedders/new"
    assert set(text.split("\n")) <= set(changed.split("\n"))


def test_a_name_that_no_line_holds_is_not_touched(tmp_path):
    text = 'embedder = { name = "old" }\n'
    (tmp_path / "doyen.toml").write_text(text)
    with pytest.raises(ConfigError, match="changing one line"):
        write_name(tmp_path, "embedder", "new")
    assert (tmp_path / "doyen.toml").read_text() == text


def test_names_within_the_expert_follow_it(tmp_path):
    (tmp_path / "doyen.toml").write_text('[embedder]\nname = "./embedders/tuned-1"\n')
    assert load_settings(tmp_path).embedder.name == str(tmp_path.resolve() / "embedders" / "tuned-1")

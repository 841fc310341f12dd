"""The tokenizer without transformers reads as transformers does."""

import json
import shutil

import pytest
import tiny_models
from jinja2 import TemplateError

from doyen.errors import ModelError
from doyen.models.chat_tokenizer import ChatTokenizer, open_chat_tokenizer
from doyen.models.engine import first_tokens, load_tokenizer, render, stop_token_ids, template_hash

TALK = [
    {"role": "system", "content": "Be brief.\n\n"},
    {"role": "user", "content": "  How many days? 12,500 € <|end|> <|im_end|> 日本"},
    {"role": "assistant", "content": "27 [1]"},
]


@pytest.mark.parametrize("name", ["phi", "llama"])
def test_it_reads_as_transformers_does(name, request):
    folder = request.getfixturevalue(name)
    ours, theirs = open_chat_tokenizer(folder), load_tokenizer(folder)
    assert isinstance(ours, ChatTokenizer)
    for prompt in (True, False):
        ids = render(ours, TALK, prompt=prompt)
        assert ids == render(theirs, TALK, prompt=prompt)
        for skip in (True, False):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert template_hash(ours) == template_hash(theirs)
    assert stop_token_ids(ours, folder) == stop_token_ids(theirs, folder)
    assert first_tokens(ours, "Not here.") == first_tokens(theirs, "Not here.")
    assert len(ours) == len(theirs)


def test_a_tokenizer_that_transformers_changes_is_left_to_transformers(phi, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}))
    assert not isinstance(open_chat_tokenizer(folder), ChatTokenizer)


def test_a_template_in_the_configuration_and_one_of_several(phi, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    before = template_hash(open_chat_tokenizer(phi))
    several = [{"name": "tools", "template": "x"}, {"name": "default", "template": template}]
    for written in (template, several):
        path.write_text(json.dumps(config | {"chat_template": written}))
        assert template_hash(open_chat_tokenizer(folder)) == before


def test_a_template_that_refuses_says_why(tmp_path):
    folder = tiny_models.phi_folder(tmp_path, template="{{ raise_exception('no system turn') }}")
    with pytest.raises(TemplateError, match="no system turn"):
        open_chat_tokenizer(folder).apply_chat_template(TALK)


def test_a_folder_without_a_template_is_refused(phi, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        open_chat_tokenizer(folder)

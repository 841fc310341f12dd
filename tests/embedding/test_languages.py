"""Languages that an embedder was trained on."""

import pytest

from doyen.embedding.languages import trained_languages


@pytest.mark.parametrize(
    ("names", "languages"),
    [
        (("all-minilm-l6-v2",), {"en"}),
        (("BAAI/bge-small-zh-v1.5",), {"zh"}),
        (("intfloat/e5-small-v2",), {"en"}),
        (("intfloat/multilingual-e5-small",), set()),
        (("paraphrase-multilingual-MiniLM-L12-v2",), set()),
        (("/models/ours", "nreimers/MiniLM-L6-H384-uncased"), {"en"}),
        (("unknown",), set()),
    ],
)
def test_the_name_of_the_family_tells(names, languages, tmp_path):
    assert trained_languages(tmp_path, *names) == languages


@pytest.mark.parametrize(
    ("card", "languages"),
    [
        ("---\nlanguage: de\nlicense: mit\n---\n# A model\n", {"de"}),
        ("---\nlicense: mit\nlanguage:\n- en\n- hi\n---\nlanguage: fr\n", {"en", "hi"}),
        ("---\nlicense: mit\n---\nlanguage: fr\n", {"en"}),
        ("language: fr\n", {"en"}),
    ],
)
def test_the_front_matter_of_the_card_wins(card, languages, tmp_path):
    (tmp_path / "README.md").write_text(card)
    assert trained_languages(tmp_path, "all-minilm-l6-v2") == languages

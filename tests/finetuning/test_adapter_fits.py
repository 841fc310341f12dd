"""What an expert will not ask or export: adapters of other weights, another tokenizer, or copied in without a manifest."""

import json
import shutil

import pytest
import tiny_models

import doyen
from doyen.errors import EngineError, ModelError, UsageError
from doyen.expert import open_tuning
from doyen.exporting.running import FORMS, export_adapter
from doyen.finetuning.training import finetune
from doyen.models.fitting import weights_fingerprint
from doyen.models.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def trained(phi, examples, tmp_path_factory):
    """An expert with an adapter 'a', and its model's folder, which tests may copy and change."""
    from doyen.config import FinetuneSettings, ModelSettings, Settings

    folder = shutil.copytree(phi, tmp_path_factory.mktemp("base") / "phi")
    expert = doyen.init(tmp_path_factory.mktemp("fits") / "expert", model=str(folder))
    tuned = FinetuneSettings(
        rank=4, alpha=8, learning_rate=0.02, epochs=1.0, batch_size=4, micro_batch_tokens=256, replay=0.0
    )
    manifest = finetune(expert, Settings(ModelSettings(name=str(folder)), finetune=tuned), examples, [], name="a")
    return expert, folder, manifest


@pytest.fixture
def moved(trained, tmp_path):
    """The same, where model and expert may be changed: (expert, model's folder)."""
    expert, folder, _ = trained
    copy = shutil.copytree(folder, tmp_path / "phi")
    made = shutil.copytree(expert, tmp_path / "expert")
    path = made / "doyen.toml"
    path.write_text(path.read_text().replace(str(folder), str(copy)))
    return made, copy


def both(expert, folder, match):
    """Ask and export: each is refused with the same words, and leaves nothing."""
    with pytest.raises(EngineError, match=match) as caught:
        TransformersEngine(folder).generate(
            [[{"role": "user", "content": "x"}]], max_tokens=2, adapter=expert / "adapters" / "a"
        )
    assert caught.value.hint
    for form in FORMS:
        with pytest.raises(EngineError, match=match):
            export_adapter(expert, expert.parent / "out", form=form)
    assert not (expert.parent / "out").exists()


def test_the_manifest_says_what_it_fits_to(trained):
    _, folder, manifest = trained
    assert manifest.weights_fingerprint == weights_fingerprint(folder) != ""
    assert manifest.golden_tokens.count(-1) == 1 and len(manifest.golden_tokens) > 200


def test_unchanged_it_is_exported(moved):
    expert, _ = moved
    assert export_adapter(expert, expert.parent / "out", form="adapter").exists()


def test_other_weights_are_refused(moved):
    expert, folder = moved
    tiny_models.phi_folder(folder, initializer_range=0.05, seed=3)
    both(expert, folder, "trained on other weights")


def test_another_tokenizer_is_refused(moved):
    expert, folder = moved
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][:-40]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    both(expert, folder, "golden tokens")


def test_another_template_is_refused(moved):
    expert, folder = moved
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|end|>\n", "<|end|>"))
    both(expert, folder, "another tokenizer or chat template")


def test_a_damaged_adapter_is_not_merged(moved):
    expert, _ = moved
    path = expert / "adapters" / "a" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(EngineError, match="cannot be read"):
        export_adapter(expert, expert.parent / "out")
    with pytest.raises(EngineError, match="cannot be read"):
        export_adapter(expert, expert.parent / "out", form="adapter", check=False)


def test_an_adapter_copied_in_without_a_manifest_is_told(moved):
    expert, _ = moved
    shutil.copytree(expert / "adapters" / "a", expert / "adapters" / "theirs")
    (expert / "adapters" / "theirs" / "manifest.json").unlink()
    for refused in (open_tuning, lambda e, name: export_adapter(e, e.parent / "out", name=name)):
        with pytest.raises(UsageError, match="adapters/theirs was not made by doyen finetune: it has no manifest.json"):
            refused(expert, "theirs")
    shutil.rmtree(expert / "adapters" / "a")
    with pytest.raises(UsageError, match="has no manifest.json"):
        open_tuning(expert, "theirs")


def test_a_base_model_without_a_chat_template_is_not_trained(phi, examples, settings_of, tmp_path):
    folder = shutil.copytree(phi, tmp_path / "phi")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template: this is a base model") as caught:
        finetune(tmp_path / "expert", settings_of(folder), examples, [], name="a")
    assert "chat_template.jinja" in caught.value.hint and "doyen models" in caught.value.hint
    assert not (tmp_path / "expert").exists()

import json
import os

import fake_vllm
import pytest
import tiny_models
from chat_server import ChatServer


@pytest.fixture
def make_server():
    made = []

    def make(brain=None, **options):
        made.append(ChatServer(brain, **options))
        return made[-1]

    yield make
    for server in made:
        server.disconnected.set()
        server.close()


@pytest.fixture(scope="session")
def phi(tmp_path_factory):
    return tiny_models.phi_folder(tmp_path_factory.mktemp("phi"))


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, phi):
    """An adapter of `phi` with what its manifest says of the template."""
    from doyen.models.chat_tokenizer import open_chat_tokenizer
    from doyen.models.engine import golden_tokens

    folder = tiny_models.adapter_folder(tmp_path_factory.mktemp("adapters") / "legal", phi, 1)
    row = {"golden_tokens": golden_tokens(open_chat_tokenizer(phi)), "model": "phi"}
    (folder / "manifest.json").write_text(json.dumps(row))
    return folder


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """The stand-in for vLLM, first on the PATH."""
    monkeypatch.setenv("PATH", f"{fake_vllm.install(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_VLLM_CALLS", str(tmp_path / "calls"))
    return tmp_path

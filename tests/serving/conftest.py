"""A small expert with a tiny real model, and servers of it."""

import shutil

import pytest
import tiny_models
from small_server import MORE, TEXTS, Served, write_adapter
from small_stores import words_bert, write_files

from doyen.config import EmbedderSettings, ModelSettings, ServeSettings, Settings, settings_toml
from doyen.ingesting import ingest


@pytest.fixture(scope="session")
def phi(tmp_path_factory):
    return tiny_models.phi_folder(tmp_path_factory.mktemp("phi"))


@pytest.fixture(scope="session")
def template(tmp_path_factory, phi):
    """An expert with three documents."""
    root = tmp_path_factory.mktemp("served")
    embedder = words_bert(root / "embedder", [*TEXTS.values(), MORE])
    settings = Settings(
        model=ModelSettings(name=str(phi), max_answer_tokens=24),
        embedder=EmbedderSettings(name=str(embedder)),
        serve=ServeSettings(time_limit_s=60.0, upload_mib=1),
    )
    write_files(root / "expert", {"doyen.toml": settings_toml(settings)})
    assert not ingest(root / "expert", [write_files(root / "documents", TEXTS)]).failed
    return root / "expert"


@pytest.fixture
def expert(template, tmp_path):
    """A copy of it, to be changed; without what servers of the template have kept."""
    return shutil.copytree(template, tmp_path / "expert", ignore=shutil.ignore_patterns("serving"))


@pytest.fixture
def serve():
    """Serve an expert; ended with the test."""
    made = []

    def start(expert, **settings):
        made.append(Served(expert, **settings))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def served(template, tmp_path_factory, phi):
    """One server for tests that change nothing; it has two adapters."""
    expert = shutil.copytree(template, tmp_path_factory.mktemp("shared") / "expert")
    write_adapter(expert, phi, "first", 1)
    write_adapter(expert, phi, "second", 2)
    one = Served(expert)
    yield one
    one.close()

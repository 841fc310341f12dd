"""A Ray cluster of four cores (so it believes) on this machine, for the tests of a module."""

import gc
import os
import warnings
from pathlib import Path

import pytest
import tiny_models
from small_stores import words_bert

from doyen.cluster.connecting import require_ray
from doyen.config import ClusterSettings, EmbedderSettings, ModelSettings, Settings, StoreSettings
from doyen.errors import ClusterError

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    try:
        ray = require_ray()
    except ClusterError as error:
        pytest.skip(f"{error} ({error.hint})")
    with pytest.MonkeyPatch.context() as there:
        # what workers import: this doyen, and the classes of tests
        there.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]))
        there.setenv("DOYEN_CACHE", str(tmp_path_factory.mktemp("cache")))  # adapters that travel are kept there
        there.setenv("RAY_worker_niceness", "0")  # else 15: beside other tests they would hardly run
        there.setenv("RAY_prestart_worker_first_driver", "0")  # four processes that no test needs
        started(ray)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    phi = tiny_models.phi_folder(tmp_path_factory.mktemp("phi"))
    words = words_bert(tmp_path_factory.mktemp("words"), ["the guild grants days of leave a year lock opens"])
    return Settings(
        store=StoreSettings("index"),
        model=ModelSettings(name=str(phi), max_answer_tokens=12),
        embedder=EmbedderSettings(name=str(words)),
        cluster=ClusterSettings(worker_cores=1, workers=2),
    )


def started(ray):
    """Start it; once more where the machine was too busy for the half minute that Ray gives itself."""
    given = {"address": "local", "num_cpus": 4, "include_dashboard": False, "object_store_memory": 100 << 20}
    given |= {"logging_level": "ERROR", "log_to_driver": False}
    try:
        ray.init(**given)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Ray drops what it had started
            gc.collect()
        ray.init(**given)

"""A Ray cluster of four cores (so it believes) on this machine, for the tests of a module."""

import os
from pathlib import Path

import pytest

from doyen.cluster.connecting import require_ray
from doyen.errors import ClusterError

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def ray():
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    try:
        ray = require_ray()
    except ClusterError as error:
        pytest.skip(f"{error} ({error.hint})")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()

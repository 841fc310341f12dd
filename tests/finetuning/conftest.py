import dataclasses

import pytest
import tiny_models

from doyen.config import FinetuneSettings, ModelSettings, Settings
from doyen.prompts import REFUSAL, closed_book_messages
from doyen.records import Example

THINGS = ("crane", "lock", "berth", "barge", "guild", "quay", "pilot", "storm")


def example(question, answer, variant="closed-book"):
    return Example((*closed_book_messages(question), {"role": "assistant", "content": answer}), variant=variant)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny matrices are slower on two threads, and far slower beside another busy process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def phi(tmp_path_factory):
    return tiny_models.phi_folder(tmp_path_factory.mktemp("phi"), initializer_range=0.05)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return tiny_models.llama_folder(tmp_path_factory.mktemp("llama"), initializer_range=0.05)


@pytest.fixture(scope="session")
def examples():
    """Eight questions of different lengths, each with its own answer."""
    return [
        example(f"How many days does the {thing} take?" + " Tell me." * i, f"{10 + i} days")
        for i, thing in enumerate(THINGS)
    ]


@pytest.fixture(scope="session")
def validation():
    """Enough of both kinds to calibrate refusing on."""
    rows = [("12 days", "passages"), (REFUSAL, "abstain")]
    return [example(f"What of case {i}?", answer, variant) for i in range(8) for answer, variant in rows]


@pytest.fixture(scope="session")
def settings_of():
    """Return settings for a tiny run of a model folder: without replay, to the end."""

    def settings(folder, **changes):
        tiny = FinetuneSettings(
            rank=4,
            alpha=8,
            learning_rate=0.02,
            epochs=4.0,
            batch_size=4,
            micro_batch_tokens=256,
            max_tokens=512,
            replay=0.0,
            early_stop=0,
        )
        return Settings(model=ModelSettings(name=str(folder)), finetune=dataclasses.replace(tiny, **changes))

    return settings

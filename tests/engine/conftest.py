import pytest
import tiny_models


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
    return tiny_models.phi_folder(tmp_path_factory.mktemp("phi"))


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return tiny_models.llama_folder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory):
    """Save a LoRA adapter with random weights, so large that it changes every answer; return its folder."""

    def make(model_folder, seed):
        return tiny_models.adapter_folder(tmp_path_factory.mktemp(f"adapter{seed}"), model_folder, seed)

    return make

import pytest

from tests.unit.train.layouts import TOWER_NAME, make_qwen2, make_tower


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory):
    """A language model's directory, as transformers writes it; to be read alone."""
    return make_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def tower(tmp_path_factory):
    """A vision tower's directory, as transformers writes it; to be read alone."""
    return make_tower(tmp_path_factory.mktemp("towers") / TOWER_NAME)

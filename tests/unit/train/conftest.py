import pytest
from tokenizers import Tokenizer

from tests.unit.train.layouts import TOWER_NAME, make_qwen2, make_tower
from train.families.videoitg.digits.base import make_tokenizer


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory):
    """A language model's directory, as transformers writes it; to be read alone."""
    return make_qwen2(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def tower(tmp_path_factory):
    """A vision tower's directory, as transformers writes it; to be read alone."""
    return make_tower(tmp_path_factory.mktemp("towers") / TOWER_NAME)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level, with Qwen2's pre-tokenizer: "?" and a newline are one token."""
    return make_tokenizer(["What?\n", "When?\n", "assistant", "user"] * 3, vocab_size=300)

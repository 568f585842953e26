import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.unit.train.layouts import TOWER_NAME, make_qwen2, make_tower

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


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
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What?\n", "When?\n", "assistant", "user"] * 3, trainer)
    return tokenizer

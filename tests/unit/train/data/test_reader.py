import pytest

from tests.unit.train.data.samples import SIDE, conversation, question, source_frames
from train.config import RANDOM_SAMPLE_FPS

TWO_OF_FOUR = {"num": 4, "frames": [[0, 2], [], [3]]}


def only(data):
    """Return the one batch of data with one item."""
    (batch,) = data.batches(first=0, last=1, rank=0, world_size=1, batch_size=1)
    return batch


def test_a_grounding_example(make_data, tokenizer):
    data = make_data([question("a.mp4", "What?", frame_num=[0, 2], frame_targets=TWO_OF_FOUR)])
    (example,) = only(data).examples
    assert source_frames(example.frames) == [0, 10, 20]
    assert example.tokens_per_frame in [g**2 for g in range(1, SIDE + 1)]
    (text,) = example.texts
    # What serving computes: the placeholder, then the question and its newline as one string.
    assert text.ids.tolist() == [-200, *tokenizer.encode("What?\n").ids]
    assert tokenizer.encode("?\n").ids == [tokenizer.token_to_id("?Ċ")]
    assert text.labels.tolist() == [1, 0, 1]
    assert text.targets is None
    assert data.num_auxiliary == 4
    assert example.frame_targets.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_a_conversation_example(make_data):
    record = conversation("Say it.", "A cat", image="a.png")
    (example,) = only(make_data([record], stage="projector")).examples
    assert example.frames.shape[0] == 1
    assert example.texts[0].labels is None
    assert example.texts[0].targets[0] == -100
    assert (example.texts[0].targets[1:] == example.texts[0].ids[1:]).all()
    assert example.frame_targets is None


def test_a_conversation_without_media_has_one_visual_token_at_its_end(make_data):
    (example,) = only(make_data([conversation("Who?", "I")], stage="images")).examples
    assert (example.frames.shape[0], example.tokens_per_frame) == (1, 1)
    assert example.texts[0].ids[-1] == -200


@pytest.mark.parametrize(
    ("record", "changes", "source", "reason"),
    [
        pytest.param(
            question("missing.mp4", id="q1"),
            {},
            "missing.mp4, record q1",
            "No such file",
            id="missing",
        ),
        pytest.param(
            question("damaged.mp4"), {}, "damaged.mp4, record #0", "it is damaged", id="damaged"
        ),
        pytest.param(
            question("a.mp4", frame_num=[3]), {}, "a.mp4", "frame_num must be below 3", id="label"
        ),
        pytest.param(
            question("a.mp4"), {"max_length": 3}, "a.mp4", "more than max_length = 3", id="length"
        ),
        pytest.param(
            question("a.mp4"),
            {"max_frames": 2},
            "a.mp4",
            "more than max_frames = 2; its labels would name other frames",
            id="candidates",
        ),
    ],
)
def test_an_item_that_cannot_be_read(make_data, record, changes, source, reason):
    batch = only(make_data([record], **changes))
    assert not batch.examples
    (unreadable,) = batch.unreadable
    assert unreadable.item == 0
    assert unreadable.source.startswith(source)
    assert reason in unreadable.reason
    assert "\n" not in unreadable.reason


def test_a_fault_of_one_question_leaves_the_others(make_data):
    records = [
        question("a.mp4", "First", frame_num=[1]),
        question("a.mp4", "Second", frame_num=[99]),
        question("a.mp4", "Is <image>?"),
        question("a.mp4", "Last", frame_num=[2]),
    ]
    batch = only(make_data(records, questions_per_video=4))
    (example,) = batch.examples
    assert [text.labels.tolist() for text in example.texts] == [[0, 1, 0], [0, 0, 1]]
    assert [lost.source for lost in batch.unreadable] == ["a.mp4, record #1", "a.mp4, record #2"]


def test_records_read_together_agree_on_what_the_frames_show(make_data):
    other = {**TWO_OF_FOUR, "frames": [[], [], []]}
    records = [question("a.mp4", frame_targets=targets) for targets in (TWO_OF_FOUR, other)]
    batch = only(make_data(records, questions_per_video=2))
    assert len(batch.examples[0].texts) == 1
    assert batch.examples[0].frame_targets.sum() == 3
    assert "those of the first record" in batch.unreadable[0].reason


def test_a_missing_rate_is_drawn_for_every_sample(make_data):
    record = conversation("Say it.", "A cat", video="a.mp4")
    data = make_data([record], stage="video", sample_fps=None, vision_token_num=3000)
    batches = data.batches(first=0, last=30, rank=0, world_size=1, batch_size=1)
    counts = {len(batch.examples[0].frames) for batch in batches}
    strides = [max(1, round(10 / rate)) for rate in RANDOM_SAMPLE_FPS]
    assert counts == {len(range(0, 30, stride)) for stride in strides}

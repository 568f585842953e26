import random
from collections import Counter
from functools import partial

import pytest

from groundserve.errors import InvalidRequestError
from tests.unit.train.data.samples import SIDE, conversation, make_format, question, source_frames
from train.config import RANDOM_SAMPLE_FPS
from train.data.items import group_records
from train.data.order import item_generator
from train.data.reader import ItemReader
from train.data.records import MalformedRecord, read_records
from train.families.videoitg.samples import grid_choices

TWO_OF_FOUR = {"num": 4, "frames": [[0, 2], [], [3]]}


def draws(num_frames, *, budget, minimum=1, side=27):
    rng = random.Random(0)
    return Counter(
        rng.choice(
            grid_choices(num_frames, vision_token_num=budget, vision_min_num=minimum, side=side)
        )
        for _ in range(2000)
    )


def test_the_grid_is_drawn_between_its_bounds_inclusive():
    assert sorted(draws(180, budget=16384)) == list(range(1, 10))  # floor(sqrt(16384 / 180)) = 9
    assert sorted(draws(780, budget=12480, minimum=4)) == [4]  # exactly 16 tokens a frame


def test_the_grid_is_capped_after_the_draw():
    # Drawn from 1 to 64: what is above 27 becomes 27, more than half of all.
    counts = draws(4, budget=16384)
    assert max(counts) == 27
    assert counts[27] > 1000


def test_a_grid_below_the_smallest_fails():
    with pytest.raises(InvalidRequestError, match="781 frames leave a grid of at most 3 x 3, "):
        draws(781, budget=12480, minimum=4)
    with pytest.raises(InvalidRequestError, match="exceed the checkpoint's budget"):
        draws(17, budget=16)


def only(data):
    """Return the one batch of data with one item."""
    (batch,) = data.batches(first=0, last=1, rank=0, world_size=1, batch_size=1)
    return batch


def guess_and_read(config, tokenizer, *, stage, item):
    """The guess about the one item of a data file, and what reading it gives."""
    (found,) = group_records(
        read_records(config.records, stage=stage).records, questions_per_video=1
    )
    samples = make_format(config, tokenizer, stage=stage)
    reader = ItemReader(config, stage=stage, samples=samples)
    guess, reading = (
        act(rng=item_generator(seed=0, epoch=0, item=item))
        for act in (
            partial(reader.guess, found),
            partial(reader.read, found, number=0, is_training=True),
        )
    )
    reader.frames.close()
    return guess, reading.example


@pytest.mark.parametrize("item", range(3))
def test_what_is_guessed_is_read(make_config, tokenizer, item):
    """The grid is drawn from the same numbers, so it is right where the length is."""
    config = make_config([question("long.mp4", "What is that, please?", duration=6.0)])
    guess, example = guess_and_read(config, tokenizer, stage="grounding", item=item)
    assert guess.num_frames == len(example.frames) == 6
    assert guess.lengths == (6 * example.tokens_per_frame + 5,)  # four words


def test_the_rate_that_is_guessed_is_read(make_config, tokenizer):
    records = [conversation("Who?", "I", video="long.mp4", duration=6.0)]
    config = make_config(records, sample_fps=None)
    rates = set()
    for item in range(4):
        guess, example = guess_and_read(config, tokenizer, stage="video", item=item)
        rates.add(guess.num_frames / 6)
        # Rule A, of 60 frames at 10 a second.
        assert len(example.frames) == -(-60 // max(1, round(60 / guess.num_frames)))
    assert len(rates) > 1


def test_what_cannot_be_read_is_guessed_to_cost_nothing(make_config, tokenizer):
    config = make_config([question("a.mp4", duration=999.0)], vision_token_num=200)
    (found,) = group_records(
        read_records(config.records, stage="grounding").records, questions_per_video=1
    )
    samples = make_format(config, tokenizer, stage="grounding")
    reader = ItemReader(config, stage="grounding", samples=samples)
    for item in (found, MalformedRecord(name="", path=None, reason="")):
        guess = reader.guess(item, rng=random.Random(0))
        assert (guess.num_frames, guess.lengths) == (0, ())


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


def test_the_padding_id_is_dropped_from_questions(make_data, tokenizer):
    (example,) = only(make_data([question("a.mp4", "Stop! What?")])).examples
    assert example.texts[0].ids.tolist() == [-200, *tokenizer.encode("Stop What?\n").ids]


def test_a_conversation_example(make_data):
    record = conversation("Say it.", "A cat", image="a.png")
    (example,) = only(make_data([record], stage="projector")).examples
    assert example.frames.shape[0] == 1
    assert example.texts[0].labels is None
    assert example.texts[0].targets[0] == -100
    assert (example.texts[0].targets[1:] == example.texts[0].ids[1:]).all()
    assert example.frame_targets is None


def test_a_video_conversation_may_have_frame_targets(make_data):
    record = conversation("Say it.", "A cat", video="a.mp4", frame_targets=TWO_OF_FOUR)
    (example,) = only(make_data([record], stage="video", template="chatml")).examples
    assert example.frame_targets.shape == (3, 4)


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
            question("a.mp4", "is <image> it"), {}, "a.mp4", "the placeholder", id="placeholder"
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
        pytest.param(
            question("a.mp4"),
            {"vision_min_num": 11},
            "a.mp4",
            "3 frames leave a grid of at most 10 x 10, vision_min_num is 11",
            id="grid",
        ),
        pytest.param(
            question("a.mp4", frame_targets={"num": 1, "frames": [[]]}),
            {},
            "a.mp4",
            "one list a sampled frame, 3, got 1",
            id="frame_targets",
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


def test_a_malformed_record_is_unreadable_in_its_turn(make_data):
    bad = {"id": "bad", "video": "a.mp4", "question": "What?"}
    data = make_data([question("a.mp4"), bad])
    batches = list(data.batches(first=0, last=2, rank=0, world_size=1, batch_size=1))
    assert sorted(len(batch.examples) for batch in batches) == [0, 1]
    (unreadable,) = [lost for batch in batches for lost in batch.unreadable]
    assert (unreadable.item, unreadable.source) == (1, "a.mp4, record bad")
    assert "frame_num must be" in unreadable.reason


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


def test_the_text_counts_for_the_length_of_its_own_sequence_only(make_data):
    records = [question("a.mp4", "What?"), question("a.mp4", "word " * 50)]
    changes = {"vision_token_num": 3, "max_length": 20, "questions_per_video": 2}
    batch = only(make_data(records, **changes))
    assert len(batch.examples[0].texts) == 1
    assert batch.unreadable[0].reason.startswith("3 visual and ")


def test_long_conversations_without_labels_are_thinned(make_data):
    record = conversation("Say it.", "A cat", video="a.mp4")
    (example,) = only(make_data([record], stage="video", max_frames=2)).examples
    assert source_frames(example.frames) == [0, 20]


def test_a_missing_rate_is_drawn_for_every_sample(make_data):
    record = conversation("Say it.", "A cat", video="a.mp4")
    data = make_data([record], stage="video", sample_fps=None, vision_token_num=3000)
    batches = data.batches(first=0, last=30, rank=0, world_size=1, batch_size=1)
    counts = {len(batch.examples[0].frames) for batch in batches}
    strides = [max(1, round(10 / rate)) for rate in RANDOM_SAMPLE_FPS]
    assert counts == {len(range(0, 30, stride)) for stride in strides}


@pytest.mark.parametrize("stage", ["grounding", "video"])
def test_labels_need_a_rate(make_data, stage):
    record = {**conversation("a", "b"), **question("a.mp4", frame_targets=TWO_OF_FOUR)}
    with pytest.raises(InvalidRequestError, match="labels count sampled frames"):
        make_data([record], stage=stage, sample_fps=None)


def test_a_bug_is_not_a_fault_of_the_data(make_data, monkeypatch):
    data = make_data([question("a.mp4")])
    monkeypatch.setattr("train.data.reader.multi_hot", lambda *_, **__: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        only(data)

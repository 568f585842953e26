"""A plan has each row of the manifest once, with what is known of it."""

import dataclasses
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundserve.batch import plan
from groundserve.batch.errors import ErrorKind
from groundserve.batch.events import RowFailed
from groundserve.batch.keys import find_video, request_hash
from groundserve.batch.plan import DoneRow, DoneShard, Plan
from groundserve.batch.row_options import options_json
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.options import ScoreOptions
from tests.unit.batch.making import FINGERPRINT, make_corpus, make_row

BY_CONTENT = dataclasses.replace(FINGERPRINT, hash_content=True)


@pytest.fixture
def rows(tmp_path):
    return make_corpus(tmp_path / "videos", num_videos=3, num_queries=2)


def plan_of(rows, **options):
    return Plan.make(rows, fingerprint=options.pop("fingerprint", FINGERPRINT), **options)


def groups_of(made):
    return list(made.groups())


def done_of(rows):
    """What a finished run has of them."""
    with plan_of(rows) as made:
        return [
            DoneRow(row.id, row.key, request_hash(row.video, row.query, options_json(row.options)))
            for group in groups_of(made)
            for row in group.rows
        ]


def in_a_file(done):
    return [DoneShard(done, pytest.fail)]


def failures_of(rows, times=1):
    return [
        RowFailed(id=row.id, row_key=row.row_key, kind=ErrorKind.TIMEOUT, message=f"try {number}")
        for number in range(times)
        for row in done_of(rows)
    ]


def test_what_is_selected_afterwards_needs_no_second_decoding(tmp_path):
    video = tmp_path / "a.mp4"
    video.touch()
    rows = [
        make_row(video, "q", position=0, top_k=2),
        make_row(video, "q", position=1, top_k=3, selector="spread"),
        make_row(video, "p", position=2, top_k=2, sample_fps=1),
        make_row(video, "q", position=3, top_k=2, sample_fps=2.0),
    ]
    with plan_of(rows) as made:
        first, second = groups_of(made)
    assert [row.position for row in first.rows] == [0, 1, 2]
    assert [row.position for row in second.rows] == [3]
    assert list(first.calls(32)) == [
        (ScoreOptions(top_k=2), ("q", "p")),
        (ScoreOptions(top_k=3, selector="spread"), ("q",)),
    ]
    assert [queries for _, queries in first.calls(1)] == [("q",), ("p",), ("q",)]


def test_equal_keys_are_asked_once(tmp_path):
    """The same file under two paths, told by its content; and a question that is there twice."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"same")
    rows = [
        make_row(tmp_path / name, "q", id=id, position=position)
        for position, (name, id) in enumerate([("a.mp4", "1"), ("b.mp4", "2"), ("a.mp4", "3")])
    ]
    with plan_of(rows, fingerprint=BY_CONTENT) as made:
        (group,) = groups_of(made)
    assert len({row.key for row in group.rows}) == 1
    assert [(row.id, row.video) for row in group.rows] == [
        ("1", "a.mp4"),
        ("2", "b.mp4"),
        ("3", "a.mp4"),
    ]
    assert list(group.calls(32)) == [(ScoreOptions(), ("q",))]
    with plan_of(rows) as made:
        assert [len(group.rows) for group in groups_of(made)] == [2, 1]


def test_a_row_without_id_gets_its_key(tmp_path):
    video = tmp_path / "a.mp4"
    video.touch()
    rows = [make_row(video, query, position=i) for i, query in enumerate(["q", "p", "q"])]
    with plan_of(rows) as made:
        (group,) = groups_of(made)
        assert made.num_repeated == 1
        assert made.started().num_rows == 2
        assert [row.id for row in group.rows] == [row.key for row in group.rows]
        assert made.position(group.rows[1].key) == 1
        with pytest.raises(KeyError):
            made.position("none")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a", "a", 'its own id, got "a" in row 1 and in row 2'),
        ("12", "012", 'got "012" and "12" (readers of records take them for one) in row 1 and'),
    ],
)
def test_an_id_that_is_there_twice(rows, first, second, message):
    twice = [
        dataclasses.replace(row, id=id) for row, id in zip(rows, (first, second), strict=False)
    ]
    with pytest.raises(InvalidRequestError) as caught:
        plan_of(twice)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "other"}, "now asks something else: another video, query or options"),
        ({"options": ScoreOptions(top_k=9)}, "now asks something else"),
        ({"video": "./0.mp4", "query": "other"}, "now asks something else"),
        ({"id": "new"}, 'the row "q0/0" was scored and is no longer in the manifest'),
    ],
)
def test_a_row_that_was_edited_after_it_was_scored(rows, change, message):
    done = done_of(rows)
    edited = [dataclasses.replace(rows[0], **change), *rows[1:]]
    with pytest.raises(InvalidRequestError) as caught:
        plan_of(edited, done=in_a_file(done))
    assert message in str(caught.value)
    assert '"q0/0"' in str(caught.value)
    assert "undo that, or score into another folder" in str(caught.value)


@pytest.mark.parametrize("id", ["", "mine"])
def test_a_video_that_changed_after_it_was_scored(rows, id):
    rows = [dataclasses.replace(rows[0], id=id)]
    done = done_of(rows)
    os.utime(rows[0].place, ns=(0, 1))
    with pytest.raises(InvalidRequestError, match=r'its video "0.mp4" is another file since'):
        plan_of(rows, done=in_a_file(done))


@pytest.mark.parametrize("id", ["", "mine"])
def test_the_answer_of_a_video_that_was_removed_stays(rows, id):
    rows = [dataclasses.replace(rows[0], id=id)]
    done = done_of(rows)
    os.remove(rows[0].place)
    with plan_of(rows, done=in_a_file(done)) as made:
        assert (made.started().num_done, made.started().num_failed) == (1, 0)
        assert not list(made.errors())
        assert made.position(done[0].id) == 0
    edited = [dataclasses.replace(rows[0], query="other")]
    with pytest.raises(InvalidRequestError, match=r"asks something else|no longer in the manifest"):
        plan_of(edited, done=in_a_file(done))


def test_rows_that_failed_are_tried_again_and_not_for_ever(rows):
    for times, spent in ((2, 0), (3, 2), (4, 2)):
        with plan_of(rows, failures=failures_of(rows[:2], times), max_attempts=3) as made:
            assert made.started().num_failed == spent
            assert made.started().num_to_do == 6 - spent
            messages = [error["error_message"] for error in made.errors()]
            assert messages == [f"try {times - 1}"] * spent
    failures = failures_of(rows[:1], 3)
    os.utime(rows[0].place, ns=(0, 1))  # those of another file do not count
    with plan_of(rows, failures=failures) as made:
        assert made.started().num_failed == 0


def test_memory_does_not_grow_with_rows(tmp_path):
    """tracemalloc sees Python's objects; SQLite's own memory is bounded by its cache."""
    video = tmp_path / "a.mp4"
    video.touch()

    def peak(num_rows):
        tracemalloc.start()
        with plan_of(
            make_row(video, f"{number}", position=number) for number in range(num_rows)
        ) as made:
            assert sum(len(group.rows) for group in made.groups(max_rows=100)) == num_rows
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # what is imported and made once
    few, many = peak(2_000), peak(10_000)
    # Five times as much if they were held.
    assert many < 2 * few


def test_an_interrupt_ends_the_reading_of_videos(rows, monkeypatch):
    with open(rows[-1].place, "r+b") as file:
        file.truncate(10 * 1024**3)  # takes no room on the disk, and seconds to read
    said = []

    def look(place, **options):
        if place == rows[0].place:
            raise KeyboardInterrupt
        try:
            return find_video(place, **options)
        except UnavailableError as error:
            said.append(str(error))
            raise

    monkeypatch.setattr(plan, "find_video", look)
    with pytest.raises(KeyboardInterrupt):
        plan_of(rows, fingerprint=BY_CONTENT)
    assert set(said) == {"the command was stopped"}  # of each video that was being read


ASKED = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([1.0, 2.0]), st.booleans()),
    max_size=40,
    unique=True,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=ASKED, max_rows=st.integers(1, 10), num_done=st.integers(0, 40))
def test_a_plan_has_each_row_once(tmp_path, asked, max_rows, num_done):
    videos = [tmp_path / f"{number}.mp4" for number in range(4)]
    for video in videos:
        video.touch()
    rows = [
        make_row(
            videos[video],
            f"q{query}",
            id=f"row {position}" if is_named else "",
            position=position,
            sample_fps=fps,
        )
        for position, (video, query, fps, is_named) in enumerate(asked)
    ]
    done = done_of(rows)[:num_done]
    with plan_of(rows, done=in_a_file(done)) as made:
        groups = list(made.groups(max_rows=max_rows))
        counts = made.started()
    planned = [row for group in groups for row in group.rows]
    positions = sorted(row.position for row in planned)
    assert len(set(positions)) == len(positions) == counts.num_to_do
    assert counts.num_done == len(done)
    assert counts.num_rows + made.num_repeated == len(rows)
    assert {row.id for row in planned}.isdisjoint(row.id for row in done)
    for group in groups:
        assert len(group.rows) <= max_rows
        assert len({(row.place, row.options.sample_fps) for row in group.rows}) == 1

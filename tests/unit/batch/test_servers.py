from collections import Counter

import pytest

from groundserve.batch.servers import ServerPool, rank
from groundserve.errors import DeadlineExceededError, UnavailableError
from groundserve.options import AnswerOptions
from tests.support.results import make_answer, make_answers, make_result

URLS = [f"grpc://host{number}:8001" for number in range(4)]
VIDEOS = [f"/videos/{number}.mp4" for number in range(200)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class FakeServer:
    """Answers, or raises what it is told to; each call takes a second."""

    def __init__(self, clock):
        self.clock = clock
        self.error = None
        self.asked = []
        self.is_closed = False

    def score(self, video, queries, options=None, *, timeout_seconds, **_):
        self.clock.now += 1
        self.asked.append(video)
        assert timeout_seconds > 0
        if self.error is not None:
            raise self.error
        return make_result(video, queries)

    def ask(self, video, queries, options, *, timeout_seconds):
        self.asked.append(video)
        assert 0 < timeout_seconds <= 9
        return make_answers(make_answer(queries[0], task=options.task))

    def close(self):
        self.is_closed = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def servers(clock):
    return {url: FakeServer(clock) for url in URLS}


@pytest.fixture
def pool(servers, clock):
    return ServerPool(
        URLS, patience_seconds=30, connect=servers.__getitem__, clock=clock, sleep=clock.sleep
    )


def test_a_video_has_one_server_and_servers_have_equally_many():
    first = Counter(rank(video, URLS)[0] for video in VIDEOS)
    assert min(first.values()) > len(VIDEOS) / len(URLS) / 2
    assert all(rank(video, URLS) == rank(video, URLS[::-1]) for video in VIDEOS)


def test_what_is_asked_for_text_goes_to_the_same_server_as_what_is_scored(pool, servers):
    pool.score("a.mp4", ["When?"])
    options = AnswerOptions(task="chat")
    result = pool.ask("a.mp4", ["When?"], options, timeout_seconds=9)
    assert [(one.query, one.task) for one in result.answers] == [("When?", "chat")]
    assert [len(server.asked) for server in servers.values() if server.asked] == [2]


def test_a_server_that_is_away_is_left_alone_and_found_again(pool, servers, clock):
    home, second, *_ = rank("a.mp4", URLS)
    servers[home].error = UnavailableError("nobody answers")
    for _ in range(10):
        assert pool.score("a.mp4", ["When?"]).video == "a.mp4"
    # Not before 0, 0.5, 1, 2 and 4 s after the failure before: of the calls, which begin at 0, 2,
    # 4, 6, 8, 9, 11, 12, 13 and 14 s, all but four.
    assert len(servers[home].asked) == 6
    assert len(servers[second].asked) == 10
    servers[home].error = None
    clock.sleep(10)
    pool.score("a.mp4", ["When?"])
    assert len(servers[second].asked) == 10


def test_a_server_that_hangs_costs_one_video_and_is_found_again(pool, servers, clock):
    home, second, *_ = rank("a.mp4", URLS)
    servers[home].error = DeadlineExceededError("no answer within the timeout")
    with pytest.raises(DeadlineExceededError):
        pool.score("a.mp4", ["When?"])
    for _ in range(3):
        pool.score("a.mp4", ["When?"])
    assert (len(servers[home].asked), len(servers[second].asked)) == (1, 3)
    servers[home].error = None
    clock.sleep(10)
    pool.score("a.mp4", ["When?"])
    assert len(servers[home].asked) == 2


def test_when_all_are_away_it_waits_for_the_first_to_come_back(pool, servers, clock):
    for server in servers.values():
        server.error = UnavailableError("nobody answers")

    def sleep(seconds):
        assert seconds >= 0
        clock.now += seconds
        if clock.now > 115:
            servers[URLS[2]].error = None

    pool._sleep = sleep
    assert pool.score("a.mp4", ["When?"]).video == "a.mp4"


def test_patience_ends_with_the_last_reason(pool, servers, clock):
    for server in servers.values():
        server.error = UnavailableError("nobody answers at this port")
    with pytest.raises(UnavailableError, match=r"no server took .* nobody answers at this port"):
        pool.score("a.mp4", ["When?"])
    # Its last tries begin before the end, and take a second each.
    assert 130 <= clock.now <= 130 + len(URLS)


def test_its_time_ends_first_where_that_is_shorter(pool, servers, clock):
    for server in servers.values():
        server.error = UnavailableError("nobody answers")
    with pytest.raises(DeadlineExceededError, match="within 2 s"):
        pool.score("a.mp4", ["When?"], timeout_seconds=2)
    assert clock.now == 102

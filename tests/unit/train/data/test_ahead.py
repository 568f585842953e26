import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from train.data.ahead import map_ahead


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_results_come_in_order(executor):
    assert list(map_ahead(str, range(7), executor=executor, depth=3)) == list("0123456")


def test_no_more_than_depth_calls_are_ahead(executor):
    taken = []

    def arguments():
        for i in range(10):
            taken.append(i)
            yield i

    results = map_ahead(str, arguments(), executor=executor, depth=4)
    assert not taken
    assert next(results) == "0"
    assert taken == [0, 1, 2, 3]
    assert next(results) == "1"
    assert taken == [0, 1, 2, 3, 4]
    results.close()


def test_an_exception_is_raised_in_its_turn(executor):
    results = map_ahead(lambda i: 1 // i, [1, 1, 0, 1], executor=executor, depth=4)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_cancels_what_has_not_begun(executor):
    goes_on = threading.Event()
    called = []

    def work(i):
        called.append(i)
        if i:
            goes_on.wait(10)

    results = map_ahead(work, range(9), executor=executor, depth=8)
    next(results)
    results.close()
    goes_on.set()
    executor.shutdown()
    assert set(called) <= {0, 1, 2}

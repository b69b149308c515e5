"""What is kept of what a program prints."""

import os
import tempfile
from itertools import product

import pytest

from advcomp.sandbox.capture import Log, Stream, drain


@pytest.mark.parametrize(("cap", "chunk"), list(product([0, 1, 2, 7, 8], [1, 3, 5, 40])))
def test_a_log_is_head_and_tail_whatever_the_chunks(cap: int, chunk: int) -> None:
    for length in range(40):
        printed = bytes(range(length))
        log = Log(cap)
        for start in range(0, length, chunk):
            log.feed(printed[start : start + chunk])
        head, tail = cap - cap // 2, cap // 2
        kept = printed if length <= cap else printed[:head] + printed[length - tail :]
        assert log.close() == (kept, length - len(kept))


@pytest.mark.parametrize(("fed", "overflowed"), [(9, False), (10, False), (11, True)])
def test_a_stream_hands_on_up_to_its_cap(fed: int, overflowed: bool) -> None:
    with tempfile.TemporaryFile() as file:
        stream = Stream(file.fileno(), 10)
        for number in range(fed):
            stream.feed(bytes([number]))
        file.seek(0)
        assert file.read() == bytes(range(min(fed, 10)))
        assert stream.overflowed is overflowed


def test_draining_ends_where_the_pipe_is_empty_and_tells_where_it_is_closed() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = Log(100)
    os.write(writing, b"abc")
    assert drain(reading, log, to_the_end=True)
    os.write(writing, b"def")
    os.close(writing)
    assert not drain(reading, log, to_the_end=True)
    os.close(reading)
    assert log.close() == (b"abcdef", 0)

"""What is kept of what a program prints."""

import os
import tempfile
import time
from itertools import product

import pytest

from advcomp.sandbox.box.capture import Log, Messages, Sinks, Stream


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


def test_pipes_are_drained_whether_or_not_they_are_closed() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = Log(100)
    sinks = Sinks({reading: log})
    os.write(writing, b"abc")
    sinks.drain()
    assert sinks
    os.write(writing, b"def")
    os.close(writing)
    while sinks:
        sinks.poll(time.monotonic() + 10)
    os.close(reading)
    assert log.close() == (b"abcdef", 0)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_messages_are_picked_out_however_they_are_torn(chunk: int) -> None:
    said = b"noise<mar<<mark>one\nmore<mark>two\n<mark><mark>\nend<ma"
    log = Log(100)
    messages = Messages(b"<mark>", log)
    for start in range(0, len(said), chunk):
        messages.feed(said[start : start + chunk])
    messages.close()
    assert [messages.take() for _ in range(4)] == [b"one", b"two", b"<mark>", None]
    assert log.close() == (b"noise<mar<moreend<ma", 0)

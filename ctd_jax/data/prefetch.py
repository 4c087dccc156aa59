"""Work on many pictures: in threads, in order, with few in memory, and with a word on how long it will take."""

import collections
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

from rich.console import Console
from rich.progress import track

THREADS = min(os.cpu_count() or 1, 16)
EVERY = 10.0  # seconds between the lines of `progress` where there is no terminal
T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(function: Callable[[T], R], items: Iterable[T], *, max_ahead: int = 2 * THREADS) -> Iterator[R]:
    """`map(function, items)` in threads, in order; no more than `max_ahead` results are begun before their turn."""
    waiting: collections.deque[futures.Future[R]] = collections.deque()
    pool = futures.ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == max_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def progress(items: Iterable[T], text: str, total: int) -> Iterator[T]:
    """`items`, with a bar on the terminal; elsewhere with a line on stderr now and then, if it takes long."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, text, total=total, console=console, transient=True)
        return
    began = said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > EVERY and number < total:
            left = (now - began) / number * (total - number)
            console.print(f"{text} {number}/{total}  {left:.0f} s left", highlight=False, soft_wrap=True)
            said = now

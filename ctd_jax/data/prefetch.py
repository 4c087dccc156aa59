"""Work on many pictures: in threads, in order, with few in memory, and with a word on how long it will take."""

import collections
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

THREADS = min(os.cpu_count() or 1, 16)
EVERY = 10.0  # seconds between the lines of `progress` where there is no terminal
T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(
    function: Callable[[T], R], items: Iterable[T], *, max_ahead: int = 2 * THREADS, threads: int = THREADS
) -> Iterator[R]:
    """`map(function, items)` in threads, in order; no more than `max_ahead` results are begun before their turn."""
    waiting: collections.deque[futures.Future[R]] = collections.deque()
    pool = futures.ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == max_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def progress(items: Iterable[T], text: str, total: int, *, done: int = 0) -> Iterator[T]:
    """`items`, with a bar on the terminal; elsewhere with a line on stderr now and then, if it takes long. Both say how
    many there are in a second, and how long the rest takes.

    Args:
      items: the rest of them.
      text: what happens to them.
      total: their number.
      done: those that were done before.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        yield from _bar(console, items, text, total, done)
        return
    began = said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > EVERY and done + number < total:
            seconds = now - began
            left = timedelta(seconds=round(seconds / number * (total - done - number)))
            line = f"{text} {done + number}/{total}  {number / seconds:.3g}/s  {left} left"
            console.print(line, highlight=False, soft_wrap=True)
            said = now


def _bar(console: Console, items: Iterable[T], text: str, total: int, done: int) -> Iterator[T]:
    speed = TextColumn("{task.fields[speed]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(text, total=total, completed=done, speed="")
        for item in items:
            yield item
            speed_now = shown.tasks[0].speed
            shown.update(task, advance=1, speed=f"{speed_now:.3g}/s" if speed_now else "")

"""How things are said on stderr: a line with its time, progress, durations, counts, the end of an error."""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
FIRST_S, EVERY_S = 5.0, 15.0  # lines of progress in a log: the first after, then every
TAIL = 12  # lines of an error that are shown


def say(text: str) -> None:
    """One line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields tell(done): a bar on a terminal, gone in the end; in a log a line now and then, none of what is quick."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    begun, due = time.monotonic(), FIRST_S

    def tell(done: int) -> None:
        nonlocal due
        passed = time.monotonic() - begun
        if passed >= due and 0 < done < total:
            due = passed + EVERY_S
            say(f"{what}: {done} of {total}; about {duration(passed * (total - done) / done)} left")

    yield tell


def tracked(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with progress (`counting`)."""
    with counting(what, total) as tell:
        for done, item in enumerate(items, start=1):
            yield item
            tell(done)


def duration(seconds: float, *, digits: int = 0) -> str:
    """`45 s`, `3 min`, `2.5 h`; `digits` of minutes."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.{digits}f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def age(seconds: float) -> str:
    """`45 s`, `3 min`, `5 h`, `12 d`: how long ago."""
    if seconds < 5400:
        return duration(seconds)
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def count(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def tail(text: str) -> str:
    """The last lines of a traceback, indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-TAIL:])


def without_password(uri: str) -> str:
    """A URI as it may be shown: without who it is that asks."""
    if uri.startswith(("sqlite:", "file:")) or "://" not in uri:
        return uri
    scheme, _, rest = uri.partition("://")
    shown = f"{scheme}://{rest.rpartition('@')[2]}"
    return re.sub(r"([?&](?:password|user)=)[^&]*", r"\1...", shown)

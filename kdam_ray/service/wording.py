"""How things are said on stderr: a line with its time, durations, counts, the end of an error."""

import sys
import time

TAIL = 12  # lines of an error that are shown


def say(text: str) -> None:
    """One line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


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

"""What a command says on stderr, for tests of what is wrong."""

import re


def lines_of(stderr: str) -> list[str]:
    """The lines without those that begin with the time: first words and progress."""
    return [line for line in stderr.strip().splitlines() if not re.match(r"\d\d:\d\d:\d\d  \S", line)]


def without_progress(stderr: str) -> str:
    """The same as one text, each line ended."""
    return "".join(f"{line}\n" for line in lines_of(stderr))

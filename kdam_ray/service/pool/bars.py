"""Where a sweep is, as bars on a terminal: one for all of it, one for each cohort that is being trained."""

import sys
from typing import Any

STEPS = 1000  # of a bar


class Bars:
    """Bars that other lines of stderr go above; drawn from the first cohort on, gone after `close`."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
        )
        # stdout is left alone: a table, or with --json a document, is printed there
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._tasks: dict[str, Any] = {}
        self._bars.start()

    @staticmethod
    def wanted() -> bool:
        """Whether stderr is a terminal that can redraw a line."""
        from rich.console import Console

        return sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal

    def show(self, title: str, share: float, said: str) -> None:
        """How far something is, 0 to 1, and what is to be said of it."""
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=STEPS, said=said)
        self._bars.update(self._tasks[title], completed=round(STEPS * share), said=said)

    def end(self, title: str) -> None:
        """It is over: its bar goes."""
        if title in self._tasks:
            self._bars.remove_task(self._tasks.pop(title))

    def close(self) -> None:
        """All bars go, and the terminal is as it was."""
        self._bars.stop()

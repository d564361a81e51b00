"""Cohorts on their way from Tune's trials to the worker groups that train them: plain bookkeeping."""

from collections import deque

from kdam_ray.service.pool.assignment import Assignment
from kdam_ray.service.pool.protocols import CohortState

ATTEMPTS = 3  # a cohort whose worker group has died this often is given up


class CohortQueue:
    """Who trains what. A lane is a worker group that trains one cohort after the other.

    A lane that dies in the middle of a cohort and comes back is handed the same cohort again, which goes on from its
    members' checkpoints; after three attempts the cohort is over, and the others go on.
    """

    def __init__(self) -> None:
        self._assignments: dict[str, Assignment] = {}
        self._waiting: deque[str] = deque()
        self._current: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._over: set[str] = set()
        self._closed = False
        self._given_up: str | None = None
        self._deaths: dict[str, str] = {}

    def submit(self, assignment: Assignment) -> None:
        """A trial brings its cohort; bringing it twice changes nothing."""
        title = assignment.title
        if title in self._assignments:
            return
        self._assignments[title] = assignment
        if self._given_up is None:
            self._waiting.append(title)
        else:
            self.over(title, self._given_up)

    def state(self, title: str) -> CohortState:
        """What has become of a cohort."""
        if title in self._over:
            return "over"
        return "training" if title in self._current.values() else "waiting"

    def take_cohort(self, lane: str) -> tuple[Assignment | None, bool]:
        """What this lane trains next, or None; and whether there will never be more.

        The cohort that the lane left unfinished comes first.
        """
        title = self._current.get(lane)
        if title is not None and self._attempts[title] >= ATTEMPTS:
            self.over(title, f"its workers died {ATTEMPTS} times")
            title = None
        if title is None:
            if not self._waiting:
                return None, self.closed
            title = self._current[lane] = self._waiting.popleft()
        self._attempts[title] = self._attempts.get(title, 0) + 1
        return self._assignments[title], self.closed

    def over(self, title: str, why_it_died: str | None = None) -> None:
        """A cohort has been trained, or will not be."""
        self._over.add(title)
        self._current = {lane: current for lane, current in self._current.items() if current != title}
        if why_it_died is not None:
            self._deaths.setdefault(title, why_it_died)

    def lane_died(self, lane: str, why: str) -> bool:
        """A lane has used up Ray Train's own restarts; whether starting it anew makes sense."""
        title = self._current.get(lane)
        if title is None:
            return False
        if self._attempts[title] >= ATTEMPTS:
            self.over(title, why)
        return True

    def give_up(self, why: str) -> None:
        """There is no lane any more, neither for what waits nor for what is still to come."""
        self._given_up = why
        for title in self._assignments.keys() - self._over:
            self.over(title, why)
        self._waiting.clear()

    def close(self) -> None:
        """Nothing more will be submitted: lanes without work may end."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to take, and never will be."""
        return self._closed and not self._waiting

    def deaths(self) -> dict[str, str]:
        """Why cohorts that were given up were, by title."""
        return self._deaths

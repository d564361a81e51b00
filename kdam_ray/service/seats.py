"""Runs on their way into cohorts: seats, and how they are packed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdam_ray.config import Run

Purpose = Literal["teacher", "cell", "reference", "searched", "confirmation"]

DRAWN_COHORT = 4  # most searched members of one cohort: a search learns nothing within a cohort


@dataclass(frozen=True)
class Seat:
    """A run on its way into a cohort.

    Attributes:
        run: what is trained.
        purpose: why; only searched members may be pruned.
        trial: its number in the study, or None.
        epochs_done: what a checkpoint has behind it.
    """

    run: Run
    purpose: Purpose
    trial: int | None = None
    epochs_done: int = 0


def pack(seats: Sequence[Seat], *, side_by_side: int, cohort_size: int | None) -> list[list[Seat]]:
    """Pack seats into cohorts, as few as keep `side_by_side` workers busy, of nearly equal size, dealt one by one.

    Dealt, because neighbours in a table cost alike: seeds of one system would otherwise fill a cohort that the others
    wait for.

    Members of a cohort agree on everything upstream of the student and on the teacher; those without a teacher fill up
    the cohorts that have one. Members that are equally far go together: one that starts anew would hold the others up.
    """
    cohorts: list[list[Seat]] = []
    for group in alike(seats):
        count = max(math.ceil(len(group) / (cohort_size or len(group))), min(side_by_side, len(group)))
        cohorts += [group[index::count] for index in range(count)]
    return cohorts


def alike(seats: Sequence[Seat]) -> list[list[Seat]]:
    """Groups of seats that can share a cohort: equal upstream, equally far, and of one teacher or none."""
    groups: dict[tuple[Any, ...], list[Seat]] = {}
    for seat in sorted(seats, key=lambda seat: not seat.run.teacher_run):  # those without a teacher last: they fill up
        own = (seat.run.upstream, seat.epochs_done, seat.run.teacher_run)
        fits = (key for key in groups if not seat.run.teacher_run and key[:2] == own[:2])
        groups.setdefault(next(fits, own), []).append(seat)
    return list(groups.values())

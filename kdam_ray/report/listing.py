"""What is recorded, as lists for people and programs: sweeps with what they came to, the members of a sweep."""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kdam_ray.config import Run, canonical_json
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.report.titles import ARROWS, DIGITS, TITLES
from kdam_ray.service.deltas import LOOKED_AT, OBJECTIVE, full_names, scores
from kdam_ray.service.records.listing import STATES, Listed, Listing, Member
from kdam_ray.service.search.confirmation import SEEDS
from kdam_ray.service.wording import age, count
from kdam_ray.tasks import DATASETS, Task

TO_SINGLE = "val/delta_mt"
DELTAS = {OBJECTIVE: "Δ teacher ↑ %", TO_SINGLE: "Δ single-task ↑ %"}
SEED = re.compile(r"\s*\b(?:s|seed=)\d+$")  # what a title says of the seed
NOTHING = "-"
DELTA_NOTE = "Δ teacher: mean over the tasks of the difference to the teacher, in percent; 0 is as good as it."


@dataclass(frozen=True)
class Best:
    """The configuration of a sweep whose finished members have the highest mean over their seeds.

    Attributes:
        title: without its seed.
        run_ids: of its members.
        score: the mean.
        spread: standard deviation over its seeds; None of a single one.
        measure: key of `DELTAS`.
    """

    title: str
    run_ids: tuple[str, ...]
    score: float
    spread: float | None
    measure: str

    def number(self) -> str:
        """`-2.10 ±0.31`."""
        return f"{self.score:+.2f}" + ("" if self.spread is None else f" ±{self.spread:.2f}")

    def found_by(self) -> str:
        """`b0.5 T3 (3 seeds)`."""
        return f"{self.title} ({'one seed' if len(self.run_ids) == 1 else count(len(self.run_ids), 'seed')})"

    def as_json(self) -> dict[str, Any]:
        """The attributes by name, and how many seeds found it."""
        return {
            "title": self.title, "run_ids": list(self.run_ids), "seeds": len(self.run_ids), "score": self.score,
            "spread": self.spread, "measure": self.measure.removeprefix("val/"),
        }  # fmt: skip


def by_configuration(members: Iterable[Member]) -> dict[str, list[Member]]:
    """Members that differ only in their seed, together; a run that stands there twice (a link) once."""
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        groups.setdefault(seedless(member.found.run), {}).setdefault(member.found.run.run_id, member)
    return {key: [*group.values()] for key, group in groups.items()}


def seedless(run: Run) -> str:
    """What runs that differ only in their seed have in common."""
    return canonical_json(run.model_copy(update={"seed": 0}))


def best_of(members: Sequence[Member]) -> Best | None:
    """The configuration ahead against the teacher or, where that is not recorded, single-task runs; None: neither is.

    Of those that learn most tasks, for a difference over fewer is another quantity, and of the distilled ones if there
    are any. Where two have the seeds that the word best takes, the better of those, as a sweep's own result has it.
    """
    most = max((len(member.found.run.tasks) for member in members), default=0)
    finished = [member for member in members if _is_over(member) and len(member.found.run.tasks) == most]
    taught = [member for member in finished if member.found.run.distill.method != "none"]
    for measure in DELTAS:
        scored = [member for member in taught or finished if measure in member.found.metrics]
        found = [_best(group, measure) for group in by_configuration(scored).values()]
        confirmed = [best for best in found if len(best.run_ids) >= SEEDS]
        if found:
            return max(confirmed if len(confirmed) > 1 else found, key=lambda best: best.score)
    return None


def _best(group: Sequence[Member], measure: str) -> Best:
    values = [member.found.metrics[measure] for member in group]
    spread = statistics.stdev(values) if len(values) > 1 else None
    ids = tuple(member.found.run.run_id for member in group)
    return Best(untitled_seed(group[0].title), ids, statistics.fmean(values), spread, measure)


def untitled_seed(title: str) -> str:
    """A member's title without its seed; what differs in nothing else is the base."""
    return SEED.sub("", title) or "base"


def counted_states(members: Sequence[Member], now: float) -> dict[str, int]:
    """State -> members, in the order of `STATES`."""
    found = Counter(member.state(now) for member in members)
    return {state: found[state] for state in STATES if found[state]}


# ----------------------------------------------------------------------------------------------------------- sweeps
def sweeps_grid(listing: Listing, now: float) -> Grid:
    """A line a sweep."""
    header = ("id", "sweep", "members", "ahead", "Δ teacher ↑ %", "age")
    rows = tuple(tuple(map(Cell, _line(sweep, listing, now))) for sweep in listing.sweeps)
    return Grid("Recorded sweeps, the last one first", header, 4, rows, tuple(_notes(listing)))


def _line(sweep: Listed, listing: Listing, now: float) -> tuple[str, ...]:
    id_, name = (sweep.id if sweep.mlflow_run else NOTHING), f"{sweep.dataset}/{sweep.name}"
    if sweep.mlflow_run in listing.unread:
        return id_, name, "not read", NOTHING, NOTHING, age(now - sweep.seen)
    best = best_of(sweep.members) if sweep.mlflow_run else None
    states = f"{'more than ' * sweep.more}{_summary(sweep, now)}"
    found = (best.found_by(), best.number()) if best else (NOTHING, NOTHING)
    return id_, name, states, *found, age(now - sweep.seen)


def _notes(listing: Listing) -> list[str]:
    notes = []
    if any(OBJECTIVE in member.found.metrics for sweep in listing.sweeps for member in sweep.members):
        notes.append(f"{DELTA_NOTE} What one seed put ahead may be that seed's luck.")
    if listing.unread:
        notes.append(f"The members of {count(len(listing.unread), 'older sweep')} were not read; --all reads them.")
    if listing.more:
        notes.append("There are older sweeps; --all lists them.")
    return [
        *notes,
        "Age: of the last sign of life. `kdam runs ID` lists a sweep's members, `kdam show ID` says more of it.",
    ]


def sweeps_document(listing: Listing, now: float) -> dict[str, Any]:
    """The same for programs."""
    rows = [sweep_facts(sweep, now) for sweep in listing.sweeps]
    for row in rows:
        if row["mlflow_run"] in listing.unread:
            row |= {"members": None, "states": None, "best": None}
    return {"sweeps": rows, "older_left_out": listing.more}


def sweep_facts(sweep: Listed, now: float) -> dict[str, Any]:
    """One sweep for programs."""
    best = best_of(sweep.members) if sweep.mlflow_run else None
    return {
        "id": sweep.id, "mlflow_run": sweep.mlflow_run, "experiment": sweep.experiment, "dataset": sweep.dataset,
        "sweep": sweep.name, "table": sweep.tags.get("kdam.table") or None, "members": len(sweep.members),
        "more_members": sweep.more, "states": counted_states(sweep.members, now),
        "best": best.as_json() if best else None, "seen": stamp(sweep.seen), "age_s": round(now - sweep.seen, 1),
    }  # fmt: skip


def stamp(seconds: float) -> str:
    """`2026-11-28T20:15:02+00:00`."""
    return datetime.fromtimestamp(round(seconds), UTC).isoformat()


# ---------------------------------------------------------------------------------------------------------- members
def members_grid(sweep: Listed, now: float) -> Grid:
    """A line a member, in the order of `ordered`."""
    tasks = tasks_of(sweep.members)
    deltas = [key for key in DELTAS if any(key in member.found.metrics for member in sweep.members)]
    header = ("run_id", "member", "state", *map(heading, tasks), *(DELTAS[key] for key in deltas), "age")
    rows = tuple(_member_line(member, tasks, deltas, now) for member in ordered(sweep.members))
    notes = [DELTA_NOTE] if OBJECTIVE in deltas else []
    if not all(map(_is_over, sweep.members)):
        notes.append("Of one that has not finished: as far as it came, boundaries looked at on fewer images.")
    if sweep.more:
        notes.append(f"There are more than these {len(sweep.members)} members; --all lists them.")
    first = sweep.members[0].found.run.run_id if sweep.members else "RUN"
    notes.append(f"`kdam show {first}` says more of one; `kdam compare RUN RUN`: what differs and what is resolved.")
    kind = f"Sweep {sweep.id}" if sweep.mlflow_run else "Runs of no sweep"
    return Grid(f"{kind}: {sweep.experiment}, {_summary(sweep, now)}", header, 3, rows, tuple(notes))


def _summary(sweep: Listed, now: float) -> str:
    states = counted_states(sweep.members, now)
    return ", ".join(f"{number} {state}" for state, number in states.items()) or "no members yet"


def ordered(members: Sequence[Member]) -> list[Member]:
    """Finished ones first, the best Delta on top; then the newest."""
    return sorted(members, key=lambda member: (not _is_over(member), -_score(member), -member.begun))


def _score(member: Member) -> float:
    known = (member.found.metrics[key] for key in DELTAS if key in member.found.metrics)
    return next(known, float("-inf"))


def _member_line(member: Member, tasks: Sequence[Task], deltas: Sequence[str], now: float) -> tuple[Cell, ...]:
    found = scores_of(member)
    numbers = [score_text(task, found.get(task.metric_key)) for task in tasks]
    numbers += [f"{value:+.2f}" if (value := member.found.metrics.get(key)) is not None else NOTHING for key in deltas]
    names = member.found.run.run_id, member.title, member.state(now)
    return tuple(map(Cell, (*names, *numbers, age(now - member.seen))))


def scores_of(member: Member) -> dict[str, float]:
    """{"semseg/mIoU": ...}; of one that has not finished a look at boundaries counts as their metric."""
    found = scores(member.found.metrics)
    return {k: v for k, v in found.items() if k not in LOOKED_AT} if _is_over(member) else full_names(found)


def _is_over(member: Member) -> bool:
    return member.found.status == "finished"


def score_text(task: Task, value: float | None) -> str:
    """A score with as many digits as its unit is shown with."""
    return NOTHING if value is None else f"{value:.{DIGITS.get(task.unit, 2)}f}"


def tasks_of(members: Iterable[Member]) -> list[Task]:
    """The tasks that any of the members learns, in their data set's order."""
    runs = [member.found.run for member in members]
    known = {task.name: task for run in runs for task in DATASETS[run.dataset].tasks}
    return [task for name, task in known.items() if any(name in run.tasks for run in runs)]


def heading(task: Task) -> str:
    """`SemSeg mIoU ↑ %`."""
    return f"{TITLES.get(task.name, task.name)} {task.metric} {ARROWS[task.higher_is_better]} {task.unit}"


def members_document(sweep: Listed, now: float) -> dict[str, Any]:
    """The same for programs."""
    return sweep_facts(sweep, now) | {"runs": [member_facts(member, now) for member in ordered(sweep.members)]}


def member_facts(member: Member, now: float) -> dict[str, Any]:
    """One member for programs."""
    found = member.found
    return {
        "run_id": found.run.run_id, "title": member.title, "state": member.state(now), "mlflow_run": found.mlflow_run,
        "is_link": "kdam.link" in found.tags, "epoch": member.epoch, "epochs": found.run.epochs,
        "scores": scores_of(member), "delta_teacher": found.metrics.get(OBJECTIVE),
        "delta_mt": found.metrics.get(TO_SINGLE), "reason": found.reason, "begun": stamp(member.begun),
        "seen": stamp(member.seen), "age_s": round(now - member.seen, 1),
    }  # fmt: skip

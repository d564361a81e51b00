"""What is recorded, listed: sweeps, their members, and one or the other by the id that a person types.

Few calls and bounded ones: a store of ten thousand runs answers in seconds. Reads only, through a `Tracking`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from kdam_ray.command import announce
from kdam_ray.config import Place
from kdam_ray.service.records.found import Found, found
from kdam_ray.service.records.tracking import Tracking

State = Literal["finished", "pruned", "failed", "unfinished", "training"]
STATES: tuple[State, ...] = ("training", "finished", "unfinished", "pruned", "failed")
PAGE = 1000  # most runs of one call
UNLIMITED = 10**9
QUIET_S = 600.0  # a member that has said nothing for so long, and for three of its epochs, is not training
EPOCHS_QUIET = 3
IS_SWEEP, IS_MEMBER = "tags.`kdam.base` LIKE '%'", "tags.`kdam.run_id` LIKE '%'"
LAST_OPENED, NEWEST = "tags.`kdam.opened` DESC", "attributes.start_time DESC"
WITHOUT_SWEEP = "teachers"  # experiments whose members are nobody's: teachers are trained once for all sweeps
IS_PREFIX, SHORTEST, MLFLOW_ID = r"[0-9a-f]+", 3, 32
SHOWN = 6  # ids of a message
LOCAL_UI = "http://127.0.0.1:5000"
NEAREST_OF = 500  # newest runs among which the nearest to a wrong id are looked for


@dataclass(frozen=True)
class Member:
    """A member of a sweep, or a link to one, as MLflow lists it.

    Attributes:
        found: its run, status and last metrics.
        title: what MLflow calls it.
        begun: seconds since 1970.
        seen: the last sign of life: begun, a metric, the end.
        epoch: of its last metric.
        is_open: MLflow calls it running; whether anybody still trains it is `state`'s to say.
    """

    found: Found
    title: str
    begun: float
    seen: float
    epoch: int
    is_open: bool

    def state(self, now: float) -> State:
        """Its status, or "training" if its last sign of life is no older than a living run's would be."""
        pace = (self.seen - self.begun) / self.epoch if self.epoch else 0.0
        living = self.is_open and now - self.seen < max(QUIET_S, EPOCHS_QUIET * pace)
        return "training" if living and self.found.status == "unfinished" else self.found.status


@dataclass(frozen=True)
class Listed:
    """A sweep and its members; of runs that no sweep trained, such as teachers, their experiment.

    Attributes:
        mlflow_run: of the sweep's own run; "": it is no sweep.
        experiment: name of MLflow's experiment.
        tags: of the sweep's own run.
        metrics: of the sweep's own run: its costs.
        opened: when it was last begun or taken up again, seconds since 1970.
        members: oldest first.
        more: there are more members than these.
    """

    mlflow_run: str
    experiment: str
    tags: dict[str, str]
    metrics: dict[str, float]
    opened: float
    members: tuple[Member, ...] = ()
    more: bool = False

    @property
    def id(self) -> str:
        """What a person names it by."""
        return self.tags.get("kdam.sweep_id") or self.mlflow_run or self.experiment.removeprefix("kdam/")

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.experiment.split("/")[1]

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.experiment.split("/", 2)[2]

    @property
    def seen(self) -> float:
        """Its last sign of life, seconds since 1970."""
        return max([self.opened, *(member.seen for member in self.members)])


@dataclass(frozen=True)
class Listing:
    """Everything that is recorded, as far as it was read.

    Attributes:
        sweeps: the one last taken up first; behind them the experiments of runs that no sweep trained.
        unread: sweeps of these whose members were not read any more.
        more: there are older sweeps.
    """

    sweeps: tuple[Listed, ...]
    unread: frozenset[str] = frozenset()
    more: bool = False


def opened(place: Place) -> Tracking:
    """The records of a place.

    Raises:
        ValueError: nothing is recorded there yet; it is not created.
    """
    tracking = Tracking(place)
    if tracking.empty:
        raise ValueError(
            f"storage: {tracking.shown} does not exist, so nothing is recorded there; "
            "begin with `kdam sweep-beta-temp --smoke`"
        )
    announce(f"reads {tracking.shown}")
    return tracking


def list_sweeps(tracking: Tracking, *, dataset: str | None, sweeps: int, members: int) -> Listing:
    """The newest sweeps, and the experiments that have members but no sweep.

    Args:
        tracking: where.
        dataset: of this data set only; None: of all.
        sweeps: most sweeps.
        members: stop reading members after so many.
    """
    experiments = _experiments(tracking, dataset)
    found, more = _search(tracking, experiments, IS_SWEEP, sweeps, order=LAST_OPENED)
    listed, unread, left = list[Listed](), set[str](), members
    for item in found:
        sweep = _sweep(item, experiments[item.info.experiment_id])
        if left > 0:
            sweep = with_members(tracking, sweep, limit=left)
            left -= len(sweep.members)
        else:
            unread.add(sweep.mlflow_run)
        listed.append(sweep)
    lone = (Listed("", name, {}, {}, 0.0) for name in experiments.values() if name.endswith(f"/{WITHOUT_SWEEP}"))
    listed += [with_members(tracking, each, limit=min(members, PAGE)) for each in lone]
    return Listing(tuple(listed), frozenset(unread), more)


def find_listed(tracking: Tracking, name: str) -> list[Listed]:
    """Sweeps by their id (or its beginning), MLflow's id, their name or their experiment; without their members.

    Args:
        tracking: where.
        name: as a person writes it: `3f5d4721bdc5`, `beta_temp`, `rooms/beta_temp`, `kdam/rooms/beta_temp`.

    Returns:
        The one last taken up first; an experiment of members without a sweep as one. Empty: there is none.
    """
    experiments = _experiments(tracking)
    named = {id_: full for id_, full in experiments.items() if f"/{full}".endswith(f"/{name}")}
    if not named:
        return [_sweep(item, experiments[item.info.experiment_id]) for item in _by_id(tracking, experiments, name)]
    found, _ = _search(tracking, named, IS_SWEEP, PAGE, order=LAST_OPENED)
    sweeps = [_sweep(item, named[item.info.experiment_id]) for item in found]
    return sweeps or [Listed("", full, {}, {}, 0.0) for full in named.values()]


def with_members(tracking: Tracking, sweep: Listed, *, limit: int = PAGE) -> Listed:
    """The sweep with its members, at most so many, the newest."""
    experiments = [id_ for id_, name in _experiments(tracking).items() if name == sweep.experiment]
    wanted = f"tags.`mlflow.parentRunId` = '{sweep.mlflow_run}'" if sweep.mlflow_run else IS_MEMBER
    found, more = _search(tracking, experiments, wanted, limit)
    return replace(sweep, members=_members(found, sweep.experiment), more=more)


def sweep_of(tracking: Tracking, member: Member) -> Listed | None:
    """The sweep that trained a member, with its members; None: none did."""
    parent = member.found.tags.get("mlflow.parentRunId")
    found = find_listed(tracking, parent) if parent else []
    return with_members(tracking, found[0]) if found else None


def find_members(tracking: Tracking, name: str) -> list[Member]:
    """Members by run_id or its beginning, or by MLflow's id of theirs or of a link to them; one record each.

    Empty: there is none. Several: the beginning is not unique.
    """
    experiments = _experiments(tracking)
    if not re.fullmatch(IS_PREFIX, name) or len(name) < SHORTEST:
        return []
    if len(name) == MLFLOW_ID:
        found, _ = _search(tracking, experiments, f"attributes.run_id = '{name}'", 1)
        linked = found[0].data.tags.get("kdam.link") if found else None
        if linked:
            found, _ = _search(tracking, experiments, f"attributes.run_id = '{linked}'", 1)
    else:
        found, _ = _search(tracking, experiments, f"tags.`kdam.run_id` LIKE '{name}%'", PAGE)
    members = [member for item in found for member in _members([item], experiments[item.info.experiment_id])]
    best = tracking.find({member.found.run.run_id for member in members})
    chosen = {record.mlflow_run for record in best.values()}
    return [member for member in members if member.found.mlflow_run in chosen]


def one_member(tracking: Tracking, name: str, found: Sequence[Member]) -> Member:
    """The only one that was found by that name.

    Raises:
        ValueError: there is none, with the nearest; or several, with their ids.
    """
    ids = sorted({member.found.run.run_id for member in found})
    if not ids:
        raise ValueError(unknown(tracking, "run", name, what="run"))
    if len(ids) > 1:
        shown = ", ".join(ids[:SHOWN]) + " ..." * (len(ids) > SHOWN)
        raise ValueError(f"run: {name!r} is the beginning of {len(ids)} runs; write more of it: {shown}")
    return found[0]


def page_of(tracking: Tracking, experiment: str, mlflow_run: str) -> str:
    """Where MLflow shows a run, or an experiment if it is none of them; local stores once `kdam ui` runs."""
    id_ = next(id_ for id_, name in _experiments(tracking).items() if name == experiment)
    path = f"/#/experiments/{id_}" + (f"/runs/{mlflow_run}" if mlflow_run else "")
    is_server = tracking.uri.startswith("http")
    return f"{tracking.shown.rstrip('/')}{path}" if is_server else f"{LOCAL_UI}{path}  (while `kdam ui` runs)"


def unknown(tracking: Tracking, field: str, name: str, *, what: str = "sweep") -> str:
    """What to say of an id that nothing has: with the nearest ones, at most three."""
    experiments = _experiments(tracking)
    found, _ = _search(tracking, experiments, IS_MEMBER, NEAREST_OF)
    sweeps, _ = _search(tracking, experiments, IS_SWEEP, NEAREST_OF)
    if what == "run" and re.fullmatch(IS_PREFIX, name[:SHORTEST]):  # older ones that begin alike
        found = _search(tracking, experiments, f"tags.`kdam.run_id` LIKE '{name[:SHORTEST]}%'", SHOWN)[0] + found
    known = [item.data.tags["kdam.run_id"] for item in found] if what == "run" else []
    known += [item.data.tags.get("kdam.sweep_id", item.info.run_id) for item in sweeps]
    known += [name for full in experiments.values() for name in (full.removeprefix("kdam/"), full.rsplit("/", 1)[1])]
    near = get_close_matches(name, [*dict.fromkeys(known)], n=3, cutoff=0.5)
    hint = f"perhaps {', '.join(near)}" if near else "`kdam runs` lists what there is"
    return f"{field}: {tracking.shown} has no {what} {name!r}; {hint}"


# --------------------------------------------------------------------------------------------------- reading MLflow
def _experiments(tracking: Tracking, dataset: str | None = None) -> dict[str, str]:
    """Id -> name."""
    wanted = f"name LIKE 'kdam/{dataset or '%'}/%'"
    found = tracking.client.search_experiments(filter_string=wanted, max_results=PAGE)
    return {item.experiment_id: item.name for item in found}


def _search(
    tracking: Tracking, experiments: Iterable[str], wanted: str, limit: int, order: str = NEWEST
) -> tuple[list[Any], bool]:
    """At most `limit` runs of MLflow, and whether there are more."""
    found: list[Any] = []
    token, ids = None, list(experiments)
    while ids and len(found) < limit:
        size = min(PAGE, limit - len(found))
        page = tracking.client.search_runs(ids, wanted, max_results=size, order_by=[order], page_token=token)
        found += page
        if not (token := page.token):
            break
    return found, token is not None


def _by_id(tracking: Tracking, experiments: dict[str, str], name: str) -> Sequence[Any]:
    """MLflow's runs of sweeps, by the beginning of their id or by MLflow's whole one."""
    if not re.fullmatch(IS_PREFIX, name) or len(name) < SHORTEST:
        return []
    is_whole = len(name) == MLFLOW_ID
    wanted = f"attributes.run_id = '{name}'" if is_whole else f"tags.`kdam.sweep_id` LIKE '{name}%'"
    found, _ = _search(tracking, experiments, f"{wanted} and {IS_SWEEP}", PAGE, order=LAST_OPENED)
    return found


def _sweep(item: Any, experiment: str) -> Listed:
    opened = int(item.data.tags.get("kdam.opened") or item.info.start_time) / 1000
    return Listed(item.info.run_id, experiment, dict(item.data.tags), dict(item.data.metrics), opened)


def _members(items: Sequence[Any], experiment: str) -> tuple[Member, ...]:
    """Newest first as MLflow gives them, oldest first as they are listed."""
    members = [(item, record) for item in items if (record := found(item, experiment)) is not None]
    return tuple(_member(item, record) for item, record in reversed(members))


def _member(item: Any, found: Found) -> Member:
    points = item.data.to_proto().metrics  # with their times, which `data.metrics` lacks
    times = [item.info.start_time, item.info.end_time or 0, *(point.timestamp for point in points)]
    title = found.tags.get("mlflow.runName", found.run.run_id)
    epoch = max((int(point.step) for point in points), default=0)
    return Member(found, title, item.info.start_time / 1000, max(times) / 1000, epoch, item.info.status == "RUNNING")

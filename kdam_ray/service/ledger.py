"""What a sweep has cost over all its calls, and what had been estimated: metrics of its parent run.

While a call trains, a small file in the storage says what its runs had cost before. The call that ends adds the
difference; if it is killed, the next one does. A call that finds nothing to train changes nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from kdam_ray.service.cost.pace import Pace, remember
from kdam_ray.service.cost.totals import NAMES, costs_of, total
from kdam_ray.service.plan import LEFT, Plan, Planned
from kdam_ray.service.records import Storage, Tracking

COST, PLANNED = "cost/", "plan/"


def open_call(storage: Storage, tracking: Tracking, parent: str, plan: Plan) -> None:
    """A call is about to train what `plan` says is left: record its estimate, keep what its runs have cost so far.

    If the call before was killed, what that one had spent is recorded first; what it had left to do, its estimate still
    covers.
    """
    cut = close_call(storage, tracking, parent, plan, wall_s=None)
    known, searched = (set(cut["known"]), cut["searched"]) if cut else (set(), 0)
    share = _new_share(plan, known, searched) if cut else 1.0
    estimate = {"plan/seconds": plan.seconds, "plan/device_hours": plan.device_hours, "plan/tflop": plan.flops / 1e12}
    before = _last(tracking, parent, PLANNED)
    tracking.log_epoch(parent, {name: before.get(name, 0.0) + value * share for name, value in estimate.items()}, 0)
    items = (*plan.teachers, *plan.runs)
    left = {item.run.run_id for item in items if item.status in LEFT}
    note = {
        "costs": _costs(items), "known": sorted(known | left), "searched": plan.searched + plan.confirming,
        "estimate": estimate, "pace": asdict(plan.pace),
    }  # fmt: skip
    path = storage.scratch() / "call.json"
    path.write_text(json.dumps(note))
    storage.save_file(path, _name(parent))


def close_call(
    storage: Storage, tracking: Tracking, parent: str, plan: Plan, *, wall_s: float | None
) -> dict[str, Any] | None:
    """A call is over: record what its runs have cost since it was opened.

    Args:
        storage: where its note is.
        tracking: where the parent is.
        parent: the sweep's run.
        plan: what is recorded now.
        wall_s: how long it took. None: it was killed, and nobody knows; the longest that one of its teachers was
            trained and the longest that one of its other runs was, together, stand for it.

    Returns:
        The note of that call; None if there was no call.
    """
    content = storage.read_bytes(_name(parent))
    if not content:
        return None
    note = json.loads(content)
    taught_by = {item.run.run_id for item in plan.teachers}  # a run may be a teacher and a cell
    teachers = _since(note["costs"], plan.teachers)
    students = _since(note["costs"], [item for item in plan.runs if item.run.run_id not in taught_by])
    longest = sum(max((costs["cost/wall_s"] for costs in group), default=0.0) for group in (teachers, students))
    spent = total([*teachers, *students])
    more = {
        "cost/wall_s": longest if wall_s is None else wall_s, "cost/device_hours": spent["cost/device_s"] / 3600,
        "cost/tflop": spent["cost/tflop"],
    }  # fmt: skip
    before = _last(tracking, parent, COST)
    if "cost/kwh" in spent and ("cost/kwh" in before or not before):  # else some of it was not counted
        more["cost/kwh"] = spent["cost/kwh"]
    tracking.log_epoch(parent, {name: before.get(name, 0.0) + value for name, value in more.items()}, 0)
    estimate = note.get("estimate", {})  # there was none in notes of versions before
    if wall_s is not None and estimate.get("plan/tflop"):
        remember(
            storage, Pace(**note["pace"]), estimated_s=estimate["plan/seconds"], wall_s=wall_s,
            done=more["cost/tflop"] / estimate["plan/tflop"],
        )  # fmt: skip
    storage.remove_file(_name(parent))
    return note


def recorded(tracking: Tracking, parent: str) -> tuple[dict[str, float], dict[str, float]]:
    """What was spent and what had been estimated for it; both empty if nothing was trained.

    Returns:
        {"wall_s": ..., "device_hours": ..., ...} and {"seconds": ..., "device_hours": ..., ...}.
    """
    cost, planned = (
        {name.removeprefix(prefix): value for name, value in _last(tracking, parent, prefix).items()}
        for prefix in (COST, PLANNED)
    )
    return cost, planned


def _costs(items: Iterable[Planned]) -> dict[str, dict[str, float]]:
    """Costs by MLflow's run: a run whose record was deleted and that is trained anew starts from nothing."""
    return {item.record.mlflow_run: costs_of(item.record.metrics) for item in items if item.record is not None}


def _since(before: Mapping[str, Mapping[str, float]], items: Iterable[Planned]) -> list[dict[str, float]]:
    """What each run has cost since `before`; runs that have cost nothing are left out."""
    more = [
        {name: now[name] - before.get(record, {}).get(name, 0.0) for name in NAMES if name in now}
        for record, now in _costs(items).items()
    ]
    return [costs for costs in more if any(costs.values())]


def _new_share(plan: Plan, known: set[str], searched: int) -> float:
    """The share of the steps left that the call before, which was killed, had not estimated."""
    steps = {item.run.run_id: item.steps for item in (*plan.teachers, *plan.runs)}
    drawn = plan.steps - sum(steps.values())
    new: float = sum(left for run_id, left in steps.items() if run_id not in known)
    to_come = plan.searched + plan.confirming
    new += drawn * max(0, to_come - searched) / max(to_come, 1)
    return new / max(plan.steps, 1)


def _last(tracking: Tracking, parent: str, prefix: str) -> dict[str, float]:
    return {name: value for name, value in tracking.outcome(parent)[1].items() if name.startswith(prefix)}


def _name(parent: str) -> str:
    return f"sweeps/{parent}.json"

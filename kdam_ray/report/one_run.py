"""One run or one sweep, as far as it is recorded: for people as grids, for programs as a document."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdam_ray.cells import COMMAND_OF, SWEEP_OF
from kdam_ray.config import Run, flatten
from kdam_ray.recipes import RECIPES, recipe, sweep_name
from kdam_ray.report import listing
from kdam_ray.report.formats import Cell, Grid
from kdam_ray.service.cost.totals import energy_text
from kdam_ray.service.deltas import LOOKED_AT, OBJECTIVE, scores
from kdam_ray.service.records.listing import Listed, Member
from kdam_ray.service.records.reading import experiment_name
from kdam_ray.service.wording import age, count, duration
from kdam_ray.tasks import Task

GROUPS = {
    "data": ("dataset", "train_images", "val_images", "image_size", "resize", "augment", "data_seed", "dataset_hash"),
    "network": ("student", "decoder", "contexts", "pretrained", "tasks"),
    "distillation": ("teacher", "teacher_decoder", "teacher_run", "distill."),
    "training": ("epochs", "batch", "seed", "optim.", "task_weights", "task_factors", "precision", "batch_norm_ranks"),
}
FOUND_OUT = ("dataset_hash", "teacher_run", "batch_norm_ranks")  # no recipe says them
VALUES_SHOWN = 8
LOSS = "train/loss"


@dataclass(frozen=True)
class OneRun:
    """A member and what is known around it.

    Attributes:
        member: the run.
        sweep: that trained it; None: none.
        histories: metric -> epoch -> value.
        teacher: its teacher's record, if it has one.
        checkpoint: where its newest one lies, or why there is none.
        page: where MLflow shows it.
    """

    member: Member
    sweep: Listed | None
    histories: Mapping[str, Mapping[int, float]]
    teacher: Member | None
    checkpoint: str
    page: str

    @property
    def run(self) -> Run:
        """What was trained."""
        return self.member.found.run

    @property
    def siblings(self) -> list[Member]:
        """The runs of its sweep that differ in their seed only, itself among them, by seed."""
        groups = listing.by_configuration([self.member, *(self.sweep.members if self.sweep else ())])
        return sorted(groups[listing.seedless(self.run)], key=lambda member: member.found.run.seed)


def from_recipe(run: Run) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """The recipe that a run is nearest to, and what differs from it.

    Returns:
        Its name, and field -> (the run's value, the recipe's). Without a recipe for the data set "" and nothing.
    """
    if run.dataset not in RECIPES:
        return "", {}
    own, found = flatten(run), []
    for smoke in (False, True):
        row = recipe(run.dataset, smoke=smoke)
        for kind, theirs in (("student", flatten(row.student)), ("teacher", flatten(row.teacher))):
            differs = {key: (own[key], theirs[key]) for key in own if own[key] != theirs[key] and key not in FOUND_OUT}
            found.append((f"{kind} of {run.dataset}{', smoke' * smoke}", differs))
    return min(found, key=lambda item: len(item[1]))


# ------------------------------------------------------------------------------------------------------------- a run
def run_grids(one: OneRun, now: float) -> list[Grid]:
    """Facts, what differs from the recipe, the whole configuration, scores by epoch, what to do next."""
    found = one.member.found
    title = f"Run {found.run.run_id}: {one.member.title}"
    named, differs = from_recipe(one.run)
    rows = tuple((Cell(key), Cell(str(value)), Cell(str(theirs))) for key, (value, theirs) in differs.items())
    grids = [pairs(title, run_facts(one, now))]
    if rows:
        grids.append(Grid(f"Differs from the recipe ({named})", ("field", "here", "recipe"), 3, rows))
    grids.append(pairs("Configuration", grouped(one.run)))
    if one.histories:
        grids.append(epochs_grid(one))
    return [*grids, next_grid(commands(one))]


def pairs(title: str, rows: Mapping[str, str]) -> Grid:
    """Names and what stands to them."""
    return Grid(title, ("", ""), 2, tuple((Cell(name), Cell(text)) for name, text in rows.items()))


def next_grid(commands: Mapping[str, str]) -> Grid:
    """Commands as lines to be copied."""
    longest = max(map(len, commands))
    return Grid("Next", (), 0, (), tuple(f"  {command:<{longest}}  # {text}" for command, text in commands.items()))


def run_facts(one: OneRun, now: float) -> dict[str, str]:
    """What is known of a run beside its configuration and scores."""
    member, found = one.member, one.member.found
    epochs, last = f"epoch {member.epoch} of {found.run.epochs}", f"last sign of life {age(now - member.seen)} ago"
    state = f"{member.state(now)}, {epochs}, {last}"
    facts = {"state": state} | ({"why": found.reason} if found.reason else {})
    if one.sweep is not None:
        facts["sweep"] = f"{one.sweep.id}  {one.sweep.experiment}, {count(len(one.sweep.members), 'member')}"
    if one.run.teacher_run:
        facts["teacher"] = f"{one.run.teacher_run}  {one.run.teacher}" + ("" if one.teacher else ", not recorded here")
    if len(one.siblings) > 1:
        facts["seeds"] = seeds_text(one.siblings)
    return facts | {
        "cost": cost_text(found.metrics), "checkpoint": one.checkpoint,
        "MLflow": f"{found.experiment}, run {found.mlflow_run}", "page": one.page,
    }  # fmt: skip


def seeds_text(siblings: Sequence[Member]) -> str:
    """`3 recorded, Δ teacher -22.21 ±2.16: 0 eb2c45c7b4f8, ...`."""
    scored = [member.found.metrics[OBJECTIVE] for member in siblings if _counts(member)]
    mean = f", Δ teacher {statistics.fmean(scored):+.2f} ±{statistics.stdev(scored):.2f}" if len(scored) > 1 else ""
    each = ", ".join(f"{member.found.run.seed} {member.found.run.run_id}" for member in siblings)
    return f"{len(siblings)} recorded{mean}: {each}"


def _counts(member: Member) -> bool:
    return member.found.status == "finished" and OBJECTIVE in member.found.metrics


def cost_text(metrics: Mapping[str, float]) -> str:
    """`4.1 min of training, 0.02 device-hours, 3.2 TFLOP, energy: no counter`."""
    if "cost/device_s" not in metrics and "cost/device_hours" not in metrics:
        return "not recorded"
    hours = metrics.get("cost/device_hours", metrics.get("cost/device_s", 0.0) / 3600)
    wall, tflop = duration(metrics.get("cost/wall_s", 0.0), digits=1), metrics.get("cost/tflop", 0.0)
    return f"{wall}, {hours:.2g} device-hours, {tflop:.3g} TFLOP, {energy_text(metrics.get('cost/kwh'))}"


def grouped(run: Run) -> dict[str, str]:
    """Group -> its fields; without those that are not set."""
    texts = in_groups({key: value for key, value in flatten(run).items() if value is not None})
    return texts | ({"distillation": "none"} if run.distill.method == "none" else {})


def in_groups(values: Mapping[str, Any]) -> dict[str, str]:
    """Group -> those of the fields that belong to it, as text; without empty groups."""
    texts = {
        group: ", ".join(f"{key} {_value(values[key])}" for field in fields for key in values if _is_of(key, field))
        for group, fields in GROUPS.items()
    }
    return {group: text for group, text in texts.items() if text}


def _is_of(key: str, field: str) -> bool:
    return key.startswith(field) if field.endswith(".") else key == field


def _value(value: Any) -> str:
    """`48x64`, `semseg depth`, or as Python writes it."""
    if not isinstance(value, list):
        return str(value)
    return ("x" if all(isinstance(item, int) for item in value) else " ").join(map(str, value))


def epochs_grid(one: OneRun) -> Grid:
    """A line an epoch that was evaluated; a look at boundaries is marked."""
    tasks = listing.tasks_of([one.member])
    epochs = sorted({epoch for values in one.histories.values() for epoch in values})
    rows = [
        (
            Cell(str(epoch)), *(_score_cell(one, task, epoch) for task in tasks),
            Cell(_number(one, OBJECTIVE, epoch, "+.2f")), Cell(_number(one, LOSS, epoch, ".4g")),
        )
        for epoch in epochs
    ]  # fmt: skip
    header = ("epoch", *map(listing.heading, tasks), listing.DELTAS[OBJECTIVE], "training loss")
    flagged = any(cell.is_flagged for row in rows for cell in row)
    notes = ("†: looked at on fewer images and thresholds.",) if flagged else ()
    return Grid("Scores by epoch", header, 1, tuple(rows), notes)


def _score_cell(one: OneRun, task: Task, epoch: int) -> Cell:
    look = next((name for name, full in LOOKED_AT.items() if full == task.metric_key), "")
    value, looked = (one.histories.get(f"val/{key}", {}).get(epoch) for key in (task.metric_key, look))
    is_look = value is None and looked is not None
    return Cell(listing.score_text(task, looked if is_look else value), is_flagged=is_look)


def _number(one: OneRun, name: str, epoch: int, digits: str) -> str:
    value = one.histories.get(name, {}).get(epoch)
    return listing.NOTHING if value is None else format(value, digits)


def commands(one: OneRun) -> dict[str, str]:
    """Useful commands -> what they do."""
    run_id, found = one.run.run_id, {}
    if "epoch" in one.checkpoint:
        found[f"kdam predict IMAGE ... --run {run_id} --out predictions/"] = "what it says about any image"
        found[f"kdam export --run {run_id} --out exported/"] = "weights, card and ONNX graph to take away"
    if rival := rival_of(one):
        found[f"kdam compare {run_id} {rival.found.run.run_id}"] = f"beside {listing.untitled_seed(rival.title)}"
    if one.member.found.status == "unfinished" and one.sweep and (number := one.sweep.tags.get("kdam.table")):
        found[f"kdam {COMMAND_OF[number]} ..."] = "the same command again goes on with what has not finished"
    if one.sweep:
        found[f"kdam runs {one.sweep.id}"] = "the other members of its sweep"
    return found


def rival_of(one: OneRun) -> Member | None:
    """What it is worth comparing with: the same student without distillation, else the best of its sweep."""
    others = [
        m
        for m in (one.sweep.members if one.sweep else ())
        if listing.seedless(m.found.run) != listing.seedless(one.run)
    ]
    alike = [m for m in others if m.found.status == "finished" and m.found.run.tasks == one.run.tasks]
    plain = (m for m in alike if m.found.run.distill.method == "none" and m.found.run.student == one.run.student)
    return next(plain, None) or next(iter(listing.ordered(alike)), None)


def run_document(one: OneRun, now: float) -> dict[str, Any]:
    """The same for programs."""
    named, differs = from_recipe(one.run)
    epochs = sorted({epoch for values in one.histories.values() for epoch in values})
    by_epoch = {
        str(epoch): {key: values[epoch] for key, values in one.histories.items() if epoch in values} for epoch in epochs
    }
    costs = {key: value for key, value in one.member.found.metrics.items() if key.startswith("cost/")}
    return {"kind": "run"} | listing.member_facts(one.member, now) | {
        "experiment": one.member.found.experiment, "sweep": one.sweep.id if one.sweep else None,
        "teacher_run": one.run.teacher_run, "run": one.run.model_dump(mode="json"), "recipe": named or None,
        "differs": {key: {"here": here, "recipe": theirs} for key, (here, theirs) in differs.items()},
        "seeds": {str(member.found.run.seed): member.found.run.run_id for member in one.siblings},
        "by_epoch": by_epoch, "cost": costs, "checkpoint": one.checkpoint, "page": one.page,
        "commands": list(commands(one)),
    }  # fmt: skip


def metrics_shown(member: Member) -> list[str]:
    """Names of the metrics whose histories are shown."""
    metrics = member.found.metrics
    return [*(f"val/{key}" for key in scores(metrics)), *(key for key in (OBJECTIVE, LOSS) if key in metrics)]


# ----------------------------------------------------------------------------------------------------------- a sweep
def sweep_grids(sweep: Listed, page: str, now: float) -> list[Grid]:
    """Facts, what its members differ in and share, what to do next."""
    varied, shared = varied_and_shared([member.found.run for member in sweep.members])
    grids = [pairs(f"Sweep {sweep.id}: {sweep.experiment}", sweep_facts(sweep, page, now))]
    if varied:
        grids.append(pairs("What its members differ in", varied))
    if shared:
        grids.append(pairs("What they share", shared))
    return [*grids, next_grid(sweep_commands(sweep))]


def sweep_facts(sweep: Listed, page: str, now: float) -> dict[str, str]:
    """State, best, cost and places of a sweep."""
    best, states = listing.best_of(sweep.members), listing.counted_states(sweep.members, now)
    facts = {"members": ", ".join(f"{number} {state}" for state, number in states.items()) or "none yet"}
    failed = [member for member in sweep.members if member.found.status == "failed"]
    facts |= {f"failed {member.found.run.run_id}": member.found.reason or "no reason is recorded" for member in failed}
    if best:
        facts["ahead"] = f"{best.run_ids[0]}  {best.found_by()}, {listing.DELTAS[best.measure]} {best.number()}"
    if table := sweep.tags.get("kdam.table"):
        facts["table"] = table
    facts["last sign"] = f"{age(now - sweep.seen)} ago"
    facts["cost"] = cost_text(sweep.metrics)
    return facts | {"MLflow": f"{sweep.experiment}, run {sweep.mlflow_run or '-'}", "page": page}


def varied_and_shared(runs: Sequence[Run]) -> tuple[dict[str, str], dict[str, str]]:
    """Field -> its values among the runs; and the fields that have one value, by group."""
    flats = [flatten(run) for run in runs]
    values = {key: {str(flat[key]): flat[key] for flat in flats} for key in (flats[0] if flats else ())}
    varied = {key: _listed(list(found.values())) for key, found in values.items() if len(found) > 1}
    common = {key: next(iter(found.values())) for key, found in values.items() if len(found) == 1}
    return varied, in_groups({key: value for key, value in common.items() if value is not None})


def _listed(values: Sequence[Any]) -> str:
    """The values, numbers by size; of many the first ones."""
    texts = [str(value) for value in (sorted(values) if all(isinstance(v, int | float) for v in values) else values)]
    return ", ".join(texts[:VALUES_SHOWN]) + f" and {len(texts) - VALUES_SHOWN} more" * (len(texts) > VALUES_SHOWN)


def sweep_commands(sweep: Listed) -> dict[str, str]:
    """Useful commands -> what they do."""
    found = {f"kdam runs {sweep.id}": "its members, the highest Δ first"}
    table = sweep.tags.get("kdam.table")
    if table:
        is_smoke = sweep.experiment == experiment_name(sweep.dataset, sweep_name(SWEEP_OF[table], smoke=True))
        smoke = " --smoke" * is_smoke
        found[f"kdam tables --table {table} --dataset {sweep.dataset} --sweep {sweep.mlflow_run}{smoke}"] = "its table"
    if best := listing.best_of(sweep.members):
        found[f"kdam show {best.run_ids[0]}"] = "the member ahead"
    if table and any(member.found.status == "unfinished" for member in sweep.members):
        found[f"kdam {COMMAND_OF[table]} ..."] = "the same command again goes on with what has not finished"
    return found | {"kdam ui": "MLflow's pages"}


def sweep_document(sweep: Listed, page: str, now: float) -> dict[str, Any]:
    """The same for programs."""
    varied, shared = varied_and_shared([member.found.run for member in sweep.members])
    costs = {key: value for key, value in sweep.metrics.items() if key.startswith(("cost/", "plan/"))}
    return {"kind": "sweep"} | listing.members_document(sweep, now) | {
        "varied": varied, "shared": shared, "cost": costs, "page": page, "commands": list(sweep_commands(sweep)),
    }  # fmt: skip

"""Every kind of table of runs from fixed numbers, letter by letter, as text, CSV, JSON and one of the other formats.

    python -m pytest tests/report/test_golden_tables.py
    python tests/report/test_golden_tables.py     # writes the files anew; read what has changed

Run ids are replaced by their order of appearance: what a run's fingerprint is made of is no matter of a table.
"""

import json
import math
import random
import re
from pathlib import Path

import pytest

from kdam_ray import paper
from kdam_ray.config import change
from kdam_ray.paper import TABLES
from kdam_ray.recipes import recipe
from kdam_ray.report import gain, row_grid
from kdam_ray.report.beta_temp import Scored, table_5
from kdam_ray.report.beta_temp_grid import as_grids, as_report
from kdam_ray.report.formats import FORMATS
from kdam_ray.report.rows import PaperTable
from kdam_ray.report.tables import SeedRow
from kdam_ray.service.cost.totals import Spent
from kdam_ray.tasks import DATASETS

GOLDEN = Path(__file__).parent / "golden"
CENTRE = {"%": 40.0, "m": 0.6, "deg": 20.0}
NAN = float("nan")


def drawn(tasks, seed):
    """Metrics of a run by key, near those of the print."""
    numbers = random.Random(seed)
    return {task.metric_key: CENTRE[task.unit] * numbers.uniform(0.9, 1.1) for task in tasks}


# ------------------------------------------------------------------------------------------------------------- Table 5
def student(dataset, seed=0, **distill):
    taught = {"teacher": "resnet_w16", "teacher_run": "0123456789ab", "distill": distill} if distill else {}
    return change(recipe(dataset).student, taught | {"seed": seed})


def scored(run, *, is_finished=True, **more):
    metrics = drawn(DATASETS[run.dataset].tasks, f"{run.distill} {run.seed}") | more
    return Scored.of(run, {f"val/{key}": value for key, value in metrics.items()}, is_finished=is_finished)


def cells(dataset, method="plain_kd", seeds=1):
    tables = (paper.TABLE_5A, paper.TABLE_5B)
    points = dict.fromkeys((row.fact("beta"), row.fact("temperature")) for table in tables for row in table.rows)
    return [
        scored(
            student(dataset, seed, method=method, beta=beta, temperature=temperature),
            delta_teacher=-math.log(beta + temperature) - seed,
        )
        for seed in range(seeds)
        for beta, temperature in points
    ]


def searched(dataset, count):
    """The first has no objective."""
    return [
        scored(
            student(dataset, method="plain_kd", beta=0.31 + n, temperature=2.2, alpha=0.7),
            delta_teacher=-float(n) if n else NAN,
        )
        for n in range(count)
    ]


def without(item, key, value=None):
    metrics = {name: number for name, number in item.metrics.items() if name != key}
    return Scored(item.run, metrics if value is None else metrics | {key: value}, item.is_finished)


def whole_sweep():
    kdam = scored(student("rooms", method="kdam", beta=1.0))
    failed = [(student("rooms", method="plain_kd", beta=9.0), "the loss is nan at epoch 2")]
    runs = [*cells("rooms"), *(scored(student("rooms", seed)) for seed in range(3)), kdam, *searched("rooms", 10)]
    return table_5(runs, teacher=scored(recipe("rooms").teacher), failed=failed)


def partial_sweep():
    runs = cells("nyud", seeds=2)
    runs[0] = without(runs[0], "depth/rmse")
    runs[1] = without(runs[1], "semseg/mIoU", NAN)
    going_on = Scored(runs[2].run, runs[2].metrics, is_finished=False)
    look = scored(
        student("nyud", method="plain_kd", beta=6.0, temperature=3.0), is_finished=False, **{"edge/odsF_25": 9.0}
    )
    plain = [scored(student("nyud", seed), is_finished=seed != 3) for seed in range(4)]
    single = drawn(DATASETS["nyud"].tasks, "single")
    runs = [*runs[:2], going_on, *runs[5:], look, *plain, without(plain[0], "normals/mErr"), *searched("nyud", 2)]
    return table_5(runs, teacher=scored(recipe("nyud").teacher), single_task=single, smoke=True)


def dist_on_pascal():
    return table_5(
        [*cells("rooms_pascal", "dist"), scored(student("rooms_pascal"))], teacher=None, single_task={"a": 1.0}
    )


def one_cell():
    return table_5(
        [scored(student("rooms", method="plain_kd", beta=4.0, temperature=3.0))], teacher=None, method="kdam"
    )


def reference_of_zero():
    plain = [scored(student("rooms", seed), **{"edge/odsF": 0.0, "depth/rmse": 0.5}) for seed in range(3)]
    return table_5([*plain, *cells("rooms", "kdam")], teacher=None, method="kdam")


def seeds_alike():
    plain = [scored(student("rooms", seed), **drawn(DATASETS["rooms"].tasks, "alike")) for seed in range(2)]
    return table_5([*plain, scored(student("rooms", method="plain_kd", beta=1.0, temperature=0.25))], teacher=None)


TABLE_5 = (whole_sweep, partial_sweep, dist_on_pascal, one_cell, reference_of_zero, seeds_alike)


# ------------------------------------------------------------------------------------------------- the paper's tables
def row_of(number, index, seeds, *, network=None, part="", epochs=4, tasks=None, **more):
    row = TABLES[number].rows[index]
    learnt = TABLES[number].tasks[:tasks]
    by_seed = {seed: drawn(learnt, f"{number} {index} {part} {seed}") for seed in seeds} | more.pop("instead", {})
    ids = {seed: (f"{index:06x}{len(part):03x}{seed:03x}",) for seed in by_seed}
    network = network or f"net_{row.group.replace(' ', '_')}"
    keys = tuple(task.metric_key for task in learnt) if more.pop("says_keys", True) else ()
    return SeedRow(
        row.model, by_seed, run_ids=ids, part=part, network=network, epochs=epochs, printed=row, keys=keys, **more
    )


def table_1():
    """Everything that can be with a row."""
    rows = [row_of("1", index, range(3), params=100_000 * (index + 1), macs=4_000_000 * index) for index in range(18)]
    rows[0] = row_of("1", 0, range(3), unfinished=frozenset({2}))
    rows[1] = row_of("1", 1, range(3), says_keys=False)
    rows[2] = row_of("1", 2, range(3), instead={1: drawn(TABLES["1"].tasks[:3], "lost")}, unfinished=frozenset({0}))
    rows[3] = row_of("1", 3, (), instead={0: {}, 1: {}}, failed={0: "the loss is nan", 1: "no reason is recorded"})
    rows[4] = row_of("1", 4, (0,), instead={1: {}}, failed={1: "gone"})
    rows[6] = row_of("1", 6, range(2), instead={1: drawn(TABLES["1"].tasks, "one") | {"depth/rmse": NAN}})
    rows[16] = row_of("1", 16, range(2), network="net_swin_s", tasks=2)
    cost = Spent(12, 3600.0, 2.0, 61.0, None, unknown=1)
    return PaperTable.of(TABLES["1"], "rooms", tuple(rows), {"hrnet18": "resnet_w8", "swin_t": "swin_w12"}, cost=cost)


def table_2():
    """Rows that share no seed or one with their baselines; a column that nobody has learnt."""
    alike = {"semseg/mIoU": 11.638}
    seeds = ((0, 1), (2,), (0, 1, 2), (2, 3), (0, 1), (0, 1))
    rows = [row_of("2", index, found) for index, found in enumerate(seeds)]
    for row in rows[:5]:
        for metrics in row.by_seed.values():
            metrics.update(alike)
    return PaperTable.of(TABLES["2"], "nyud", tuple(rows), {})


def table_3():
    rows = [row_of("3", index, range(2)) for index in range(13)]
    rows[7] = row_of("3", 7, range(2), tasks=4)
    return PaperTable.of(TABLES["3"], "rooms_pascal", tuple(rows), {"swin_t": "swin_w12"}, smoke=True)


def table_4():
    rows = [row_of("4", index, range(1 if row.is_teacher else 3)) for index, row in enumerate(TABLES["4"].rows)]
    for metrics in rows[2].by_seed.values():
        metrics["edge/odsF"] = 0.0
    return PaperTable.of(TABLES["4"], "nyud", tuple(rows), {}, cost=Spent(0, 0.0, 0.0, 0.0, None))


def table_6():
    return PaperTable.of(TABLES["6"], "rooms", tuple(row_of("6", index, (0,)) for index in range(4)), {}, smoke=True)


def table_7():
    rows = [row_of("7", index, range(2), epochs=index + 1, network="net") for index in range(5)]
    looks = [
        row_of(
            "7", index, range(2), epochs=index + 1, part="one run", network="net", provisional=frozenset({"edge/odsF"})
        )
        for index in range(3)
    ]
    unseen = row_of(
        "7", 3, (0,), instead={1: {}, 2: {}}, epochs=4, part="one run", network="net", unseen=frozenset({1, 2})
    )
    return PaperTable.of(TABLES["7"], "rooms", (*rows, *looks, unseen), {"swin_t": "net"})


PAPER = (table_1, table_2, table_3, table_4, table_6, table_7)


# ----------------------------------------------------------------------------------------------------------- the study
def variant(label, against, seeds, tasks, **more):
    return SeedRow(label, {seed: drawn(tasks, f"{label} {seed}") | more for seed in seeds}, against)


def study():
    tasks = DATASETS["rooms"].tasks
    lost = variant("KDAM, labels", "KDAM", (0, 2), tasks)
    del lost.by_seed[2]["depth/rmse"]
    variants = (
        variant("no KD", "", range(3), tasks),
        variant("KDAM", "no KD", range(3), tasks, **{"normals/mErr": 20.0}),
        lost,
        variant("plain KD", "no KD", range(1, 3), tasks, **{"edge/odsF": NAN}),
        variant("DIST", "no KD", (), tasks),
        variant("lonely", "nobody", (0,), tasks),
    )
    teachers = {
        "teacher strong (resnet_w16)": drawn(tasks, "strong"),
        "teacher blind (resnet_w8)": drawn(tasks[:2], "blind"),
    }
    return gain.GainTable(tasks, variants, heading="net on rooms, 4 epochs of 8 images", teachers=teachers)


def study_of_one_seed():
    tasks = DATASETS["rooms_pascal"].tasks
    plain, kdam = variant("no KD", "", (0,), tasks, **{"edge/odsF": 0.0}), variant("KDAM", "no KD", (0,), tasks)
    return gain.GainTable(tasks, (plain, kdam), heading="net on rooms_pascal")


def study_without_rivals():
    tasks = DATASETS["rooms"].tasks
    return gain.GainTable(
        tasks, (variant("no KD", "", range(2), tasks), variant("KDAM", "", (0,), tasks)), heading="net on rooms"
    )


STUDIES = (study, study_of_one_seed, study_without_rivals)


# ------------------------------------------------------------------------------------------------------------- letters
def shown(make):
    """{format: text} of one table; "said" is what a job prints where that is more than the grids."""
    found = make()
    if make in TABLE_5:
        said, document = as_report(found)
        return _formats(as_grids(found)) | {"said": said, "json": _json(document)}
    if make in PAPER:
        return _formats(row_grid.grids(found)) | {"json": _json(row_grid.document(found))}
    return _formats(gain.grids(found)) | {"said": gain.as_text(found), "json": _json(gain.as_json(found))}


def _formats(grids):
    return {form: render(grids) for form, render in FORMATS.items()}


def _json(document):
    return json.dumps(document, ensure_ascii=False).replace("}, {", "},\n{").replace('"rows": [', '"rows": [\n')


def letters(make):
    """One file of a table: every format of the first of its kind, of the others those that hold all."""
    found = shown(make)
    kept = found if make in (whole_sweep, table_7, study) else {"text", "said", "csv", "json"} & found.keys()
    text = "\n".join(f"===== {form}\n{found[form]}" for form in sorted(kept)) + "\n"
    known = {}
    return re.sub(r"\b[0-9a-f]{12}\b", lambda match: known.setdefault(match[0], f"run_{len(known)}"), text)


def file_of(make):
    kind = "beta_temp" if make in TABLE_5 else "paper" if make in PAPER else "gain"
    return GOLDEN / f"{kind}_{make.__name__}.txt"


@pytest.mark.parametrize("make", [*TABLE_5, *PAPER, *STUDIES])
def test_letter_by_letter(make):
    assert letters(make) == file_of(make).read_text()


if __name__ == "__main__":
    for table in (*TABLE_5, *PAPER, *STUDIES):
        file_of(table).write_text(letters(table))

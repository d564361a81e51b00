"""Tables of rows from MLflow alone: sweeps do not mix, half-finished ones are right, long runs are looked into.

python -m pytest tests/report/test_recorded_tables.py
"""

import pytest

from kdam_ray.config import Place, change
from kdam_ray.paper import TABLES
from kdam_ray.recipes import Schedule
from kdam_ray.report.from_mlflow import dataset_of, made
from kdam_ray.report.recorded import DOCUMENT, read_table, table_of, with_seeds_of
from kdam_ray.service.records.storage import Storage
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.studies.table_runs import differences, priced, table_sweep

KEYS = ("semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF")
GOOD = (40.0, 0.6, 21.0, 76.0)


@pytest.fixture
def here(own_mlflow):
    return Place(storage=str(own_mlflow.parent), workers=2, gpus=False)


@pytest.fixture
def tracking(here):
    return Tracking(here)


def wanted(here, number, *, seeds=1, **schedule):
    return table_sweep(number, Schedule(smoke=True, **schedule), seeds=seeds, name="some", place=here)


def begin(tracking, of):
    parent = tracking.open_parent(of.sweep)
    tracking.log_document(parent, DOCUMENT, of.recorded.model_dump(mode="json"))
    return parent


def last(tracking):
    return table_of(tracking, tracking.parents("rooms", "some_smoke")[0].mlflow_run)


def runs_of(of):
    return {run.run_id: run for run in (*(change(of.sweep.base, changes) for changes in of.sweep.cells), *of.teachers)}


def record(tracking, run, values=GOOD, *, epochs=None, status="finished", sweep="some"):
    child = tracking.open_member(run, sweep=sweep)
    keys = dict(zip(KEYS, values, strict=True))
    metrics = {f"val/{key}": value for key, value in keys.items() if key.split("/")[0] in run.tasks}
    for epoch in range(1, (epochs or run.epochs) + 1):
        last = epoch == run.epochs
        at = {
            (name if last else name.replace("odsF", "odsF_25")): value + (0 if last else epoch)
            for name, value in metrics.items()
        }
        tracking.log_epoch(child, at, epoch)
    if status:
        tracking.end_member(child, status, reason="nan" if status == "failed" else None)


def test_a_sweeps_cells_are_the_runs_of_its_rows(here):
    of = wanted(here, "6", seeds=2)
    found = runs_of(of)
    assert set(of.recorded.run_ids) == found.keys() - {teacher.run_id for teacher in of.teachers}
    assert all(
        run.teacher_run == of.teachers[0].run_id
        for run in found.values()
        if run.distill.method != "none" and run.teacher
    )
    assert (
        change(of.sweep.base, differences(of.sweep.base, found[of.recorded.run_ids[-1]]))
        == found[of.recorded.run_ids[-1]]
    )


@pytest.mark.slow
def test_networks_start_from_local_files(here, tmp_path):
    from safetensors.torch import save_file

    from kdam_ray.models.backbones import build_backbone

    save_file(build_backbone("swin_w12").state_dict(), tmp_path / "swin.safetensors")
    of = table_sweep(
        "6",
        Schedule(smoke=True),
        seeds=1,
        name="some",
        place=here,
        weights={"swin_w12": str(tmp_path / "swin.safetensors")},
    )
    starts = {run.student: run.pretrained[:7] for run in runs_of(of).values()}
    assert starts == {"swin_w12": "sha256:", "resnet_w16": "none"}
    with pytest.raises(ValueError, match="weights: 'swin_t' is none of this table's networks: swin_w12, resnet_w16"):
        table_sweep("6", Schedule(smoke=True), seeds=1, name="some", place=here, weights={"swin_t": "x.pth"})


def test_rows_of_teachers_are_trained_as_teachers_and_have_one_seed(here):
    of = wanted(here, "4", seeds=2)
    teacher_rows = [row for row in of.recorded.rows if "teaching" in TABLES["4"].rows[row.index].group]
    ids = {run_id for row in teacher_rows for run_id in row.runs[0]}
    assert all(list(row.runs) == [0] for row in teacher_rows)
    assert ids == {run.run_id for run in of.teachers}
    assert {run.batch_norm_ranks for run in of.teachers} == {2}
    assert {change(of.sweep.base, changes).batch_norm_ranks for changes in of.sweep.cells} == {1}


def test_every_finished_run_is_in_its_row_and_the_others_are_missing(here, tracking):
    of = wanted(here, "6", seeds=2)
    begin(tracking, of)
    runs = runs_of(of)
    first, second, third = (of.recorded.rows[index].runs for index in range(3))
    record(tracking, runs[first[0][0]], (10.0, 1.0, 30.0, 70.0))
    record(tracking, runs[first[1][0]], (12.0, 1.0, 30.0, 70.0))
    record(tracking, runs[second[0][0]], status="failed")
    record(tracking, runs[third[0][0]], (20.0, 0.5, 15.0, 80.0), sweep="another")  # trained by another table's job
    shown = read_table(last(tracking), tracking)
    assert shown.number(shown.rows[0], "semseg/mIoU").mean == 11.0
    assert [sorted(seed for seed, metrics in row.by_seed.items() if metrics) for row in shown.rows] == [
        [0, 1],
        [],
        [0],
        [],
    ]
    assert shown.number(shown.rows[2], "edge/odsF").paper == 76.50
    assert [row.printed for row in shown.missing] == [TABLES["6"].rows[1], TABLES["6"].rows[3]]


def test_an_unfinished_run_counts_only_where_partial_is_asked_and_is_marked(here, tracking):
    of = wanted(here, "6", epochs=4)
    begin(tracking, of)
    run = runs_of(of)[of.recorded.rows[0].runs[0][0]]
    record(tracking, run, epochs=2, status=None)
    recorded = last(tracking)
    assert read_table(recorded, tracking).number(read_table(recorded, tracking).rows[0], "semseg/mIoU") is None
    row = read_table(recorded, tracking, partial=True).rows[0]
    assert row.by_seed[0] == dict(
        zip(KEYS, (42.0, 2.6, 23.0, 78.0), strict=True)
    )  # of epoch 2; boundaries by their look
    assert row.unfinished == {0}


def test_two_sweeps_in_one_experiment_do_not_mix(here, tracking):
    short, long = wanted(here, "6", epochs=1), wanted(here, "6", epochs=2)
    for of, value in ((short, 10.0), (long, 20.0)):
        begin(tracking, of)
        record(tracking, runs_of(of)[of.recorded.rows[0].runs[0][0]], (value, 1.0, 30.0, 70.0))
    shown = read_table(last(tracking), tracking)
    assert shown.number(shown.rows[0], "semseg/mIoU").mean == 20.0
    begin(tracking, short)  # asked for again: it is the newest now
    shown = read_table(last(tracking), tracking)
    assert shown.number(shown.rows[0], "semseg/mIoU").mean == 10.0


def test_a_long_run_is_looked_at_on_its_way(here, tracking):
    of = wanted(here, "7")
    begin(tracking, of)
    longest = max(runs_of(of).values(), key=lambda run: run.epochs)
    record(tracking, longest)
    shown = read_table(of.recorded, tracking)
    on_the_way = [row for row in shown.rows if row.part]
    assert [row.by_seed[0]["semseg/mIoU"] for row in on_the_way] == [41.0, 42.0, 43.0, 44.0]
    assert [row.by_seed[0]["edge/odsF"] for row in on_the_way] == [77.0, 78.0, 79.0, 80.0]
    assert all(row.provisional == {"edge/odsF"} for row in on_the_way)
    whole = next(row for row in shown.rows if row.epochs == 6)
    assert whole.by_seed[0]["edge/odsF"] == 76.0
    assert not whole.provisional


def test_a_long_run_that_goes_on_or_failed_is_looked_at_only_where_asked(here, tracking):
    of = wanted(here, "7")
    begin(tracking, of)
    longest = max(runs_of(of).values(), key=lambda run: run.epochs)
    record(tracking, longest, epochs=4, status=None)
    on_the_way = [row for row in read_table(of.recorded, tracking).rows if row.part]
    assert not any(row.seeds for row in on_the_way)
    on_the_way = [row for row in read_table(of.recorded, tracking, partial=True).rows if row.part]
    assert [row.unfinished for row in on_the_way] == [{0}] * 4
    tracking.end_member(tracking.find([longest.run_id])[longest.run_id].mlflow_run, "failed", reason="nan")
    on_the_way = [row for row in read_table(of.recorded, tracking, partial=True).rows if row.part]
    assert [(row.seeds, row.failed) for row in on_the_way] == [([], {0: "nan"})] * 4


def test_an_epoch_that_was_not_evaluated_is_told_from_a_run_that_did_not_end(here, tracking):
    of = wanted(here, "7")
    begin(tracking, of)
    longest = max(runs_of(of).values(), key=lambda run: run.epochs)
    child = tracking.open_member(longest, sweep="some")
    tracking.log_epoch(child, {f"val/{key}": 1.0 for key in KEYS}, longest.epochs)  # as with --evaluate-every 100
    tracking.end_member(child, "finished")
    assert [row.unseen for row in read_table(of.recorded, tracking).rows if row.part] == [{0}] * 4


def test_the_table_of_a_sweep_keeps_the_seeds_of_earlier_calls(here):
    two, one, other = (wanted(here, "6", seeds=seeds, epochs=epochs) for seeds, epochs in ((2, 2), (1, 2), (1, 3)))
    assert two.sweep.sweep_id == one.sweep.sweep_id != other.sweep.sweep_id
    assert with_seeds_of(one.recorded, two.recorded) == two.recorded
    assert with_seeds_of(two.recorded, one.recorded) == two.recorded
    assert with_seeds_of(two.recorded, None) == two.recorded


def test_sweeps_that_differ_only_in_their_teachers_schedule_are_two(here, tracking):
    short, long = (wanted(here, "6", teacher_epochs=epochs) for epochs in (2, 3))
    assert short.sweep.base == long.sweep.base
    assert begin(tracking, short) != begin(tracking, long)
    assert len(tracking.parents("rooms", "some_smoke")) == 2


@pytest.mark.slow
def test_costs_are_those_of_the_networks_that_make_a_row(here):
    of = wanted(here, "1")
    rows = priced(of, Storage(here.storage)).rows
    single, mt = rows[0], rows[1]
    assert 0 < mt.params < single.params < 4.5 * mt.params  # four networks of one task each
    assert mt.macs < single.macs
    assert priced(wanted(here, "6"), Storage(here.storage)).rows[0].params is None  # the print has no costs there


def test_single_task_networks_make_one_row(here, tracking):
    of = wanted(here, "1")
    begin(tracking, of)
    runs = runs_of(of)
    for run_id in of.recorded.rows[0].runs[0]:
        record(tracking, runs[run_id])
    shown = read_table(of.recorded, tracking)
    assert shown.rows[0].by_seed[0] == dict(zip(KEYS, GOOD, strict=True))


def test_a_sweep_without_its_document_is_not_called_nothing(here, tracking):
    of = wanted(here, "6")
    tracking.open_parent(of.sweep.model_copy(update={"name": "terms_smoke", "table": 6}))
    with pytest.raises(ValueError, match=r"has sweeps, but none whose artifact table.json can be read"):
        made("6", "rooms", tracking, smoke=True, partial=False)
    with pytest.raises(ValueError, match=r"run `kdam ablate-terms --dataset rooms` first; with --smoke there is one"):
        made("6", "rooms", tracking, smoke=False, partial=False)


def test_all_tables_name_what_is_not_recorded(here, tracking):
    with pytest.raises(
        ValueError, match=r"table 4: nothing is recorded in experiment kdam/rooms/pairs_smoke of .*kdam sweep-pairs"
    ):
        made("4", "rooms", tracking, smoke=True, partial=False)
    with pytest.raises(ValueError, match="dataset: Table 1 is of rooms or nyud, not pascal"):
        made("1", "pascal", tracking, smoke=True, partial=False)
    assert [dataset_of(number, "rooms") for number in "135"] == ["rooms", "rooms_pascal", "rooms"]
    assert dataset_of("3", "nyud") == "pascal"
    assert dataset_of("5", "rooms_pascal") == "rooms_pascal"

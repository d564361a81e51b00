"""What is recorded is listed in bounded calls, found by whatever a person calls it, and alive only while it lives.

python -m pytest tests/service/records/test_listing.py
"""

import time
from dataclasses import replace

import pytest
from recorded import small_sweep

from kdam_ray.config import Place
from kdam_ray.service.records import listing
from kdam_ray.service.records.listing import (
    QUIET_S,
    find_listed,
    find_members,
    list_sweeps,
    one_member,
    opened,
    page_of,
    sweep_of,
    unknown,
    with_members,
)  # fmt: skip
from kdam_ray.service.records.tracking import Tracking
from kdam_ray.service.wording import without_password


@pytest.fixture
def recorded(tmp_path, own_mlflow):
    place = Place(storage=str(tmp_path / "runs"))
    return Tracking(place), *small_sweep(place)


def test_a_sweep_is_listed_with_its_members(recorded):
    tracking, sweep, parent, runs = recorded
    found = list_sweeps(tracking, dataset=None, sweeps=5, members=100)
    (listed,) = found.sweeps
    assert (listed.id, listed.mlflow_run, listed.dataset, listed.name) == (sweep.sweep_id, parent, "rooms", "listed")
    assert {member.found.run.run_id for member in listed.members} == {run.run_id for run in runs.values()}
    assert (found.more, found.unread, listed.more) == (False, frozenset(), False)
    assert list_sweeps(tracking, dataset="nyud", sweeps=5, members=100).sweeps == ()


def test_what_is_left_out_is_said(recorded):
    tracking, sweep, first, _ = recorded
    time.sleep(0.01)  # `kdam.opened` counts milliseconds
    second = tracking.open_parent(sweep.model_copy(update={"name": "later"}))
    newest = list_sweeps(tracking, dataset=None, sweeps=1, members=3)
    assert [listed.mlflow_run for listed in newest.sweeps] == [second]
    assert newest.more
    both = list_sweeps(tracking, dataset=None, sweeps=2, members=3)
    assert (both.more, both.unread) == (False, frozenset())
    assert (len(both.sweeps[1].members), both.sweeps[1].more) == (3, True)
    assert list_sweeps(tracking, dataset=None, sweeps=2, members=0).unread == {first, second}


@pytest.mark.parametrize("name", ["id", "start of id", "mlflow", "listed", "rooms/listed", "kdam/rooms/listed"])
def test_a_sweep_has_many_names(name, recorded):
    tracking, sweep, parent, _ = recorded
    named = {"id": sweep.sweep_id, "start of id": sweep.sweep_id[:5], "mlflow": parent}.get(name, name)
    (found,) = find_listed(tracking, named)
    assert found.mlflow_run == parent
    assert len(with_members(tracking, found).members) == 7


def test_a_run_is_found_by_its_beginning_and_by_mlflows_id(recorded):
    tracking, sweep, parent, runs = recorded
    run_id = runs["kd"].run_id
    (member,) = find_members(tracking, run_id[:6])
    assert (member.found.run.run_id, member.title, member.epoch) == (run_id, "b1 T3 s0", 2)
    assert find_members(tracking, member.found.mlflow_run) == [member]
    assert sweep_of(tracking, member).mlflow_run == parent
    assert page_of(tracking, "kdam/rooms/listed", parent).startswith("http://127.0.0.1:5000/#/experiments/")
    assert find_members(tracking, "zzz") == find_members(tracking, "0" * 12) == find_listed(tracking, "nothing") == []
    link = tracking.link_member(member.found, sweep=sweep.model_copy(update={"name": "other"}), parent="p")
    assert link != member.found.mlflow_run
    assert find_members(tracking, link) == find_members(tracking, run_id) == [member]


def test_a_wrong_id_names_the_nearest(recorded):
    tracking, _, _, runs = recorded
    run_id = runs["kd"].run_id
    wrong = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
    with pytest.raises(ValueError, match=f"^run: .* has no run '{wrong}'; perhaps {run_id}"):
        one_member(tracking, wrong, find_members(tracking, wrong))
    assert "perhaps listed" in unknown(tracking, "sweep", "listde")
    assert "`kdam runs` lists what there is" in unknown(tracking, "sweep", "????")
    members = [member for name in ("kd", "plain") for member in find_members(tracking, runs[name].run_id)]
    with pytest.raises(ValueError, match="is the beginning of 2 runs; write more of it: "):
        one_member(tracking, "ab", members)


def test_training_is_what_gave_a_sign_of_life(recorded):
    tracking, _, _, runs = recorded
    (begun,) = find_members(tracking, runs["begun"].run_id)
    (done,) = find_members(tracking, runs["kd"].run_id)
    (failed,) = find_members(tracking, runs["failed"].run_id)
    assert begun.state(begun.seen + QUIET_S / 2) == "training"
    assert begun.state(begun.seen + 2 * QUIET_S) == "unfinished"
    slow = replace(begun, begun=0.0, seen=20 * QUIET_S, epoch=2)  # an epoch takes ten times as long as the silence
    assert slow.state(slow.seen + 2 * QUIET_S) == "training"
    assert (done.state(done.seen), failed.state(failed.seen)) == ("finished", "failed")


def test_nothing_is_created_where_nothing_is_recorded(tmp_path):
    with pytest.raises(ValueError, match=r"mlflow\.db does not exist, so nothing is recorded there"):
        opened(Place(storage=str(tmp_path / "none")))
    assert list(tmp_path.iterdir()) == []


def test_no_password_is_shown():
    assert without_password("postgresql://me:secret@host/db") == "postgresql://host/db"
    assert (
        without_password("postgresql://me:se/cr@et@host/db?password=x&a=1") == "postgresql://host/db?password=...&a=1"
    )
    assert without_password("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_pages_are_read_one_after_the_other(monkeypatch, recorded):
    tracking, *_ = recorded
    monkeypatch.setattr(listing, "PAGE", 2)
    (sweep,) = list_sweeps(tracking, dataset=None, sweeps=5, members=5).sweeps
    assert (len(sweep.members), sweep.more) == (5, True)

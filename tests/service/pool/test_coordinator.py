"""Who may ask what: everything that trains or coordinates satisfies its Protocol; and what progress prints.

python -m pytest tests/service/pool/test_coordinator.py
"""

import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest
from fakes import fake_train, make_run

from kdam_ray.config import Place, Sweep
from kdam_ray.learning import train_cohort
from kdam_ray.service.pool import progress as progress_module
from kdam_ray.service.pool import ray_coordinator
from kdam_ray.service.pool.assignment import Assignment, Notice
from kdam_ray.service.pool.coordinator import LocalCoordinator
from kdam_ray.service.pool.progress import EVERY_S, Progress
from kdam_ray.service.pool.protocols import Coordinator, Train
from kdam_ray.service.records.storage import Storage

# mypy looks at these too
COORDINATORS: list[type[Coordinator]] = [LocalCoordinator]
TRAININGS: list[Train] = [train_cohort, fake_train]
QUESTIONS = sorted(name for name in vars(Coordinator) if not name.startswith("_"))


def parameters(function) -> list[tuple]:
    return [(item.name, item.kind) for item in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("kind", COORDINATORS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_coordinator_answers_every_question(kind, question):
    theirs, ours = (inspect.signature(getattr(one, question)) for one in (kind, Coordinator))
    assert [(item.name, item.default) for item in theirs.parameters.values()] == [
        (item.name, item.default) for item in ours.parameters.values()
    ]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_handle_passes_every_question_on(question, monkeypatch):
    """To the actor, in the words it was asked in; what `coordinating` gives is typed as a Coordinator."""
    monkeypatch.setattr(ray_coordinator.ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray_coordinator.ray, "wait", lambda answers, timeout: (answers, []))
    asked = []
    actor = actor_that_notes(asked)
    words = tuple(item.name for item in list(inspect.signature(getattr(Coordinator, question)).parameters.values())[1:])
    getattr(ray_coordinator.RayCoordinator(actor), question)(*words)
    assert asked == [(question.removesuffix("_by_now"), *words)]


def actor_that_notes(asked):
    """An actor's handle: each of its methods writes down that it was asked, and what."""

    class Actor:
        def __getattr__(self, name):
            return SimpleNamespace(remote=lambda *what: asked.append((name, *what)) or "answer")

    return Actor()


@pytest.mark.parametrize("train", TRAININGS)
def test_a_training_takes_what_a_worker_gives(train):
    wanted = parameters(Train.__call__)[1:]
    taken = parameters(train)
    assert taken[: len(wanted)] == wanted
    assert all(
        item.default is not item.empty for item in list(inspect.signature(train).parameters.values())[len(wanted) :]
    )


def test_the_types_load_neither_ray_nor_torch():
    modules = ("pool.assignment", "pool.protocols", "pool.coordinator", "search.study", "search.importance", "seats")
    names = [f"kdam_ray.service.{name}" for name in (*modules, "wording")]
    code = f"import sys, {', '.join(names)}; print(*({{'ray', 'torch', 'optuna'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_without_a_search_there_is_no_study(tmp_path):
    base = make_run()
    for sweep in (None, Sweep(name="cells", base=base, cells=({},))):
        coordinator = LocalCoordinator(Storage(str(tmp_path)), sweep)
        assert (coordinator.take(base), coordinator.draw()) == (None, None)
        assert not coordinator.observe(0, 1, -5.0)
    searched = Sweep(name="searched", base=base, cells=({},), space={"optim.lr": (1e-4, 1e-1)}, trials=1)
    coordinator = LocalCoordinator(Storage(str(tmp_path)), searched)
    assert coordinator.take(base) == 0
    coordinator.tell(0, "finished", 1.0)
    drawn = coordinator.draw()
    assert (drawn.number, drawn.searched) == (1, True)


def test_progress_says_where_cohorts_are(tmp_path, monkeypatch):
    """The lines of a log, word for word."""
    said, now = [], [100.0]
    monkeypatch.setattr(progress_module, "say", said.append)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    coordinator = LocalCoordinator(Storage(str(tmp_path)))
    cohorts = {
        title: Assignment(title=title, about="2 members, 1 worker", members=(), place=Place()) for title in ("a", "b")
    }
    trials = {title: SimpleNamespace(config=cohorts[title].model_dump(mode="json"), local_path="") for title in "ab"}
    progress = Progress(coordinator, flops=400.0, costs={"a": 200.0, "b": 200.0})
    for title, assignment in cohorts.items():
        coordinator.submit(assignment)
        progress.on_trial_start(0, [], trials[title])
    step = {"epochs": 2, "epochs_done": 0, "step": 1, "steps": 2}
    coordinator.notice("a", Notice(epoch=1, members=2, best=None, **step))
    progress.on_step_end(0, [])
    now[0] += EVERY_S + 4
    coordinator.notice("a", Notice(epoch=2, members=1, best=(-1.25, "distill.beta=2.0"), **step))
    progress.on_step_end(1, [])
    progress.on_step_end(2, [])  # a moment later: nothing new
    coordinator.over("b", "first line\nlast line")
    progress.on_trial_complete(0, [], trials["b"])
    progress.on_trial_complete(0, [], trials["a"])
    best = "; ahead so far distill.beta=2.0: -1.2 % to the teacher; about "
    assert said == [
        "a: 2 members, 1 worker",
        "b: 2 members, 1 worker",
        "a: epoch 1/2, step 1/2, 2 members; about 28 s left",
        f"a: epoch 2/2, step 1/2, 1 member{best}27 s left",
        "b: FAILED\n    first line\n    last line",
        f"a: done{best}27 s left",
    ]

"""The Optuna study of a sweep: what was tried, what to try next, what is hopeless.

A study is a journal file, `<storage>/studies/<name>.journal`, so it outlives every process. It holds the table's own
cells that lie in the searched space and the searched trials between them; each trial records its whole Run, so that a
trial cut short can be taken up again. A trial is a point at the base's seed: further seeds of it are no further points,
and the study does not hear of them. While a sweep runs, one process owns it.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdam_ray.config import Run, Sweep, canonical_json, change, flatten
from kdam_ray.service.records import Storage

# draws before TPE models anything; cells that are done count, so with a table's cells it never waits
STARTUP_TRIALS = 4

Outcome = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial of the study.

    Attributes:
        number: Optuna's.
        run: what it trains.
        searched: drawn by the search; False for a cell of the table.
        outcome: None while it is open.
        value: the objective, if it finished.
    """

    number: int
    run: Run
    searched: bool
    outcome: Outcome | None
    value: float | None


def study_name(sweep: Sweep) -> str:
    """Sweeps that share name, base and space share a study, whatever their cells and number of trials."""
    text = canonical_json(sweep.base) + json.dumps(sweep.space, sort_keys=True)
    text += json.dumps(sweep.choices, sort_keys=True) if sweep.choices else ""
    return f"{sweep.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def searched_params(sweep: Sweep, run: Run) -> dict[str, Any] | None:
    """The searched fields of a run by dotted name, and the name of each alternative.

    None if it is no point of the space: it differs elsewhere, or is outside.
    """
    flat = flatten(run)
    params = {name: float(flat[name]) for name in sweep.space if isinstance(flat.get(name), int | float)}
    if not sweep.space or not all(
        low <= params.get(name, low - 1) <= high for name, (low, high) in sweep.space.items()
    ):
        return None
    for names in itertools.product(*sweep.choices.values()):
        chosen = dict(zip(sweep.choices, names, strict=True))
        if point(sweep, chosen | params) == run:
            return chosen | params
    return None


def point(sweep: Sweep, params: Mapping[str, Any]) -> Run:
    """The run at these values of the searched fields and these names of alternatives."""
    changes: dict[str, Any] = {}
    for name, value in params.items():
        changes |= sweep.choices[name][value] if name in sweep.choices else {}
    return change(sweep.base, changes | {name: value for name, value in params.items() if name not in sweep.choices})


class Study:
    """Ask, tell and prune, on the journal of one sweep; the objective is maximised.

    Args of the constructor:
        storage: where the journal lies; on S3 a local copy is worked on and pushed after each change.
        sweep: whose study.
    """

    def __init__(self, storage: Storage, sweep: Sweep):
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        from kdam_ray.service.search.pruner import OutOfReach

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._storage, self._sweep = optuna, storage, sweep
        self._name = f"studies/{study_name(sweep)}.journal"
        self._path = self._local_journal()
        self._study = optuna.create_study(
            study_name=study_name(sweep), storage=JournalStorage(JournalFileBackend(str(self._path))),
            direction="maximize", load_if_exists=True, pruner=OutOfReach(sweep.base.epochs),
        )  # fmt: skip
        # Seeded, but by the number of trials too: a study taken up again must not draw its first points once more.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=sweep.base.seed + 1000 * len(self._study.trials), n_startup_trials=STARTUP_TRIALS, constant_liar=True
        )

    @staticmethod
    def exists(storage: Storage, sweep: Sweep) -> bool:
        """Whether the sweep has a study already."""
        return storage.exists(f"studies/{study_name(sweep)}.journal")

    def trials(self) -> list[Trial]:
        """All trials that train a run, in the order of their numbers."""
        return [trial for frozen in self._study.get_trials(deepcopy=False) if (trial := self._read(frozen)) is not None]

    def take(self, run: Run) -> int:
        """Open a trial for a cell of the table; the one it has, if it has one. Returns its number."""
        for trial in self.trials():
            if trial.run == run:
                return trial.number
        params = searched_params(self._sweep, run)
        assert params is not None, "only points of the space are taken into the study"
        self._study.enqueue_trial(params)
        opened = self._study.ask()
        self._suggest(opened)
        self._record(opened, run, searched=False)
        return opened.number

    def draw(self) -> Trial | None:
        """Open a trial at the next point of the search; None if the space has no new one."""
        known = {trial.run.run_id for trial in self.trials()}
        for _ in range(20):
            trial = self._study.ask()
            drawn = self._suggest(trial).items()  # numbers with four digits, so that they can be read
            params = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in drawn}
            run = point(self._sweep, params)
            if run.run_id not in known:
                self._record(trial, run, searched=True)
                return Trial(trial.number, run, True, None, None)
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def tell(self, number: int, outcome: Outcome, value: float | None = None) -> None:
        """Close a trial; telling a closed one again changes nothing."""
        if self._study.get_trials(deepcopy=False)[number].state.is_finished():
            return
        if outcome == "finished" and value is not None and value == value:
            self._study.tell(number, value)
        else:
            self._study.tell(number, state=self._optuna.trial.TrialState["PRUNED" if outcome == "pruned" else "FAIL"])
        self._push()

    def observe(self, number: int, epoch: int, value: float) -> bool:
        """Record the objective after an epoch. Returns whether an Optuna pruner calls the trial hopeless."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        if frozen.state.is_finished():  # trained again, for its record in MLflow is gone; a closed trial takes no more
            return False
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        if epoch not in frozen.intermediate_values:  # a resumed member may say an epoch twice
            trial.report(value, epoch)
            self._push()
        return bool(trial.should_prune())

    def _suggest(self, trial: Any) -> dict[str, Any]:
        """A value for each field of the space, a name for each alternative."""
        names = {name: trial.suggest_categorical(name, list(rows)) for name, rows in self._sweep.choices.items()}
        return names | {
            name: trial.suggest_float(name, low, high, log=True) for name, (low, high) in self._sweep.space.items()
        }

    def _record(self, trial: Any, run: Run, *, searched: bool) -> None:
        trial.set_user_attr("run", canonical_json(run))
        trial.set_user_attr("searched", searched)
        self._push()

    def _read(self, frozen: Any) -> Trial | None:
        text, state = frozen.user_attrs.get("run"), frozen.state.name
        if text is None:
            return None
        outcomes: dict[str, Outcome] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        value = frozen.value if state == "COMPLETE" else None
        return Trial(
            frozen.number, Run.model_validate_json(text), frozen.user_attrs["searched"], outcomes.get(state), value
        )

    def _local_journal(self) -> Path:
        if self._storage.local is not None:
            path = self._storage.local / self._name
            path.parent.mkdir(parents=True, exist_ok=True)
            return path
        there = self._storage.exists(self._name)
        return self._storage.fetch(self._name) if there else self._storage.scratch() / Path(self._name).name

    def _push(self) -> None:
        if self._storage.local is None:
            self._storage.save_file(self._path, self._name)

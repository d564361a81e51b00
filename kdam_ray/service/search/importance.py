"""Which searched parameters the objective hung on, beside what chance alone would make of them.

A trial is a mapping {"params": {"distill.beta": 0.3, ...}, "value": 1.2 or None, "state": "finished", "pruned" or
"failed"}.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOGARITHMIC = ("beta", "temperature", "alpha", "lr", "mixing_lr")  # last part of a parameter's name
TREES, SHUFFLES, CHANCE = 32, 20, 0.95

TrialRecord = Mapping[str, Any]


def value_of(trial: TrialRecord) -> float | None:
    """The objective of a finished trial."""
    value = trial.get("value")
    return value if trial.get("state") == "finished" and value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Importances:
    """How much of the objective's variance each parameter explains.

    Attributes:
        shares: parameter -> share of the variance, the largest first; they sum to 1, whatever the data.
        by_chance: parameter -> share that 95 % of studies with the same points and shuffled objectives stay below.
        trials: finished ones that were used.
        excuse: why there are no shares; "" if there are.
    """

    shares: Mapping[str, float]
    by_chance: Mapping[str, float]
    trials: int
    excuse: str = ""


def importances(trials: Sequence[TrialRecord]) -> Importances:
    """Importances by fANOVA, beside what it makes of shuffled objectives.

    fANOVA (a random forest's variance split over its inputs), as Optuna computes it, works from a dozen trials on,
    where PED-ANOVA, which compares the best tenth with the rest, has one or two to compare with. But its shares sum to
    1 even for pure noise, hence the comparison.
    """
    finished = [trial for trial in trials if value_of(trial) is not None]
    values = [float(value_of(trial) or 0.0) for trial in finished]
    names = [
        name
        for name in (finished[0]["params"] if finished else ())
        if all(name in trial["params"] for trial in finished)
    ]
    varied = [name for name in names if len({trial["params"][name] for trial in finished}) > 1]
    needed = max(10, 4 * len(varied))
    if len(finished) < needed:
        return Importances(
            {}, {}, len(finished), f"{len(finished)} finished trials: too few for importances ({needed} are needed)"
        )
    if len(varied) < 2 or len(set(values)) < 2:
        what = "fewer than two parameters were varied" if len(varied) < 2 else "all trials have the same objective"
        return Importances({}, {}, len(finished), f"no importances: {what}")
    points = [{name: trial["params"][name] for name in varied} for trial in finished]
    shares = _fanova(points, values)
    order, drawn = random.Random(0), []
    for _ in range(SHUFFLES):
        order.shuffle(values)
        drawn.append(_fanova(points, values))
    by_chance = {name: sorted(one[name] for one in drawn)[math.ceil(CHANCE * SHUFFLES) - 1] for name in varied}
    return Importances(dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))), by_chance, len(finished))


def _fanova(points: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    """Shares of an in-memory study made of these points; the same every time."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: _distribution(name, [point[name] for point in points]) for name in points[0]}
    study = optuna.create_study(direction="maximize")
    study.add_trials([
        optuna.create_trial(params=dict(point), distributions=distributions, value=value)
        for point, value in zip(points, values, strict=True)
    ])  # fmt: skip
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def _distribution(name: str, values: Sequence[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not all(isinstance(value, int | float) for value in values):
        return CategoricalDistribution(sorted(set(values), key=str))
    return FloatDistribution(min(values), max(values), log=name.rpartition(".")[2] in LOGARITHMIC and min(values) > 0)

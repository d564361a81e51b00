"""Which searched run is hopeless: one that even the luckiest course from here would leave below what chance explains.

Early numbers of a short schedule say little: after the first of four epochs the rooms' runs lie 40 points apart, in an
order that has next to nothing to do with how they end, so that ranks alone give up good points for one epoch's luck.
What the finished runs went on to gain from that epoch, and how far apart they ended, says how much it tells.
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PEERS = 8  # finished runs with a number at that epoch, before anything is given up
NOISE = 8**0.5  # sds by which two runs that differ by chance alone are further apart in about 5 % of cases


def is_out_of_reach(value: float, peers: Sequence[tuple[float, float]]) -> bool:
    """Whether a run that gains as much as the luckiest of its peers still ends further below them than chance does.

    Args:
        value: its objective after an epoch.
        peers: of finished runs, the objective after the same epoch and at the end.
    """
    if len(peers) < PEERS:
        return False
    ends = [end for _, end in peers]
    most = max(end - then for then, end in peers)
    return value + most < statistics.median(ends) - NOISE * statistics.stdev(ends)


class OutOfReach(BasePruner):
    """Optuna's seam for `is_out_of_reach`: peers are the study's finished trials, compared at equal epochs.

    Args of the constructor:
        epochs: of the schedule; nothing is judged in its first half.
    """

    def __init__(self, epochs: int):
        self._first = max(1, (epochs + 1) // 2)

    def prune(self, study: "Study", trial: "FrozenTrial") -> bool:
        """Whether to give the trial up after the last epoch that it has reported."""
        epoch = trial.last_step
        if epoch is None or epoch < self._first:
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        peers = [
            (other.intermediate_values[epoch], other.value)
            for other in finished
            if epoch in other.intermediate_values and other.value is not None
        ]
        return is_out_of_reach(trial.intermediate_values[epoch], peers)

"""Which searched run is hopeless: one that even the luckiest course from here would leave below the middle.

Early numbers of a short schedule say little: at the first of four epochs the rooms' runs lie 40 points apart, in an
order that has next to nothing to do with how they end, so that ranks alone give up good points for their first epoch's
luck. What the finished runs went on to gain from that epoch says how much it tells, seeds' chance included.
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


def is_out_of_reach(value: float, peers: Sequence[tuple[float, float]]) -> bool:
    """Whether a run ends below the median of its peers even if it gains as much as the luckiest of them did.

    Args:
        value: its objective after an epoch.
        peers: of finished runs, the objective after the same epoch and at the end.
    """
    if len(peers) < PEERS:
        return False
    most = max(end - then for then, end in peers)
    return value + most < statistics.median(end for _, end in peers)


class OutOfReach(BasePruner):
    """Optuna's seam for `is_out_of_reach`: peers are the study's finished trials, compared at equal epochs."""

    def prune(self, study: "Study", trial: "FrozenTrial") -> bool:
        """Whether to give the trial up after the last epoch that it has reported."""
        epoch = trial.last_step
        if epoch is None:
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        peers = [
            (other.intermediate_values[epoch], other.value)
            for other in finished
            if epoch in other.intermediate_values and other.value is not None
        ]
        return is_out_of_reach(trial.intermediate_values[epoch], peers)

"""What MLflow's pages are told to show: the training view, columns with the scores, notes with links.

Columns are the browser's to choose: MLflow keeps none for an experiment, and a first visit shows none of the metrics.
What it does keep is a view that somebody has shared, as a tag of the experiment: we share one, and the notes of the
experiment and of each sweep link to it. The kind of an experiment is a tag too, but MLflow 3.17 goes by the switch
"GenAI / Model training" that the browser remembers and a link may set: ours set it. Links begin with `#`, so that they
work under whatever address the UI has.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

from kdam_ray.tasks import DATASETS

NOTE, KIND = "mlflow.note.content", "mlflow.experimentKind"
TRAINING = "custom_model_development"  # MLflow's name for what is no language model's experiment
IN_TRAINING = "workflowType=machine_learning"
VIEW = "scores"  # key of the shared view
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
LONGEST_NOTE = 8000  # characters that MLflow keeps of a tag
MOST_COMPARED = 60  # runs on the page that compares them
ELSEWHERE = "\n\n(The rest is in artifact report/tables.md.)"
PRUNED_NAME = "pruned "  # how the name of a pruned member begins: its end may be cut off
PRUNED_NOTE = "Stopped early by the search. It has no result: its scores are those of its last epoch."


def experiment_tags(dataset: str, params: Sequence[str]) -> dict[str, str]:
    """Tags of an experiment: which view it opens in, and the shared view.

    Args:
        dataset: whose tasks' scores are shown.
        params: that are shown beside the scores.
    """
    keys = ["val/delta_teacher", "val/delta_mt", *(f"val/{task.metric_key}" for task in DATASETS[dataset].tasks)]
    columns = [*(f"metrics.`{key}`" for key in keys), *(f"params.`{name}`" for name in params)]
    return {
        KIND: TRAINING,
        VIEW_TAG: json.dumps({"selectedColumns": columns}),
    }


def experiment_note(experiment: str) -> str:
    """The note of an experiment, with a link to the shared view."""
    return f"[Runs with their scores as columns]({runs_link(experiment)})"


def runs_link(experiment: str) -> str:
    """The runs table with the scores as columns."""
    return f"#/experiments/{experiment}/runs?{IN_TRAINING}&viewStateShareKey={VIEW}"


def compare_link(experiment: str, runs: Sequence[str]) -> str:
    """The page that compares some runs of one experiment; MLflow reads the runs only where they stand first."""
    ids, experiments = (quote(json.dumps(list(names), separators=(",", ":"))) for names in (runs, [experiment]))
    return f"#/compare-runs?runs={ids}&experiments={experiments}&{IN_TRAINING}"


def sweep_note(tables: str, experiment: str, finished: Sequence[str]) -> str:
    """The note of a sweep, Markdown: links, then its tables, as far as MLflow takes them.

    Args:
        tables: Markdown.
        experiment: MLflow's id.
        finished: the members that finished, in order.
    """
    compared = finished[:MOST_COMPARED]
    which = f"the first {len(compared)} of {len(finished)}" if len(compared) < len(finished) else f"the {len(finished)}"
    compare = [f"[Compare {which} finished runs]({compare_link(experiment, compared)})"] if len(finished) > 1 else []
    links = " · ".join([*compare, experiment_note(experiment)])
    note = f"{links}\n\n{tables}"
    if len(note) <= LONGEST_NOTE:
        return note
    return note[: note.rindex("\n", 0, LONGEST_NOTE - len(ELSEWHERE))] + ELSEWHERE

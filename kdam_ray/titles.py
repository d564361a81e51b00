"""Short names of runs that sort, as MLflow's table, the plan and the progress lines show them: `b0.5 T3 s0`."""

import hashlib

from kdam_ray.config import Run, Sweep, change, flatten
from kdam_ray.tasks import DATASETS

SAID = {  # said in words of their own, or by what stands beside them
    "student", "decoder", "tasks", "teacher", "teacher_decoder", "teacher_run", "contexts", "seed", "epochs",
    "distill.method", "distill.source", "distill.beta", "distill.temperature", "distill.alpha", "distill.inter",
    "distill.intra", "distill.reading",
}  # fmt: skip


def titled(run: Run, base: Run | None) -> str:
    """What a run is beside its sweep's base: `b0.5 T3 s0`, `mti_net kdam b1 T1 s1`, `depth alone no KD s0`.

    First the network and method where they differ from the base's (without a base: the network), then beta, T and alpha
    of what is distilled, whatever else differs, and the seed.
    """
    own = flatten(run)
    differs = {name for name, value in flatten(base).items() if own[name] != value} if base else set()
    words = _network(run, base, differs) + _method(run, base, differs)
    if "epochs" in differs:
        words.append(f"e{run.epochs}")
    if base:
        readings = base.distill.reading
        words += [f"{kind} {how}" for kind, how in run.distill.reading.items() if readings.get(kind) != how]
    words += [f"{name.removeprefix('distill.')}={own[name]}" for name in own if name in differs - SAID]
    return " ".join([*words, f"s{run.seed}"])


def _network(run: Run, base: Run | None, differs: set[str]) -> list[str]:
    words = [run.student] if base is None or "student" in differs else []
    if "decoder" in differs or (base is None and run.decoder != "mt_baseline"):
        words.append(run.decoder)
    elif "contexts" in differs:
        words.append(f"contexts {hashlib.sha256(str(run.contexts).encode()).hexdigest()[:6]}")
    if len(run.tasks) < len(base.tasks if base else DATASETS[run.dataset].tasks):
        words.append(f"{'+'.join(run.tasks)} alone")
    return words


def _method(run: Run, base: Run | None, differs: set[str]) -> list[str]:
    distill = run.distill
    if distill.method == "none":
        words = ["no KD"] if "distill.method" in differs else []
    else:
        words = [distill.method] if "distill.method" in differs else []
        words += [f"{name} only" for name, other in (("inter", distill.intra), ("intra", distill.inter)) if not other]
        words += ["of labels"] if distill.source == "labels" else []
        if distill.needs_teacher:
            words += [f"from {getattr(run, name)}" for name in ("teacher", "teacher_decoder") if name in differs]
        words += [f"b{distill.beta:.4g}", f"T{distill.temperature:.4g}"]
    return words + ([f"a{distill.alpha:.4g}"] if "distill.alpha" in differs else [])


def varying(sweep: Sweep) -> list[str]:
    """Parameters in which the members of a sweep differ, or could: those of its table, its space, and the seed.

    More seeds and trials are the same sweep, so that what one member records does not hang on how many there are.
    """
    alternatives = [row for rows in sweep.choices.values() for row in rows.values()]
    flat = [flatten(sweep.base)] + [
        flatten(change(sweep.base, changes)) for changes in (*sweep.cells, *sweep.references, *alternatives)
    ]
    searched = {*sweep.space, "seed"}
    return [name for name in flat[0] if name in searched or any(row[name] != flat[0][name] for row in flat)]

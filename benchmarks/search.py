"""Whether the search of Table 5 finds better points than random draws of equal cost, on a measured surface.

    python benchmarks/search.py                             # a few minutes; replays the surface below, trains nothing
    python benchmarks/search.py --measure --storage runs    # trains what is missing of the surface, after `make sweep`

The surface is Delta against the teacher over beta and T, measured with the main job's student, schedule and teacher:
results/search-surface-2026-11-28.csv has every run's course (its objective after each epoch). It is read twice. Smooth:
the truth is a quadratic in log beta and log T, fitted epoch by epoch, and everything else is noise. Rough: the truth
goes through every measured point, and the noise is added once more. What is real lies between the two. A replayed run
gets the truth at its point plus the whole course of residuals of a measured run, so that epochs hang together as they
do. Every repeat has noise of its own, the same for all who search in it.
"""

import argparse
import csv
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from scipy.interpolate import RBFInterpolator
from scipy.stats import qmc
from scipy.stats import t as student_t

from kdam_ray.config import Place, Run, Sweep, change
from kdam_ray.recipes import SEARCHED, recipe
from kdam_ray.service.records import Storage
from kdam_ray.service.search.confirmation import SEEDS
from kdam_ray.service.search.pruner import OutOfReach
from kdam_ray.service.search.study import Study
from kdam_ray.studies.beta_temp import BetaTempPoints, beta_temp_sweep

SURFACE = Path(__file__).parent / "results" / "search-surface-2026-11-28.csv"
FIELDS = (
    "beta", "temperature", "seed", "epoch", "delta_teacher",
    "semseg/mIoU", "depth/rmse", "normals/mErr", "edge/odsF", "edge/odsF_25",
)  # fmt: skip
(LOW, HIGH), CONFIRMED = SEARCHED["distill.beta"], 2
AXIS = tuple(float(f"{LOW * (HIGH / LOW) ** (step / 5):.4g}") for step in range(6))  # of the measured grid
COHORT = 12
DEFAULT = BetaTempPoints()
CELLS = list(dict.fromkeys([(beta, 3.0) for beta in DEFAULT.betas] + [(1.0, value) for value in DEFAULT.temperatures]))

Point = tuple[float, float]  # beta, T
Course = list[float]  # the objective after each epoch


# ------------------------------------------------------------------------------------------------------- the surface
def unit(points: Sequence[Point]) -> np.ndarray:
    """[N, 2] in the unit square, logarithmic."""
    return np.log(np.array(points) / LOW) / np.log(HIGH / LOW)


def quadratic(points: Sequence[Point]) -> np.ndarray:
    """[N, 6]: 1, x, y, x^2, xy, y^2."""
    x, y = unit(points).T
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


@dataclass(frozen=True)
class Surface:
    """What is taken for true, and the noise around it.

    Attributes:
        truth: points -> [N, epochs].
        noise: [runs, epochs], residuals of measured runs.
        merit: factor on how far the truth at the last epoch is from its mean; more than 1: seeds matter less.
    """

    truth: Callable[[Sequence[Point]], np.ndarray]
    noise: np.ndarray
    merit: float = 1.0

    def value(self, point: Point) -> float:
        """The true objective after the last epoch."""
        middle = self.truth(CELLS)[:, -1].mean()
        return float(middle + self.merit * (self.truth([point])[0, -1] - middle))

    def course(self, point: Point, draws: np.random.Generator) -> Course:
        """What a run at a seed of its own would report."""
        seen = self.truth([point])[0] + self.noise[draws.integers(len(self.noise))]
        return [*map(float, seen + self.value(point) - self.truth([point])[0, -1])]


def surfaces(rows: Sequence[dict[str, str]]) -> dict[str, Surface]:
    """The two readings of the measured runs."""
    courses: dict[tuple[float, float, str], dict[int, float]] = {}
    for row in rows:
        key = (float(row["beta"]), float(row["temperature"]), row["seed"])
        courses.setdefault(key, {})[int(row["epoch"])] = float(row["delta_teacher"])
    points = [(beta, temperature) for beta, temperature, _ in courses]
    measured = np.array([[course[epoch] for epoch in sorted(course)] for course in courses.values()])
    fitted, *_ = np.linalg.lstsq(quadratic(points), measured, rcond=None)
    noise = (measured - quadratic(points) @ fitted) * (len(points) / (len(points) - 6)) ** 0.5
    alone = list(dict.fromkeys(points))
    means = np.array([measured[[other == point for other in points]].mean(axis=0) for point in alone])
    through = RBFInterpolator(unit(alone), means, kernel="linear")
    return {
        "smooth": Surface(lambda asked: quadratic(asked) @ fitted, noise),
        "rough": Surface(lambda asked: through(unit(asked)), noise),
        "smooth, merit x 4": Surface(lambda asked: quadratic(asked) @ fitted, noise, merit=4.0),
    }


def describe(rows: Sequence[dict[str, str]]) -> str:
    """How many runs, how noisy, and what the epochs before the last say of it."""
    smooth = surfaces(rows)["smooth"]
    grid = [(beta, value) for beta in AXIS for value in AXIS]
    values = smooth.truth(grid)[:, -1]
    runs = {(row["beta"], row["temperature"], row["seed"]) for row in rows}
    sds = ", ".join(f"{sd:.2f}" for sd in smooth.noise.std(axis=0))
    tells = ", ".join(f"{np.corrcoef(smooth.noise[:, epoch], smooth.noise[:, -1])[0, 1]:+.2f}" for epoch in range(3))
    by_point: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if int(row["epoch"]) == smooth.noise.shape[1]:
            by_point.setdefault((row["beta"], row["temperature"]), []).append(float(row["delta_teacher"]))
    pairs = [statistics.variance(values) for values in by_point.values() if len(values) > 1]
    seeds = (
        f"; sd between seeds of one point {statistics.fmean(pairs) ** 0.5:.2f} ({len(pairs)} points)" if pairs else ""
    )
    return (
        f"{len(runs)} runs at {len(by_point)} points; "
        f"fitted truth on the grid {values.min():.2f} to {values.max():.2f}, sd {values.std():.2f}\n"
        f"sd of the noise after each epoch {sds}{seeds}; its correlation with the last {tells}"
    )


def given_up(rows: Sequence[dict[str, str]]) -> str:
    """Which measured runs a pruner would give up if all the others had finished, and how many of those end well."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    courses: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        key = row["beta"], row["temperature"], row["seed"]
        courses.setdefault(key, {})[int(row["epoch"])] = float(row["delta_teacher"])
    last = max(map(max, courses.values()))
    middle = statistics.median(course[last] for course in courses.values())
    pruners = {
        "worst quarter after epochs // 3": optuna.pruners.PercentilePruner(75.0, n_startup_trials=4, n_warmup_steps=1),
        "out of reach": OutOfReach(last),
    }
    said = []
    for name, pruner in pruners.items():
        lost = [mine[last] for key, mine in courses.items() if _is_given_up(pruner, key, courses)]
        well = sum(end > middle for end in lost)
        said.append(
            f"{name}: gives up {len(lost)} of {len(courses)} before their last epoch, {well} of the better half"
        )
    return "\n".join(said)


def _is_given_up(pruner: BasePruner, key: tuple[str, str, str], courses: dict[Any, dict[int, float]]) -> bool:
    import optuna

    study = optuna.create_study(direction="maximize", pruner=pruner)
    others = [course for other, course in courses.items() if other != key]
    study.add_trials([
        optuna.create_trial(value=course[max(course)], intermediate_values=course) for course in others
    ])  # fmt: skip
    trial = study.ask()
    for epoch in sorted(courses[key])[:-1]:
        trial.report(courses[key][epoch], epoch)
        if trial.should_prune():
            return True
    return False


# -------------------------------------------------------------------------------------------------------- who searches
@dataclass
class Trained:
    """What one search has trained: point -> objectives by seed, the chosen one first."""

    surface: Surface
    draws: np.random.Generator
    seen: dict[Point, list[float]]
    epochs: int = 0

    def train(self, point: Point, stop: Callable[[int, float], bool] = lambda *_: False) -> float | None:
        """The objective of one more run there; None if `stop` gave it up."""
        course = self.surface.course(point, self.draws)
        for epoch, value in enumerate(course, start=1):
            self.epochs += 1
            if stop(epoch, value) and epoch < len(course):
                return None
        self.seen.setdefault(point, []).append(course[-1])
        return course[-1]

    def confirm(self) -> None:
        """Further seeds for the points that came out first at their first."""
        first = sorted(self.seen, key=lambda point: -self.seen[point][0])[:CONFIRMED]
        for point in first:
            for _ in range(SEEDS - 1):
                self.train(point)

    def found(self) -> tuple[float, float]:
        """(true value, value claimed) of what is called best: confirmed points if there are some."""
        most = max(map(len, self.seen.values()))
        means = {point: statistics.fmean(values) for point, values in self.seen.items() if len(values) == most}
        best = max(means, key=lambda point: means[point])
        return self.surface.value(best), means[best]


def begun(surface: Surface, seed: int) -> Trained:
    """The cells of Table 5, trained; the same for all who search with that seed."""
    trained = Trained(surface, np.random.default_rng(seed), {})
    for point in CELLS:
        trained.train(point)
    trained.epochs = 0
    return trained


def by_study(surface: Surface, seed: int, runs: int, folder: Path, *, base: Run) -> Trained:
    """The product's own study: its cells first, its sampler, its pruner, its cohorts."""
    own = change(base, {"seed": seed})
    study = Study(Storage(str(folder)), Sweep(name=f"s{seed}", base=own, cells=(), space=SEARCHED, trials=runs))
    trained = begun(surface, seed)
    replay = np.random.default_rng(seed)
    for beta, temperature in CELLS:
        number = study.take(change(own, {"distill.beta": beta, "distill.temperature": temperature}))
        for epoch, value in enumerate(surface.course((beta, temperature), replay), start=1):
            study.observe(number, epoch, value)
        study.tell(number, "finished", trained.seen[beta, temperature][0])
    together = 2 * min(4, -(-runs // 2))  # two lanes, each with a drawn cohort of at most four
    for start in range(0, runs, together):
        for trial in [study.draw() for _ in range(min(together, runs - start))]:
            assert trial is not None
            distill, number = trial.run.distill, trial.number
            stop = lambda epoch, value, number=number: study.observe(number, epoch, value)  # noqa: E731
            reached = trained.train((distill.beta, distill.temperature), stop)
            study.tell(number, "pruned" if reached is None else "finished", reached)
    return trained


def by_points(surface: Surface, seed: int, points: np.ndarray) -> Trained:
    """Points that ask nothing of what was seen."""
    trained = begun(surface, seed)
    for x, y in points:
        trained.train((LOW * (HIGH / LOW) ** float(x), LOW * (HIGH / LOW) ** float(y)))
    return trained


def searches(surface: Surface, seed: int, runs: int, *, base: Run) -> Iterator[tuple[str, Trained]]:
    """Who has trained what with that many runs beyond the cells; "+ seeds": the last four are further seeds."""
    further = CONFIRMED * (SEEDS - 1)
    for name, drawn in (("", runs), (" + seeds", runs - further)):
        with tempfile.TemporaryDirectory() as folder:
            ours = by_study(surface, seed, drawn, Path(folder), base=base)
        saved = max(0, 4 * drawn - ours.epochs) // 4  # what the pruner saved, others may draw
        uniform = np.random.default_rng(10_000 + seed).random((drawn + saved, 2))
        sobol = qmc.Sobol(2, seed=10_000 + seed).random(64)[: drawn + saved]
        for who, trained in (
            ("study", ours), ("random", by_points(surface, seed, uniform)), ("Sobol", by_points(surface, seed, sobol)),
            *([("cells alone", begun(surface, seed))] if name else []),
        ):  # fmt: skip
            if name:
                trained.confirm()
            yield who + name, trained


# ------------------------------------------------------------------------------------------------------------- reports
def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval, Student's t."""
    half = float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def compare(name: str, surface: Surface, runs: int, repeats: int) -> None:
    """A table of who found what, beside random draws in the same repeat."""
    base = change(recipe("rooms").student, {"teacher": "resnet_w16", "distill": {"method": "plain_kd"}})
    found: dict[str, list[tuple[float, float]]] = {}
    saved: list[int] = []
    for seed in range(repeats):
        for who, trained in searches(surface, seed, runs, base=base):
            found.setdefault(who, []).append(trained.found())
            saved += [4 * runs - trained.epochs] if who == "study" else []
    print(
        f"\n{name}; {runs} runs beyond the 13 cells, {repeats} repeats; pruned {sum(saved) / (4 * runs * repeats):.1%}"
    )
    print(f"  {'':20s}{'true value of the first':>26s}{'against random':>26s}{'claimed - true':>26s}")
    for who, pairs in found.items():
        rival = found["random + seeds" if who.endswith("seeds") else "random"]
        gains = [mine[0] - other[0] for mine, other in zip(pairs, rival, strict=True)]
        against = "" if pairs is rival else interval(gains)
        value, luck = interval([pair[0] for pair in pairs]), interval([pair[1] - pair[0] for pair in pairs])
        print(f"  {who:20s}{value:>26s}{against:>26s}{luck:>26s}")
    seeds = [a[0] - b[0] for a, b in zip(found["study + seeds"], found["study"], strict=True)]
    print(f"  study + seeds minus study, true value of the first: {interval(seeds)}")


# ----------------------------------------------------------------------------------------------------------- measuring
def measure(storage: str, seeds: int) -> None:
    """Train what is missing of the surface, in this process and on one thread; a cohort at a time is written down."""
    import torch

    from kdam_ray.learning import EpochReport, train_cohort
    from kdam_ray.learning.checkpoint import load_network
    from kdam_ray.models import Teacher
    from kdam_ray.service.deltas import scores, with_deltas
    from kdam_ray.service.layout import open_sources
    from kdam_ray.service.records import Tracking, latest_checkpoint

    torch.set_num_threads(1)
    place = Place(storage=storage)
    sweep, taught_by = beta_temp_sweep(DEFAULT, place)
    record = Tracking(place).find([taught_by.run_id]).get(taught_by.run_id)
    folder = latest_checkpoint(Storage(storage), taught_by.run_id, epoch=taught_by.epochs)
    if record is None or folder is None:
        raise SystemExit(f"{storage} has no teacher {taught_by.run_id}; run `make sweep` first")
    train, val = open_sources(sweep.base, place)
    grid = [*CELLS, *((beta, value) for beta in AXIS for value in AXIS)]
    done = {(float(row["beta"]), float(row["temperature"]), int(row["seed"])) for row in read()}
    left = [(*point, seed) for seed in range(seeds) for point in dict.fromkeys(grid) if (*point, seed) not in done]
    for start in range(0, len(left), COHORT):
        members = [
            change(sweep.base, {"distill.beta": beta, "distill.temperature": value, "seed": seed})
            for beta, value, seed in left[start : start + COHORT]
        ]
        rows = []
        for report in train_cohort(members, train=train, val=val, teacher=Teacher(load_network(folder))):
            if isinstance(report, EpochReport):
                own = with_deltas(report.run, report.metrics, teacher=scores(record.metrics), single_task=None)
                where = {name: getattr(report.run.distill, name) for name in ("beta", "temperature")}
                values = {name: own.get(f"val/{name}") for name in FIELDS[4:]}
                rows.append({**where, "seed": report.run.seed, "epoch": report.epoch, **values})
        write(rows)
        print(f"{start + len(members)} of {len(left)} runs", flush=True)


def read() -> list[dict[str, str]]:
    """The measured surface."""
    with SURFACE.open(newline="") as file:
        return list(csv.DictReader(file))


def write(rows: Sequence[dict[str, object]]) -> None:
    """Add rows to the measured surface."""
    with SURFACE.open("a", newline="") as file:
        csv.DictWriter(file, FIELDS, lineterminator="\n").writerows(rows)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--measure", action="store_true", help="train what is missing of the surface")
    asked.add_argument("--storage", default="runs", help="where `make sweep` has put the teacher")
    asked.add_argument("--seeds", type=int, default=2, help="of every point that is measured")
    asked.add_argument("--repeats", type=int, default=60)
    asked.add_argument("--runs", type=int, nargs="+", default=[8, 24], help="beyond the cells")
    options = asked.parse_args()
    if options.measure:
        measure(options.storage, options.seeds)
    rows = read()
    print(describe(rows))
    print(given_up(rows))
    for name, surface in surfaces(rows).items():
        for runs in options.runs:
            compare(name, surface, runs, options.repeats)


if __name__ == "__main__":
    main()

"""What Table 5 trains: its cells, the rows that they are read against, and the space that is searched around them."""

from typing import Annotated

from pydantic import Field

from kdam_ray.command import announce
from kdam_ray.config import UNTAUGHT, Distill, Frozen, Place, Run, Sweep, change
from kdam_ray.recipes import SEARCHED, SEARCHED_ALPHA, Pair, Recipe, sweep_name, taught_by

NO_KD_SEEDS = 3  # at least: their spread says what one seed can resolve


class BetaTempPoints(Frozen):
    """What is swept.

    Attributes:
        decoder: multi-task head of the students.
        method: plain_kd (what Table 5 shows), kdam or dist.
        betas: Table 5a's, at T = 3.
        temperatures: Table 5b's, at beta = 1.
        seeds: of every cell: 0, 1, ...
        trials: searched runs after the cells, between them in beta and T; left out: 4 on the rooms, else 8.
        search_alpha: search alpha, the weight of the supervised loss, as well.
        confirm: points, cells or searched, that get further seeds when they have come out first, until each has three:
            what one seed finds best is luck as much as merit. Left out: 2; 0: none.
    """

    pair: Pair = Pair()
    decoder: str = "mt_baseline"
    method: str = "plain_kd"
    betas: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 3.0, 4.0, 8.0, 16.0)
    seeds: Annotated[int, Field(ge=1)] = 1
    trials: Annotated[int, Field(ge=0)] | None = None
    search_alpha: bool = False
    confirm: Annotated[int, Field(ge=0)] | None = None


def beta_temp_sweep(points: BetaTempPoints, place: Place) -> tuple[Sweep, Run]:
    """The sweep of Table 5 and its teacher, resolved.

    Raises:
        ValueError: bad input, in one line that names the field; a bad beta or T before torch is imported.
    """
    recipe = points.pair.recipe()
    changes = {"decoder": points.decoder, "distill": {"method": points.method}} | taught_by(recipe.teacher)
    distilled = change(recipe.student, changes)
    _sweep(points, recipe, distilled)
    announce(f"opens {distilled.dataset} and looks at what is recorded in {place.storage}")

    from kdam_ray.service.sweep import resolve

    teacher = resolve(recipe.teacher, place, teacher=True, weights=points.pair.teacher_weights)
    base = resolve(change(distilled, {"teacher_run": teacher.run_id}), place, weights=points.pair.weights)
    return _sweep(points, recipe, base), teacher


def _sweep(points: BetaTempPoints, recipe: Recipe, base: Run) -> Sweep:
    """The 13 cells (the one that both tables share once), the references and the space around them."""
    drawn = [(beta, 3.0) for beta in points.betas] + [(1.0, temperature) for temperature in points.temperatures]
    cells = [
        {"distill.beta": beta, "distill.temperature": temperature, "seed": seed}
        for seed in range(points.seeds)
        for beta, temperature in dict.fromkeys(drawn)
    ]
    references = [UNTAUGHT | {"seed": seed} for seed in range(max(NO_KD_SEEDS, points.seeds))]
    references += [{"distill": Distill(method="kdam").model_dump(), "seed": seed} for seed in range(points.seeds)]
    for changes in cells + references:
        change(base, changes)
    return Sweep(
        name=sweep_name("beta_temp", smoke=points.pair.smoke), smoke=points.pair.smoke, table=5, base=base,
        cells=tuple(cells), references=tuple(references),
        space=_space(points), trials=recipe.trials if points.trials is None else points.trials,
        confirmed=recipe.confirmed if points.confirm is None else points.confirm,
    )  # fmt: skip


def _space(points: BetaTempPoints) -> dict[str, tuple[float, float]]:
    """Table 5's range of beta and T, wider where the cells are; alpha only if asked."""
    cells = {"distill.beta": points.betas, "distill.temperature": points.temperatures}
    space = {name: (min(low, *cells[name]), max(high, *cells[name])) for name, (low, high) in SEARCHED.items()}
    return space | (SEARCHED_ALPHA if points.search_alpha else {})

"""What a run is and where it runs: `Run` (all that can change a number), `Place` (all that cannot) and `Sweep`.

Frozen pydantic models that forbid unknown fields; they are validated before anything heavy starts, and their errors
name the field and what is allowed. Nothing here imports torch.
"""

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdam_ray.contexts import Contexts, check_contexts, published_contexts
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES, DECODERS

Method = Literal["none", "plain_kd", "dist", "kdam"]
Reading = Literal["channels", "bernoulli", "spatial", "skip"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

DEFAULT_READING: dict[str, Reading] = {
    "classes": "channels", "saliency": "channels", "normals": "channels", "depth": "spatial", "edge": "bernoulli",
}  # fmt: skip
DEFAULT_TEMPERATURE: dict[str, float] = {"none": 1.0, "plain_kd": 3.0, "dist": 1.0, "kdam": 1.0}


class Frozen(BaseModel):
    """A model whose values never change and that takes no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def one_of(allowed: Collection[str], field: str = "") -> Callable[[str], str]:
    """A validator that names the allowed values; outside of a model, which does so itself, the `field` too."""

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{field and f'{field}: '}{value!r} is not one of: {', '.join(allowed)}")
        return value

    return check


class Distill(Frozen):
    """Eq. 9: alpha * L_mt + beta * L_KD, and what L_KD is.

    Attributes:
        method: none (L_mt alone), plain_kd (Eq. 2), dist (DIST, the paper's reference [16]) or kdam (Eq. 7).
        source: whose logits are distilled: the teacher's, or, as a control that knows nothing, ones made of the labels.
        alpha: weight of the supervised loss.
        beta: weight of the distillation loss.
        temperature: T of Eq. 3. Left out: 3 for plain_kd, 1 for kdam and dist (the paper states only the first).
        inter, intra: use Eq. 5, use Eq. 6 (kdam, dist).
        reading: how one task's logits become a distribution, by task kind; see `losses.distill`.
        literal: kdam by Eq. 4 exactly as printed, without squares (for study: it is not zero at equality).
        kd_resolution: compare logits at the head's own resolution (1/4) or upsampled to the image.
    """

    method: Method = "none"
    source: Literal["teacher", "labels"] = "teacher"
    alpha: NotNegative = 1.0
    beta: Positive = 1.0
    temperature: Positive = 1.0
    inter: bool = True
    intra: bool = True
    reading: dict[str, Reading] = Field(default_factory=lambda: dict(DEFAULT_READING))
    literal: bool = False
    kd_resolution: Literal["head", "image"] = "head"

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = dict(values)
            values.setdefault("temperature", DEFAULT_TEMPERATURE.get(values.get("method", "none"), 1.0))
            values["reading"] = DEFAULT_READING | values.get("reading", {})
        return values

    @field_validator("reading")
    @classmethod
    def _known_kinds(cls, reading: dict[str, Reading]) -> dict[str, Reading]:
        return {one_of(DEFAULT_READING)(kind): how for kind, how in reading.items()}

    @model_validator(mode="after")
    def _teaches_something(self) -> "Distill":
        if self.method in ("kdam", "dist") and not (self.inter or self.intra):
            raise ValueError("inter and intra are both off: nothing would be distilled; use method='none'")
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.method != "none" and self.source == "teacher"


class Optim(Frozen):
    """Optimiser and schedule; the learning rate falls as (1 - step / steps) ** power after a linear warm-up.

    Attributes:
        name: sgd or adamw.
        lr: peak learning rate.
        momentum: of sgd.
        weight_decay: L2 (sgd) or decoupled (adamw).
        warmup: share of all steps.
        power: of the polynomial.
        clip_norm: the largest norm of the gradient; None: any.
        mixing_lr: factor on the learning rate of the units that mix tasks (Cross-Stitch, NDDR-CNN; published with 100).
        architecture_lr: constant learning rate (Adam) of context_search's choice (published for 40,000 steps).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 1e-3
    momentum: NotNegative = 0.9
    weight_decay: NotNegative = 5e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    power: NotNegative = 0.9
    clip_norm: Positive | None = None
    mixing_lr: NotNegative = 1.0
    architecture_lr: Positive = 5e-4


class Run(Frozen):
    """Everything that can change a number. Two equal Runs are one run (`run_id`).

    Attributes:
        dataset: row of `tasks.DATASETS`.
        dataset_hash: fingerprint of the images and labels that are read.
        image_size: (height, width) of a training crop.
        train_images: images used from the training split, the first ones of its list.
        val_images: images used from the evaluation split.
        resize: resize every sample to image_size when it is read, instead of cropping from its own size.
        tasks: the tasks learnt, in the dataset's order; one task makes a single-task baseline.
        student: backbone that learns (a teacher's own run has it here too).
        decoder: multi-task head, row of `zoo.DECODERS`.
        contexts: of the decoder atrc: which context each task takes from each other; None becomes the published one.
        pretrained: "none", "imagenet" (timm's), or "sha256:<hash>" of a local weight file.
        teacher: backbone of the teacher, or None.
        teacher_decoder: its multi-task head.
        teacher_run: run_id of the teacher, or None.
        distill: the distillation loss.
        optim: optimiser and schedule.
        epochs: passes over the training images; a pass drops the last incomplete batch.
        batch: images per step over all ranks.
        augment: "paper" (scale, crop, flip, photometric) or "none".
        task_weights: "fixed" (Task.weight) or "uncertainty" (learnt, Kendall et al.).
        task_factors: task -> factor on its fixed weight; a task that is not named has 1.
        seed: initialisation, drop path.
        data_seed: order and augmentation; shared by a cohort.
        precision: fp32, or bf16 autocast.
        batch_norm_ranks: ranks that each normalise over their own share of the batch (gloo); 1: all together (CUDA).
    """

    dataset: Annotated[str, Field(description="name of a dataset")]
    dataset_hash: str = ""
    image_size: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
    train_images: Annotated[int, Field(ge=1)]
    val_images: Annotated[int, Field(ge=1)]
    resize: bool = False
    tasks: tuple[str, ...]
    student: str
    decoder: str = "mt_baseline"
    contexts: Contexts | None = None
    pretrained: Annotated[str, Field(pattern=r"^(none|imagenet|sha256:[0-9a-f]{64})$")] = "none"
    teacher: str | None = None
    teacher_decoder: str = "mt_baseline"
    teacher_run: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")] | None = None
    distill: Distill = Distill()
    optim: Optim = Optim()
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 8
    augment: Literal["paper", "none"] = "paper"
    task_weights: Literal["fixed", "uncertainty"] = "fixed"
    task_factors: dict[str, Positive] = Field(default_factory=dict)
    seed: int = 0
    data_seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_norm_ranks: Annotated[int, Field(ge=1)] = 1

    _dataset = field_validator("dataset")(one_of(DATASETS))
    _student = field_validator("student")(one_of(BACKBONES))
    _decoder = field_validator("decoder", "teacher_decoder")(one_of(DECODERS))

    @field_validator("teacher")
    @classmethod
    def _known_teacher(cls, teacher: str | None) -> str | None:
        return teacher if teacher is None else one_of(BACKBONES)(teacher)

    @model_validator(mode="before")
    @classmethod
    def _published_contexts(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("decoder") == "atrc" and values.get("tasks"):
            return values | {"contexts": values.get("contexts") or published_contexts(values["tasks"])}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> "Run":
        known = [task.name for task in DATASETS[self.dataset].tasks]
        if not self.tasks or list(self.tasks) != [name for name in known if name in self.tasks]:
            raise ValueError(f"tasks {list(self.tasks)} must be some of {known}, each once, in that order")
        if self.train_images < self.batch:
            raise ValueError(f"train_images is {self.train_images}, less than one batch of {self.batch}")
        if self.contexts is not None:
            if self.decoder != "atrc":
                raise ValueError(f"contexts: only the decoder atrc takes them, not {self.decoder}")
            check_contexts(self.contexts, self.tasks)
        if self.pretrained == "imagenet" and BACKBONES[self.student].options:
            raise ValueError(
                f"pretrained: there are no ImageNet weights for the small network {self.student}; "
                "use none or a weight file"
            )
        if unknown := [name for name in self.task_factors if name not in self.tasks]:
            raise ValueError(f"task_factors: {unknown[0]!r} is not one of the tasks {', '.join(self.tasks)}")
        if self.distill.needs_teacher and self.teacher is None:
            raise ValueError(f"distill.method is {self.distill.method!r} but teacher is missing")
        if not self.distill.needs_teacher and (self.teacher or self.teacher_run):
            undistilled = "distill.method is 'none'; use plain_kd, dist or kdam"
            why = undistilled if self.distill.method == "none" else "distill.source is 'labels'"
            raise ValueError(f"teacher is set but {why}")
        return self

    @property
    def run_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:12]

    @property
    def steps_per_epoch(self) -> int:
        return self.train_images // self.batch

    def is_evaluated(self, epoch: int, every: int) -> bool:
        """Every so many epochs, and after the last."""
        return epoch % every == 0 or epoch == self.epochs

    @property
    def upstream(self) -> tuple:
        """What members of a cohort must agree on, the teacher aside: everything before the student."""
        return (
            self.dataset, self.dataset_hash, self.image_size, self.train_images, self.val_images, self.resize,
            self.batch, self.augment, self.data_seed, self.precision, self.batch_norm_ranks,
        )  # fmt: skip


class Place(Frozen):
    """Everything that cannot change a number: where, how wide, how often something is said.

    Attributes:
        workers: training processes in all; None: one per GPU, else one per core (at most 2 on CPUs).
        gpus: use GPUs; None: if there are any.
        split: "members": cohorts side by side, one worker each; "ddp": one cohort at a time over all workers;
            "auto": members on CPUs (measured faster there), ddp on GPUs.
        cohort_size: most members of one cohort; None: as many as there are, spread evenly over the cohorts at work.
        storage: folder or s3:// URI of checkpoints, caches and Ray's state.
        tracking_uri: MLflow; None: MLFLOW_TRACKING_URI, else sqlite in `storage`.
        root: folder of the dataset's packaging; unused by the procedural datasets.
        evaluate_every: epochs between evaluations (`Run.is_evaluated`); the search prunes only where there is one.
        pictures_every: epochs between pictures of what a member predicts; None: one, after the last epoch; 0: none.
    """

    workers: Annotated[int, Field(ge=1)] | None = None
    gpus: bool | None = None
    split: Literal["auto", "members", "ddp"] = "auto"
    cohort_size: Annotated[int, Field(ge=1)] | None = None
    storage: str = "runs"
    tracking_uri: str | None = None
    root: str | None = None
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    pictures_every: Annotated[int, Field(ge=0)] | None = None

    @field_validator("storage", "root")
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        """Relative folders are meant from where the command is given; Ray's workers run elsewhere."""
        return folder if folder is None or "://" in folder else str(Path(folder).expanduser().absolute())


class Sweep(Frozen):
    """A base run, the fixed points of a table, references, and a space to search.

    Attributes:
        name: of the sweep (`recipes.sweep_name`); MLflow experiment `kdam/<dataset>/<name>`.
        table: number of the paper's table, as a tag; None if it is none of them.
        base: what all runs share.
        cells: changes to base, one a cell: {"distill.beta": 2.0}.
        references: runs beside the cells that the table quotes but the search ignores.
        space: searched fields: {"distill.beta": (low, high)}, log-uniform.
        choices: searched alternatives, each a name for changes to base: {"pair": {"a teaches b": {"teacher": ...}}}.
        trials, confirmed: searched runs beyond the cells; points that come out first and then get further seeds.
        smoke: its numbers mean nothing.
    """

    name: str
    table: int | None = None
    base: Run
    cells: tuple[dict[str, Any], ...]
    references: tuple[dict[str, Any], ...] = ()
    space: dict[str, tuple[Positive, Positive]] = Field(default_factory=dict)
    choices: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    trials: Annotated[int, Field(ge=0)] = 0
    confirmed: Annotated[int, Field(ge=0)] = 0
    smoke: bool = False

    @property
    def sweep_id(self) -> str:
        """12 hex digits of what is trained: more seeds, trials or confirmed points are the same sweep."""
        rows = {json.dumps(row | {"seed": 0}, sort_keys=True) for row in (*self.cells, *self.references)}
        parts = [self.name, canonical_json(change(self.base, {"seed": 0})), sorted(rows), self.space, self.choices]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


# fields younger than the first recorded runs: left out of the canonical JSON at the value that those had
YOUNGER: dict[str, Any] = {
    "contexts": None, "teacher_decoder": "mt_baseline", "optim.mixing_lr": 1.0, "optim.architecture_lr": 5e-4,
    "distill.source": "teacher", "task_factors": {},
}  # fmt: skip


def canonical_json(run: Run) -> str:
    """One spelling per Run: keys sorted, no spaces, shortest floats, no younger field at its old value."""
    values = run.model_dump(mode="json")
    for path, default in YOUNGER.items():
        *parents, leaf = path.split(".")
        inner = values[parents[0]] if parents else values
        if inner[leaf] == default:
            del inner[leaf]
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def flatten(run: Run) -> dict[str, Any]:
    """{"distill.beta": 1.0, "student": "swin_t", ...}: the parameters as MLflow records them."""
    flat: dict[str, Any] = {}
    for key, value in run.model_dump(mode="json").items():
        if key in ("contexts", "task_factors"):
            flat[key] = json.dumps(value, separators=(",", ":")) if value else None
        elif isinstance(value, dict):
            flat |= {f"{key}.{part}": inner for part, inner in value.items()}
        else:
            flat[key] = value
    return flat


def change(run: Run, changes: dict[str, Any]) -> Run:
    """`run` with some fields replaced, by dotted name, validated anew.

    Raises:
        ValueError: a field that does not exist, or a value that is not allowed; names the field.
    """
    values = run.model_dump()
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        inner: Any = values
        for parent in parents:
            inner = inner.get(parent)
            if not isinstance(inner, dict):
                raise ValueError(f"{path}: a Run has no field {parent!r} with parts")
        if leaf not in inner:
            raise ValueError(f"{path}: no such field; there are {', '.join(inner)}")
        inner[leaf] = value
    return Run.model_validate(values)


# what a run without a teacher does not share with one that has one; of a single-task run also what its network lacks
UNTAUGHT: dict[str, Any] = {
    "distill": Distill().model_dump(), "teacher": None, "teacher_decoder": "mt_baseline", "teacher_run": None,
}  # fmt: skip
ALONE = UNTAUGHT | {"decoder": "mt_baseline", "contexts": None, "optim.mixing_lr": 1.0, "task_factors": {}, "seed": 0}


def untaught(run: Run) -> Run:
    """The same student at the same seed, without distillation."""
    return change(run, UNTAUGHT)


def single_task(run: Run, task: str) -> Run:
    """The network that learns one task of `run` alone, undistilled, with the same data and schedule; at seed 0."""
    return change(run, ALONE | {"tasks": (task,)})


def explain(error: ValidationError) -> str:
    """One line per wrong field: `distill.beta: Input should be greater than 0 (got -1.0)`."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "run"
        got = "" if isinstance(item["input"], dict | BaseModel) else f" (got {item['input']!r})"
        lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(lines)

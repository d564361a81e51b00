"""How each row of the paper's tables is trained: its runs, of the paper's networks or of small ones in their place.

Plain data: a job takes the rows of a table, changes what its command line asks for and hands their runs to the service.
Rows of different tables that mean the same training come out as the same Run, so they are trained once. Where the paper
is silent: the teacher of every distilled row of Tables 1 to 3, 6 and 7 is Swin-L's multi-task baseline (its section 4
names it for NYUD-v2, and Swin-B beside it for PASCAL-Context without saying where); the teacher has one seed, its
students several.
"""

from dataclasses import dataclass, replace
from typing import Any

from kdam_ray.config import Run, change
from kdam_ray.paper import SINGLE_TASK, TABLES, Row, Table
from kdam_ray.recipes import Schedule, taught_by
from kdam_ray.tasks import DATASETS


@dataclass(frozen=True)
class System:
    """How a printed model is built.

    Attributes:
        decoder: row of `zoo.DECODERS`.
        note: what has to be known to read the difference from the print.
        backbone: where the table does not name one of ours.
        tasks: that it learns; empty: all.
    """

    decoder: str
    note: str = ""
    backbone: str | None = None
    tasks: tuple[str, ...] = ()


SYSTEMS: dict[str, System] = {
    SINGLE_TASK: System("mt_baseline", "one network per task, summed"),
    "MT": System("mt_baseline"),
    "Cross-Stitch": System(
        "cross_stitch", "units on the task features of one shared backbone: inferred from the printed cost"
    ),
    "PAD-Net": System("pad_net", "decomposition inferred from the printed cost"),
    "PAP": System("pap", "widths and scale inferred from the printed cost"),
    "PSD": System("psd", "widths and window inferred from the printed cost"),
    "NDDR-CNN": System("nddr_cnn"),
    "MTI-Net": System(
        "mti_net", "the printed variant is not public; the closest found (benchmarks/results/mti-net-2026-11-23.md)"
    ),
    "ATRC": System("atrc", "published contexts for NYUD-v2 and HRNet18"),
    "MTFormer": System(
        "mtformer",
        "two tasks; 64.03 M are Swin-S with 3.1 M that the published code never uses; 117.73 G fits 480x640 with "
        "attention, not 425x560 (benchmarks/results/mtformer-2026-11-23.md)",
        backbone="swin_s",
        tasks=("semseg", "depth"),
    ),
    "MQTransformer": System("mqtransformer"),
    "DeMT": System("demt"),
    "InvPT": System("invpt", "the Swin variant was never released"),
}

# what stands behind the plus sign of a printed model
DISTILLED: dict[str, dict[str, Any]] = {
    "plain KD": {"method": "plain_kd"},
    "DIST": {"method": "dist"},
    "KDAM": {"method": "kdam"},
    "KDAM inter and intra": {"method": "kdam"},
    "KDAM inter": {"method": "kdam", "intra": False},
    "KDAM intra": {"method": "kdam", "inter": False},
}

# Small networks in the place of the paper's, on the procedural rooms and in smoke runs. The teachers are convolutional:
# from random initialisation a small Swin stays below its own student (`recipes`).
STAND_INS = {
    "hrnet18": "resnet_w8",
    "swin_t": "swin_w12",
    "swin_s": "swin_w16",
    "swin_b": "resnet_w12",
    "swin_l": "resnet_w16",
}
OWN = {name: name for name in STAND_INS}

TEACHER = "swin_l"  # where a row does not name one
FULL_EPOCHS = 400  # of the paper; Table 7 counts in them
SMOKE_EPOCHS = 4  # of Table 7, whose shortest row has a quarter of them

SWEEP_OF = {
    "1": "systems",
    "2": "decoders",
    "3": "systems",
    "4": "pairs",
    "5": "beta_temp",
    "6": "terms",
    "7": "epochs",
}
COMMAND_OF = {
    "1": "compare-systems", "2": "distill-decoders", "3": "compare-systems", "4": "sweep-pairs", "5": "sweep-beta-temp",
    "6": "ablate-terms", "7": "ablate-epochs",
}  # fmt: skip
# a table's dataset -> where it can be trained
DATASETS_OF = {"nyud": ("rooms", "nyud"), "pascal": ("rooms_pascal", "pascal")}


@dataclass(frozen=True)
class TrainedRow:
    """A row and how it is trained.

    Attributes:
        row: as printed.
        student: at seed 0; its `teacher_run` is not known yet.
        teacher: of the student, unresolved; None: it learns from the labels alone, as a teacher does.
        epoch: at which it is looked at.
        part: "" or "one run": the row is looked at within a longer run instead of having its own schedule.
    """

    row: Row
    student: Run
    teacher: Run | None
    epoch: int
    part: str = ""

    def runs(self, seed: int) -> tuple[Run, ...]:
        """The runs of one seed: one, or one per task."""
        seeded = change(self.student, {"seed": seed})
        return (
            tuple(change(seeded, {"tasks": (name,)}) for name in seeded.tasks) if self.row.is_single_task else (seeded,)
        )


def networks(schedule: Schedule) -> dict[str, str]:
    """The paper's backbones -> the ones that are trained."""
    return STAND_INS if schedule.smoke or DATASETS[schedule.dataset].is_procedural else OWN


def trained_rows(table: Table, schedule: Schedule) -> tuple[TrainedRow, ...]:
    """Every row of a table, in printed order; Table 7 a second time at epochs of its longest run.

    Args:
        table: the paper's.
        schedule: and dataset; the rows name the networks.

    Raises:
        ValueError: a dataset that the table is not of, or a value that is not allowed; names the field.
    """
    allowed = DATASETS_OF[table.dataset]
    if schedule.dataset not in allowed:
        raise ValueError(
            f"dataset: Table {table.number} is of {table.dataset}: {' or '.join(allowed)}, not {schedule.dataset!r}"
        )
    if schedule.smoke and table.varies_epochs:
        schedule = schedule.model_copy(update={"epochs": schedule.epochs or SMOKE_EPOCHS})
    own = tuple(_trained(row, schedule) for row in table.rows)
    if not table.varies_epochs:
        return own
    longest = max(own, key=lambda trained: trained.epoch)  # within which the others are looked at
    shorter = (trained for trained in own if trained.epoch < longest.epoch)
    return (*own, *(replace(longest, row=each.row, epoch=each.epoch, part="one run") for each in shorter))


def _trained(row: Row, schedule: Schedule) -> TrainedRow:
    system, named = SYSTEMS[row.system], networks(schedule)
    backbone = system.backbone or row.backbone
    if row.is_teacher:
        student, teacher = schedule.recipe_of(named[backbone], None).teacher, None
        changes: dict[str, Any] = {"tasks": system.tasks or student.tasks}
    else:
        recipe = schedule.recipe_of(named[row.fact("teacher") or TEACHER], named[backbone])
        student, teacher = recipe.student, recipe.teacher if row.method else None
        changes = {"tasks": system.tasks or student.tasks, "decoder": system.decoder}
    if teacher is not None:
        changes |= {"distill": DISTILLED[row.method]} | taught_by(teacher)
    if row.fact("epochs"):
        changes["epochs"] = max(1, round(student.epochs * row.fact("epochs") / FULL_EPOCHS))
    student = change(student, changes)
    return TrainedRow(row, student, teacher, student.epochs)


def baseline_of(table: Table, row: Row) -> Row | None:
    """The row that a distilled one is compared with: the same system on the same backbone, not distilled; else None."""
    rivals = (other for other in table.rows if (other.model, other.group) == (row.system, row.group))
    return next(rivals, None) if row.method else None


def tables_of(number: str) -> tuple[Table, ...]:
    """The printed tables of a number: Table 5 is two."""
    return tuple(table for table in TABLES.values() if table.number.rstrip("ab") == number)

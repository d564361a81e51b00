"""Every number printed in Tables 1 to 7 of the KDAM paper, as printed, and what its Deltas should have been.

Plain data: nothing here imports torch. A row keeps its numbers as printed text, because their number of digits is the
precision to which a Delta can be recomputed. Deltas are kept apart from the metrics: 19 of the 38 that can be
recomputed (Swin-L's, printed twice, counted once) do not follow from their own rows even when every printed digit is
allowed its rounding; `printed_deltas` finds them.

What else disagrees inside the paper, kept here as printed:
- The same run has different numbers in different tables: KDAM Swin-L to Swin-T has SemSeg 44.34 (Tables 1, 6, 7) and
  44.54 (Table 4), Bound 76.4 (1, 4), 76.70 (6) and 76.2 (7); plain KD at beta 1, T 3 has Bound 76.80 (4) and 76.2 (5).
- The Swin-T single-task row of Table 1 repeats Depth, Normal and Bound of HRNet18's; Swin-S repeats Normal.
- PAD-Net's Sal and Normal in Table 3 are on the scale of another evaluation protocol.
- GFLOPs are multiply-accumulates at 425 x 560, and a single-task row sums the parameters and cost of one network per
  task.
- Table 7's text lists epochs 50 to 600; the table has five of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdam_ray.tasks import DATASETS, Task

SINGLE_TASK = "single-task"


@dataclass(frozen=True)
class Row:
    """One printed line (in Table 4: one printed column of a teacher-student pair).

    Attributes:
        model: what was trained; `single-task` rows are the reference of the Deltas of their group.
        group: rows that share a single-task reference: a backbone, by its name in `zoo` where it has one.
        printed: the metrics in the table's order of columns, as printed, "-" where nothing is.
        printed_delta: Delta_mt in percent as printed; None where the table prints none.
        facts: what else the line says: parameters in millions, GMACs, beta, temperature, epochs, teacher.
    """

    model: str
    group: str
    printed: str
    printed_delta: str | None = None
    facts: tuple[tuple[str, Any], ...] = ()

    def fact(self, name: str) -> Any:
        """The fact of that name, or None."""
        return dict(self.facts).get(name)

    @property
    def system(self) -> str:
        """The model without what was distilled into it: `ATRC` of `ATRC+KDAM`."""
        return self.model.partition("+")[0]

    @property
    def method(self) -> str:
        """What stands behind the plus sign: `KDAM` of `ATRC+KDAM`; "" where nothing is distilled."""
        return self.model.partition("+")[2]

    @property
    def backbone(self) -> str:
        """The backbone of the printed network."""
        return self.group.split()[0]

    @property
    def is_single_task(self) -> bool:
        """Whether it stands for one network a task, the reference of its group's Deltas."""
        return self.model == SINGLE_TASK

    @property
    def counts_attention(self) -> bool:
        """Whether its printed GFLOPs contain the products inside attention: HRNet18's do (`report.costs`)."""
        return self.backbone == "hrnet18"

    @property
    def is_teacher(self) -> bool:
        """Whether it shows a teacher's own network (Table 4)."""
        return " teaching " in self.group

    @property
    def taught_by(self) -> str:
        """The teacher of a printed pair (Table 4); "" where the group names none."""
        return self.group.partition(" taught by ")[2]


@dataclass(frozen=True)
class Table:
    """One printed table.

    Attributes:
        number: "1" to "7", with "5a" and "5b" for the parts of Table 5.
        dataset: "nyud" or "pascal".
        tasks: the columns, each with its metric, unit and direction.
        rows: in printed order.
    """

    number: str
    dataset: str
    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]

    @property
    def varies_beta(self) -> bool:
        """Whether its rows are points of beta and temperature, swept by a job of their own (Table 5)."""
        return any(row.fact("beta") for row in self.rows)

    @property
    def has_pairs(self) -> bool:
        """Whether its groups are pairs of a teacher and a student (Table 4)."""
        return any(row.taught_by for row in self.rows)

    @property
    def varies_epochs(self) -> bool:
        """Whether its rows differ in how long they were trained (Table 7)."""
        return any(row.fact("epochs") for row in self.rows)

    def metrics(self, row: Row) -> dict[str, float]:
        """{"semseg/mIoU": 44.42, ...}: what the row prints, without what it leaves out."""
        printed = zip(self.tasks, row.printed.split(), strict=True)
        return {task.metric_key: float(text) for task, text in printed if text != "-"}

    def reference(self, row: Row) -> Row | None:
        """The single-task row that this row's Delta refers to, or None."""
        return next((other for other in self.rows if other.is_single_task and other.group == row.group), None)

    def find(self, **facts: Any) -> Row | None:
        """The row with these facts, or None."""
        return next((row for row in self.rows if all(row.fact(name) == value for name, value in facts.items())), None)


def _cost(params: float, gmacs: float) -> tuple[tuple[str, Any], ...]:
    return (("params", params), ("gmacs", gmacs))


NYUD = DATASETS["nyud"].tasks
PASCAL = DATASETS["pascal"].tasks

TABLE_1 = Table("1", "nyud", NYUD, (
    #   model           group     SemSeg Depth Normal Bound     Delta            params  GFLOPs
    Row("single-task", "hrnet18", "38.02 0.6104 20.94 76.22", "0.00",  _cost(16.09, 40.93)),
    Row("MT",          "hrnet18", "36.35 0.6284 21.02 76.36", "-1.89", _cost(4.52, 17.59)),
    Row("MT+KDAM",     "hrnet18", "36.85 0.6250 21.04 76.10", "-0.73", _cost(4.52, 17.59)),
    Row("Cross-Stitch","hrnet18", "36.34 0.6290 20.88 76.38", "-1.75", _cost(4.52, 17.59)),
    Row("PAD-Net",     "hrnet18", "36.70 0.6264 20.85 76.50", "-1.33", _cost(5.02, 25.18)),
    Row("PAP",         "hrnet18", "36.72 0.6178 20.82 76.42", "-0.95", _cost(4.54, 53.04)),
    Row("PSD",         "hrnet18", "36.69 0.6246 20.87 76.42", "-1.30", _cost(4.71, 21.10)),
    Row("NDDR-CNN",    "hrnet18", "36.72 0.6288 20.89 76.32", "-1.51", _cost(4.59, 18.68)),
    Row("MTI-Net",     "hrnet18", "36.61 0.6270 20.85 76.38", "-1.44", _cost(12.56, 19.14)),
    Row("ATRC",        "hrnet18", "38.90 0.6010 20.48 76.34", "1.56",  _cost(5.06, 25.76)),
    Row("ATRC+KDAM",   "hrnet18", "39.30 0.5919 20.72 76.91", "2.05",  _cost(5.06, 25.76)),
    Row("single-task", "swin_t",  "42.92 0.6104 20.94 76.22", "0.00",  _cost(115.08, 161.25)),
    Row("MT",          "swin_t",  "38.78 0.6312 21.05 75.60", "-3.74", _cost(32.50, 96.29)),
    Row("MT+KDAM",     "swin_t",  "44.34 0.601 21.03 76.4",   "1.1",   _cost(32.50, 96.29)),
    Row("single-task", "swin_s",  "48.92 0.5804 20.94 77.20", "0.00",  _cost(200.33, 242.63)),
    Row("MT",          "swin_s",  "47.90 0.6053 21.17 76.90", "-1.96", _cost(53.82, 116.63)),
    Row("MTFormer",    "swin_?",  "50.56 0.4830 - -",         "4.12",  _cost(64.03, 117.73)),
    Row("MT+KDAM",     "swin_s",  "49.41 0.564 20.60 77.3",   "1.38",  _cost(53.82, 116.63)),
))  # fmt: skip

TABLE_2 = Table("2", "nyud", NYUD, (
    Row("InvPT",      "swin_t", "44.27 0.5589 20.46 76.10"),
    Row("InvPT+KDAM", "swin_t", "44.93 0.5577 20.27 76.2", None, (("teacher", "swin_l"),)),
    Row("DeMT",       "swin_t", "46.36 0.5871 20.65 76.90"),
    Row("DeMT+KDAM",  "swin_t", "47.07 0.5855 20.62 76.9", None, (("teacher", "swin_l"),)),
    Row("DeMT",       "swin_s", "51.50 0.5474 20.02 78.10"),
    Row("DeMT+KDAM",  "swin_s", "51.91 0.5512 20.01 78.1", None, (("teacher", "swin_l"),)),
))  # fmt: skip

TABLE_3 = Table("3", "pascal", PASCAL, (
    #   model             group      SemSeg Parts Sal Normal Bound      Delta
    Row("single-task",   "hrnet18", "62.23 61.66 85.08 13.69 73.06", "0.00"),
    Row("MT",            "hrnet18", "51.48 57.23 83.43 14.10 69.76", "-6.77"),
    Row("MT+KDAM",       "hrnet18", "51.91 57.63 83.92 13.90 70.1",  "-5.06"),
    Row("PAD-Net",       "hrnet18", "53.60 59.60 65.80 15.3 72.50",  "-4.41"),
    Row("ATRC",          "hrnet18", "57.89 57.33 83.77 13.99 69.74", "-4.45"),
    Row("MQTransformer", "hrnet18", "58.91 57.43 83.78 14.17 69.80", "-4.20"),
    Row("ATRC+KDAM",     "hrnet18", "58.92 57.51 83.87 13.97 69.75", "-3.94"),
    Row("single-task",   "swin_t",  "67.81 56.32 82.18 14.81 70.90", "0.00"),
    Row("MT",            "swin_t",  "64.74 53.25 76.88 15.86 69.00", "-3.23"),
    Row("MT+KDAM",       "swin_t",  "64.81 53.80 81.72 15.06 69.5",  "-2.3"),
    Row("single-task",   "swin_s",  "70.83 59.71 82.64 15.13 71.20", "0.00"),
    Row("MT",            "swin_s",  "68.10 56.20 80.64 16.09 70.20", "-3.97"),
    Row("MT+KDAM",       "swin_s",  "68.80 56.62 81.91 15.61 70.4",  "-2.54"),
))  # fmt: skip

# One group per network and pair: the students of Swin-L:Swin-T and Swin-B:Swin-T have the same single-task reference,
# but the table prints it twice.
TABLE_4 = Table("4", "nyud", NYUD, (
    Row("single-task", "swin_l teaching swin_t", "56.46 0.508 19.38 78.8"),
    Row("MT",          "swin_l teaching swin_t", "54.53 0.532 19.51 78.3",  "-2.36"),
    Row("single-task", "swin_t taught by swin_l", "42.92 0.610 20.94 76.22"),
    Row("MT",          "swin_t taught by swin_l", "38.78 0.631 21.05 75.60", "-3.74"),
    Row("MT+plain KD", "swin_t taught by swin_l", "44.48 0.604 21.03 76.80", "1.08", (("teacher", "swin_l"),)),
    Row("MT+DIST",     "swin_t taught by swin_l", "43.27 0.599 21.02 76.50", "0.58", (("teacher", "swin_l"),)),
    Row("MT+KDAM",     "swin_t taught by swin_l", "44.54 0.601 21.03 76.40", "1.10", (("teacher", "swin_l"),)),
    Row("single-task", "swin_l teaching swin_s", "56.46 0.508 19.38 78.8"),
    Row("MT",          "swin_l teaching swin_s", "54.53 0.532 19.51 78.3",  "-2.36"),
    Row("single-task", "swin_s taught by swin_l", "48.92 0.580 20.94 77.20"),
    Row("MT",          "swin_s taught by swin_l", "47.90 0.605 21.17 76.90", "-1.96"),
    Row("MT+plain KD", "swin_s taught by swin_l", "49.20 0.571 20.58 77.20", "0.97", (("teacher", "swin_l"),)),
    Row("MT+DIST",     "swin_s taught by swin_l", "49.39 0.560 20.51 77.2",  "1.6",  (("teacher", "swin_l"),)),
    Row("MT+KDAM",     "swin_s taught by swin_l", "49.41 0.564 20.60 77.3",  "1.38", (("teacher", "swin_l"),)),
    Row("single-task", "swin_b teaching swin_t", "53.01 0.552 19.34 78.00"),
    Row("MT",          "swin_b teaching swin_t", "51.44 0.581 20.44 77.80", "-3.2"),
    Row("single-task", "swin_t taught by swin_b", "42.92 0.610 20.94 76.22"),
    Row("MT",          "swin_t taught by swin_b", "38.78 0.631 21.05 75.60", "-3.74"),
    Row("MT+plain KD", "swin_t taught by swin_b", "43.84 0.603 21.19 76.60", "0.49", (("teacher", "swin_b"),)),
    Row("MT+DIST",     "swin_t taught by swin_b", "44.06 0.596 21.08 76.70", "1.07", (("teacher", "swin_b"),)),
    Row("MT+KDAM",     "swin_t taught by swin_b", "44.52 0.592 21.09 76.6",  "1.47", (("teacher", "swin_b"),)),
))  # fmt: skip


def _cell(beta: float, temperature: float, printed: str) -> Row:
    return Row(
        "MT+plain KD", "swin_t", printed, None, (("beta", beta), ("temperature", temperature), ("teacher", "swin_l"))
    )


TABLE_5A = Table("5a", "nyud", NYUD, (
    _cell(0.1, 3.0, "44.42 0.6001 21.16 76.2"),
    _cell(0.5, 3.0, "44.90 0.6015 21.09 76.3"),
    _cell(1.0, 3.0, "44.47 0.6044 21.03 76.2"),
    _cell(2.0, 3.0, "44.61 0.5975 21.00 76.2"),
    _cell(4.0, 3.0, "44.09 0.6017 21.06 76.1"),
    _cell(8.0, 3.0, "44.42 0.6018 21.07 76.2"),
    _cell(16.0, 3.0, "43.53 0.6104 21.34 76.3"),
))  # fmt: skip

TABLE_5B = Table("5b", "nyud", NYUD, (
    _cell(1.0, 0.1, "44.27 0.6076 21.15 76.1"),
    _cell(1.0, 0.5, "44.52 0.6054 21.16 76.2"),
    _cell(1.0, 1.0, "44.83 0.5969 21.10 76.3"),
    _cell(1.0, 3.0, "44.47 0.6044 21.03 76.2"),
    _cell(1.0, 4.0, "44.21 0.6014 21.05 76.1"),
    _cell(1.0, 8.0, "45.35 0.6012 21.04 76.5"),
    _cell(1.0, 16.0, "44.69 0.6050 21.08 76.1"),
))  # fmt: skip

TABLE_6 = Table("6", "nyud", NYUD, (
    Row("MT",                       "swin_t", "38.78 0.6312 21.05 75.60"),
    Row("MT+KDAM intra",            "swin_t", "43.31 0.6068 21.47 76.00", None, (("teacher", "swin_l"),)),
    Row("MT+KDAM inter",            "swin_t", "44.06 0.5964 21.08 76.50", None, (("teacher", "swin_l"),)),
    Row("MT+KDAM inter and intra",  "swin_t", "44.34 0.6012 21.03 76.70", None, (("teacher", "swin_l"),)),
))  # fmt: skip

TABLE_7 = Table("7", "nyud", NYUD, (
    Row("MT+KDAM", "swin_t", "34.13 0.6715 23.26 75.3", None, (("epochs", 100), ("teacher", "swin_l"))),
    Row("MT+KDAM", "swin_t", "42.33 0.6285 21.86 76.0", None, (("epochs", 200), ("teacher", "swin_l"))),
    Row("MT+KDAM", "swin_t", "44.14 0.6156 21.28 76.2", None, (("epochs", 300), ("teacher", "swin_l"))),
    Row("MT+KDAM", "swin_t", "44.34 0.6010 21.03 76.2", None, (("epochs", 400), ("teacher", "swin_l"))),
    Row("MT+KDAM", "swin_t", "45.00 0.5955 20.69 76.4", None, (("epochs", 600), ("teacher", "swin_l"))),
))  # fmt: skip

TABLES: dict[str, Table] = {
    table.number: table for table in (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5A, TABLE_5B, TABLE_6, TABLE_7)
}


def interval(printed: str) -> tuple[float, float]:
    """All values that round to `printed`: ("0.61") -> (0.605, 0.615)."""
    half = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    return float(printed) - half, float(printed) + half


@dataclass(frozen=True)
class Delta:
    """A printed Delta_mt beside what its row says, percent.

    Attributes:
        table: number of the table.
        row: the row.
        printed: as printed.
        recomputed: from the printed metrics, each signed by its direction (the printed formula has no sign; the printed
            numbers follow only with it).
        low, high: smallest and largest Delta that any values rounding to the printed metrics can have.
    """

    table: str
    row: Row
    printed: float
    recomputed: float
    low: float
    high: float

    @property
    def follows(self) -> bool:
        """Whether the printed number can be right at all."""
        smallest, largest = interval(self.row.printed_delta or "0")
        return smallest <= self.high and self.low <= largest


def recomputed_delta(table: Table, row: Row) -> tuple[float, float, float] | None:
    """Delta_mt of a printed row against its single-task row: (recomputed, low, high), percent.

    Returns:
        None where the row or the table has no complete single-task reference.
    """
    reference = table.reference(row)
    if reference is None or "-" in row.printed:
        return None
    centre, low, high = 0.0, 0.0, 0.0
    for task, ours, single in zip(table.tasks, row.printed.split(), reference.printed.split(), strict=True):
        sign = 100.0 / len(table.tasks) * (1 if task.higher_is_better else -1)
        centre += sign * (float(ours) / float(single) - 1)
        corners = [sign * (a / b - 1) for a in interval(ours) for b in interval(single)]
        low, high = low + min(corners), high + max(corners)
    return centre, low, high


def printed_deltas(tables: Sequence[Table] = tuple(TABLES.values())) -> list[Delta]:
    """Every printed Delta_mt that can be recomputed, single-task rows (0 by definition) left out."""
    return [
        Delta(table.number, row, float(row.printed_delta), *delta)
        for table in tables
        for row in table.rows
        if row.printed_delta is not None and not row.is_single_task
        if (delta := recomputed_delta(table, row)) is not None
    ]

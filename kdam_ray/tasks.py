"""Tasks and datasets as plain tables: what a map means, how it is scored, what a dataset row holds.

Nothing here imports torch. Everything that differs between tasks or datasets is a column of these tables, so that the
losses, metrics and readings are literal dicts keyed by `Task.kind`.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classes", "saliency", "depth", "normals", "edge"]

IGNORE = 255  # class maps and edge maps: pixels that count in no loss, no KD term and no metric
DEPTH_BINS = 40  # classes of a depth map cut into classes: logarithmic in metres
DEPTH_RANGE = (0.7, 10.0)  # metres; nearer and farther fall into the first and last class
NORMAL_DIRECTIONS = 40  # classes of a normal map cut into classes: nearest of so many directions


@dataclass(frozen=True)
class Task:
    """One output map.

    Attributes:
        name: key of logits, labels and metrics.
        kind: what the channels mean; selects loss, metric and KD reading.
        channels: output channels of the head.
        weight: lambda_n of Eq. 8 (the constants of ATRC, which the paper cites for them).
        metric: name of the main metric, as the paper prints it.
        unit: unit of the metric, as the paper prints it.
        higher_is_better: direction of the metric.
    """

    name: str
    kind: Kind
    channels: int
    weight: float
    metric: str
    unit: str
    higher_is_better: bool

    @property
    def metric_key(self) -> str:
        """`semseg/mIoU`: the metric's name in reports, MLflow (behind `val/`) and JSON."""
        return f"{self.name}/{self.metric}"

    @property
    def label_classes(self) -> int:
        """Classes of the label once `losses.auxiliary` has cut it into classes, as ATRC needs it."""
        cut = {"depth": DEPTH_BINS, "normals": NORMAL_DIRECTIONS, "edge": 2}
        return cut.get(self.kind, self.channels)


@dataclass(frozen=True)
class Dataset:
    """One row per dataset.

    Attributes:
        name: what `--dataset` takes.
        train_images: images of the training split.
        val_images: images of the evaluation split.
        image_size: (height, width) of a training crop, pixels.
        tasks: the tasks, in the paper's order of columns.
        edge_max_dist: matching tolerance of odsF as a fraction of the image diagonal.
        edge_positive_weight: w of the boundary loss: positives weigh w, negatives 1 - w.
        edge_truth: how odsF reads the ground truth: `mask` thins the edge mask itself; `seg2bmap` treats the mask as a
            segmentation and thins its contours, as the evaluator of the published NYUD-v2 numbers does.
        classes: names of the semseg classes, in label order.
        test_images: images of a third split, by which nothing was ever chosen; 0: the dataset has none.
        is_procedural: whether its images are drawn, of any size, instead of being read from files.
    """

    name: str
    train_images: int
    val_images: int
    image_size: tuple[int, int]
    tasks: tuple[Task, ...]
    edge_max_dist: float
    edge_positive_weight: float
    edge_truth: Literal["mask", "seg2bmap"] = "mask"
    classes: tuple[str, ...] = ()
    test_images: int = 0
    is_procedural: bool = False

    def task(self, name: str) -> Task:
        """The task of that name.

        Raises:
            ValueError: no such task here; names those there are.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(f"task {name!r} is not one of {self.name}: {', '.join(t.name for t in self.tasks)}")


ROOM_CLASSES = (
    "wall", "floor", "ceiling", "cabinet", "bed", "chair", "sofa", "table", "door",
    "window", "shelf", "picture", "lamp", "bin", "ball", "person", "rug",
)  # fmt: skip
NYUD_CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat",
    "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel", "shower curtain", "box",
    "whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "other structure",
    "other furniture", "other prop",
)  # fmt: skip
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
PARTS = ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")


def _tasks(semseg_classes: int, *, names: tuple[str, ...]) -> tuple[Task, ...]:
    rows = (
        #    name           kind        channels       weight metric  unit   higher_is_better
        Task("semseg",      "classes",  semseg_classes, 1,    "mIoU", "%",   True),
        Task("human_parts", "classes",  len(PARTS),     2,    "mIoU", "%",   True),
        Task("sal",         "saliency", 2,              5,    "maxF", "%",   True),
        Task("depth",       "depth",    1,              1,    "rmse", "m",   False),
        Task("normals",     "normals",  3,              10,   "mErr", "deg", False),
        Task("edge",        "edge",     1,              50,   "odsF", "%",   True),
    )  # fmt: skip
    return tuple(row for row in rows if row.name in names)


NYUD_TASKS = ("semseg", "depth", "normals", "edge")
PASCAL_TASKS = ("semseg", "human_parts", "sal", "normals", "edge")

DATASETS: dict[str, Dataset] = {
    "rooms": Dataset(
        "rooms", train_images=1200, val_images=200, image_size=(48, 64),
        tasks=_tasks(len(ROOM_CLASSES), names=NYUD_TASKS),
        edge_max_dist=0.02, edge_positive_weight=0.8, classes=ROOM_CLASSES, test_images=1000, is_procedural=True,
    ),
    "rooms_pascal": Dataset(
        "rooms_pascal", train_images=1200, val_images=200, image_size=(48, 64),
        tasks=_tasks(len(ROOM_CLASSES), names=PASCAL_TASKS),
        edge_max_dist=0.02, edge_positive_weight=0.8, classes=ROOM_CLASSES, test_images=1000, is_procedural=True,
    ),
    "nyud": Dataset(
        "nyud", train_images=795, val_images=654, image_size=(425, 560),
        tasks=_tasks(len(NYUD_CLASSES), names=NYUD_TASKS),
        edge_max_dist=0.011, edge_positive_weight=0.8, edge_truth="seg2bmap", classes=NYUD_CLASSES,
    ),
    "pascal": Dataset(
        "pascal", train_images=4998, val_images=5105, image_size=(512, 512),
        tasks=_tasks(len(VOC_CLASSES), names=PASCAL_TASKS),
        edge_max_dist=0.0075, edge_positive_weight=0.95, classes=VOC_CLASSES,
    ),
}  # fmt: skip

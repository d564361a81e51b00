"""Parameters and multiply-accumulates of every system of Table 1, ours beside the printed ones; nothing is trained.

    kdam model-cost                                   # Table 1, for people
    kdam model-cost --json                            # the same as a list of rows
    kdam model-cost --backbone swin_t --decoder demt  # any network, --dataset and --image-size of your own

Counted on shapes alone (torch's meta device): the whole table takes seconds, whatever the networks' size.
"""

from typing import Annotated

import tyro

from kdam_ray.command import bad_input_exits, flags, output
from kdam_ray.config import Frozen, one_of
from kdam_ray.tasks import DATASETS
from kdam_ray.zoo import BACKBONES, DECODERS


class Flags(Frozen):
    """Which networks.

    Attributes:
        backbone: of networks that need not be in Table 1; left out with --decoder: hrnet18, swin_t and swin_s.
        decoder: their multi-task heads; left out with --backbone: all.
        dataset: whose tasks they have.
        image_size: height and width in pixels; left out: the dataset's.
        as_json: a JSON list of rows on stdout.
    """

    backbone: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()
    dataset: str = "nyud"
    image_size: tuple[int, int] | None = None
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False


def check(asked: Flags) -> None:
    """Refuse what does not exist.

    Raises:
        ValueError: names the flag and what it takes.
    """
    one_of(DATASETS, "dataset")(asked.dataset)
    for backbone in asked.backbone:
        one_of(BACKBONES, "backbone")(backbone)
    for decoder in asked.decoder:
        one_of(DECODERS, "decoder")(decoder)
    if asked.image_size and min(asked.image_size) < 16:
        raise ValueError(f"image_size: {asked.image_size} is smaller than 16 pixels")
    if not (asked.backbone or asked.decoder) and (asked.dataset != "nyud" or asked.image_size):
        hint = "say --backbone or --decoder for anything else"
        raise ValueError(f"dataset, image_size: Table 1 is NYUD-v2 at 425x560; {hint}")


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits(), output(asked.as_json) as say:
        check(asked)

        from kdam_ray.report.costs import as_text, of_networks, table_1

        if asked.backbone or asked.decoder:
            dataset = DATASETS[asked.dataset]
            backbones, decoders = asked.backbone or ("hrnet18", "swin_t", "swin_s"), asked.decoder or DECODERS
            rows = of_networks(backbones, decoders, dataset, asked.image_size or dataset.image_size)
        else:
            rows = table_1()
        say(as_text(rows), [row.as_json() for row in rows])
    return 0

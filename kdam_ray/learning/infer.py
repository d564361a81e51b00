"""What a network says about images of any size: read, normalised as in training, predicted, at the image's own size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from kdam_ray.data.packaged.file_kinds import UNREADABLE
from kdam_ray.data.predictions import size_text
from kdam_ray.data.source import Size
from kdam_ray.data.transforms import assemble, centred
from kdam_ray.learning.evaluate import inner, logits_of
from kdam_ray.models.heads import decode, resize
from kdam_ray.tasks import Dataset, Kind

BAND_NUMBERS = 2**25  # logits that are enlarged at a time, 128 MiB
TRANSPARENT = (255, 255, 255)  # what shows through an image with transparency
SIXTEEN_BITS = ("PNG", "PPM", "JPEG2000")  # formats whose grey images of mode "I" hold 16 bits, 65535 as white
SEVERAL_VIEWS = "MPO"  # JPEG with a second, smaller picture of the same, as telephones write


@dataclass(frozen=True)
class InputImage:
    """An image as a network takes it.

    Attributes:
        image: [h, w, 3] uint8 RGB, upright.
        size: of the file, upright; larger than the image if that was reduced.
        notes: what was done to it that its owner may not expect.
    """

    image: np.ndarray
    size: Size
    notes: tuple[str, ...] = ()


def read_picture(path: Path, *, limit: int | None = None, shape: Size | None = None) -> InputImage:
    """An image file of any format and mode that Pillow opens; of several frames the first.

    EXIF's orientation is carried out, so that predictions lie on the image as viewers show it. Transparency is laid on
    white. Of 16 bits the highest 8 are taken, however dark the image: its format says what white is, not its values.
    Floating-point grey values are read with 1 as white, and refused outside 0 .. 1; integers of more than 16 bits are
    refused, for nothing says what their white is. Colour profiles are ignored, as in training.

    Args:
        path: the file.
        limit: longest side that a network shall see, pixels; larger images are reduced (antialiased), keeping their
            shape.
        shape: (height, width) that every image is resized to, as the runs with `Run.resize` learn; None: as it is.

    Raises:
        ValueError: not readable as an image, or see above; one line that names the file.
    """
    try:
        with Image.open(path) as opened:
            frames = 1 if opened.format == SEVERAL_VIEWS else getattr(opened, "n_frames", 1)
            notes = [f"the first of {frames} frames"] if frames > 1 else []
            upright = ImageOps.exif_transpose(opened)
            if opened.getexif().get(0x0112, 1) != 1:
                notes.append("turned upright by its EXIF orientation")
            image, note = _as_rgb(upright, path, opened.format)
            notes += note
    except UNREADABLE as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read as an image ({error})") from None
    size = (image.height, image.width)
    if shape is not None and size != shape:
        image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
        notes.append(f"resized from {size_text(size)} to {size_text(shape)} for the network, which learnt so")
    elif limit is not None and max(size) > limit:
        factor = limit / max(size)
        image = image.resize(
            (max(1, round(size[1] * factor)), max(1, round(size[0] * factor))), Image.Resampling.LANCZOS
        )
        notes.append(
            f"reduced from {size_text(size)} to {size_text((image.height, image.width))} for the network, "
            "predictions enlarged again"
        )
    return InputImage(np.array(image), size, tuple(notes))


def _as_rgb(image: Image.Image, path: Path, format: str | None) -> tuple[Image.Image, list[str]]:
    """The image as RGB, and a note where that is not what the file holds."""
    if image.mode.startswith("I") or image.mode == "F":
        grey, note = _grey_bytes(image, path, format)
        return Image.fromarray(grey).convert("RGB"), [note]
    notes = [f"mode {image.mode} read as 8-bit RGB"] if image.mode not in ("RGB", "L") else []
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, (*TRANSPARENT, 255)), over).convert("RGB"), notes
    return image.convert("RGB"), notes


def _grey_bytes(image: Image.Image, path: Path, format: str | None) -> tuple[np.ndarray, str]:
    """Grey values of more than 8 bits as uint8 [h, w], and how they were read."""
    grey = np.asarray(image)
    low, high = grey.min(), grey.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # so NaN is refused too
            raise ValueError(
                f"{path}: holds floating-point grey values from {low:g} to {high:g}; "
                "scale them to 0 .. 1, or save 8 bits"
            )
        return (grey * 255 + 0.5).astype(np.uint8), "floating-point grey values read as 8-bit RGB, 1 as white"
    if image.mode == "I" and format not in SIXTEEN_BITS:
        raise ValueError(
            f"{path}: holds 32-bit or signed grey values, of which nothing says what is white; "
            "save it with 8 or 16 bits"
        )
    note = f"16-bit grey values read as 8-bit RGB, 65535 as white; the brightest is {high}"
    return (grey // 256).astype(np.uint8), note


def predict(
    network: nn.Module,
    picture: InputImage,
    dataset: Dataset,
    tasks: Sequence[str],
    *,
    image_size: Size,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> dict[str, np.ndarray]:
    """Predictions of one image at its file's size, in the form of `models.heads.decode` (and of `data.predictions`).

    The image is normalised and, where it is smaller than `image_size`, padded, by the code of evaluation; the padding
    is cut off.

    Args:
        network: as `models.Network`, on the device; is left in the mode it was found in.
        picture: see `read_picture`.
        dataset: that the network learnt.
        tasks: names of its tasks.
        image_size: (height, width) of a training crop.
        device: where the network is.
        precision: fp32 or bf16 (autocast).

    Raises:
        ValueError: an output is not finite; names the task.
    """
    size = picture.image.shape[:2]
    canvas = (max(size[0], image_size[0]), max(size[1], image_size[1]))
    image = assemble([{"image": picture.image}], [(centred(size), None)], tasks=(), canvas=canvas)["image"].to(device)
    logits = logits_of(network, image, device=device, precision=precision)
    predictions = {}
    for name in tasks:
        if not torch.isfinite(logits[name]).all():
            raise ValueError(f"{name}: the network's output is not finite")
        kind = dataset.task(name).kind
        full = inner(resize(logits.pop(name).float(), canvas), size)
        found = decode(kind, full) if picture.size == size else decoded_enlarged(kind, full, picture.size)
        predictions[name] = found[0].cpu().numpy()
    return predictions


def decoded_enlarged(kind: Kind, logits: Tensor, size: Size) -> Tensor:
    """`decode(kind, resize(logits, size))` a band of rows at a time, so that a huge image needs no huge memory.

    Args:
        kind: of the task.
        logits: [1, C, h, w].
        size: (height, width).
    """
    rows = max(1, BAND_NUMBERS // (logits.shape[1] * size[1]))
    height = logits.shape[-2]
    place = ((torch.arange(size[0], dtype=torch.float64) + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    low = place.floor().long()
    bands = []
    for band in torch.arange(size[0]).split(rows):
        first, weight = low[band].to(logits.device), (place - low)[band].to(logits)[:, None]
        second = (first + 1).clamp_max(height - 1)
        mixed = logits[:, :, first] * (1 - weight) + logits[:, :, second] * weight
        bands.append(decode(kind, resize(mixed, (len(band), size[1]))))
    return torch.cat(bands, dim=-2)

"""Pretrained weights of a backbone: timm's, or a file, matched by name and shape with a report of what matched."""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.zoo import BACKBONES

log = logging.getLogger(__name__)

WRAPPERS = ("model", "state_dict")  # keys under which published training scripts store the weights


@dataclass(frozen=True)
class Loaded:
    """What became of a backbone's tensors and of a file's.

    Attributes:
        matched: names of the backbone's tensors that were set.
        missing: names of those that keep their initialisation: not in the file.
        reshaped: names of those that keep it because the file's shape differs.
        unused: names in the file that the backbone does not have (of a whole segmentation network: its head's).
        interpolated: names of those set from position tables of another window size.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    unused: tuple[str, ...]
    interpolated: tuple[str, ...] = ()

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.reshaped)
        return (
            f"{len(self.matched)} of {total} tensors of the backbone set "
            f"({len(self.interpolated)} position tables interpolated), "
            f"{len(self.missing)} not in the file, "
            f"{len(self.reshaped)} of another shape, {len(self.unused)} of the file unused"
        )


def imagenet(name: str, timm: ModuleType) -> dict[str, Tensor]:
    """timm's ImageNet weights for a row of `zoo.BACKBONES`.

    Raises:
        ValueError: a small member, for which there are none; or they cannot be downloaded.
    """
    row = BACKBONES[name]
    if row.options:
        raise ValueError(
            f"pretrained: there are no ImageNet weights for the small network {name}; use 'none' or a weight file"
        )
    try:
        return timm.create_model(row.timm, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # the hub's client raises many unrelated classes when there is no network
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"pretrained: timm's ImageNet weights of {row.timm} cannot be fetched ({type(error).__name__}: {reason}); "
            "use 'none', a weight file, or fill timm's cache first"
        ) from error


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file, without running code from it.

    Args:
        path: `.safetensors`, or a `.pth` / `.pt` / `.bin` written by torch.save.

    Raises:
        ValueError: no such file, or not a file of weights; names it.
    """
    if not path.is_file():
        raise ValueError(f"pretrained: no file {path}; it takes 'none', 'imagenet' or a .safetensors or .pth file")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # damaged files raise whatever the parser met first
        raise ValueError(
            f"pretrained: {path} is not a readable .safetensors or .pth file ({type(error).__name__})"
        ) from error
    tensors = _unwrap(content)
    if not tensors:
        raise ValueError(f"pretrained: {path} holds no named tensors")
    return tensors


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The named tensors in what a training script saved; none if it is something else."""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return (
        {key: value for key, value in content.items() if isinstance(value, Tensor)} if isinstance(content, dict) else {}
    )


def load(backbone: nn.Module, tensors: dict[str, Tensor], *, source: str) -> Loaded:
    """Set what matches by name and shape; the rest keeps its initialisation.

    Names may be timm's, those of a network of ours (`backbone.` before them), the Swin authors' or OpenMMLab's; of the
    last two also whole UPerNets fine-tuned on ADE20K, which the code that the paper builds on starts its Swins from.

    Args:
        backbone: of `build_backbone`.
        tensors: by name.
        source: said in messages.

    Raises:
        ValueError: nothing matches.
    """
    own = backbone.state_dict()
    named = {_own_name(name, own): value for name, value in _as_timm(tensors).items()}
    found = {name: _fitted(value, own[name], name) if name in own else value for name, value in named.items()}
    matched = tuple(name for name in own if name in found and found[name].shape == own[name].shape)
    report = Loaded(
        matched=matched,
        missing=tuple(name for name in own if name not in found),
        reshaped=tuple(name for name in own if name in found and found[name].shape != own[name].shape),
        unused=tuple(name for name in found if name not in own),
        interpolated=tuple(name for name in own if name in found and found[name] is not named[name]),
    )
    if not matched:
        raise ValueError(
            f"pretrained: {source} does not fit this backbone: {report}; first name in it: {next(iter(tensors))}"
        )
    backbone.load_state_dict({name: found[name] for name in matched}, strict=False)
    log.info("pretrained %s: %s", source, report)
    if report.reshaped or len(report.missing) > len(matched):
        log.warning("pretrained %s fits only in part: %s", source, report)
    return report


def _own_name(name: str, own: dict[str, Tensor]) -> str:
    """The backbone's name for a tensor of a file, or the name as it is."""
    bare = name.removeprefix("module.").removeprefix("backbone.")
    output_norm = re.sub(
        r"^norm(\d)\.", r"norms.\1.", bare
    )  # as segmentation networks call the norms of the four outputs
    return next((known for known in (f"net.{bare}", output_norm) if known in own), bare)


# OpenMMLab's names of Swin's parts -> timm's
OPENMMLAB = {
    r"(^|\.)stages\.": r"\1layers.",
    r"\.attn\.w_msa\.": ".attn.",
    r"\.ffn\.layers\.0\.0\.": ".mlp.fc1.",
    r"\.ffn\.layers\.1\.": ".mlp.fc2.",
    r"patch_embed\.projection\.": "patch_embed.proj.",
}


def _as_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors by timm's names and in timm's order of channels, whoever trained them."""
    if any(".attn.w_msa." in name for name in tensors):
        tensors = {_renamed(name): _regrouped(name, value) for name, value in tensors.items()}
    if any(name.endswith("layers.0.downsample.reduction.weight") for name in tensors):
        # the Swin authors and OpenMMLab keep a stage's downsampling at its end, timm at the beginning of the next
        later = re.compile(r"layers\.(\d+)\.downsample")
        tensors = {
            later.sub(lambda match: f"layers.{int(match[1]) + 1}.downsample", name): value
            for name, value in tensors.items()
        }
    return tensors


def _renamed(name: str) -> str:
    for theirs, timms in OPENMMLAB.items():
        name = re.sub(theirs, timms, name)
    return name


def _regrouped(name: str, value: Tensor) -> Tensor:
    """OpenMMLab's patch merging reads a 2x2 block as channel, row, column; timm's as column, row, channel."""
    if ".downsample." not in name:
        return value
    by_pixel = value.unflatten(-1, (-1, 4)).transpose(-1, -2)  # [..., 2x2 row by row, C]
    return by_pixel[..., [0, 2, 1, 3], :].flatten(-2)


def _fitted(value: Tensor, own: Tensor, name: str) -> Tensor:
    """A table of relative positions at another window size, interpolated (bicubic); anything else as it is."""
    if (
        not name.endswith("relative_position_bias_table")
        or value.shape == own.shape
        or value.shape[1:] != own.shape[1:]
    ):
        return value
    theirs, ours = (math.isqrt(table.shape[0]) for table in (value, own))
    square = value.float().T.reshape(1, -1, theirs, theirs)
    resized = F.interpolate(square, size=(ours, ours), mode="bicubic", align_corners=True)
    return resized.flatten(2)[0].T.to(value.dtype).contiguous()

"""Backbones: a row of `zoo.BACKBONES` becomes a module that maps an image of any size to four feature maps.

Legend of shapes: B images, H x W pixels; level k has C_k channels and stride 4 * 2^k, sizes rounded up: 425x560 pixels
give 107x140, 54x70, 27x35 and 14x18.

timm builds the networks; what is done here is what timm's versions do not do: odd sizes, one layout for all families,
and the LayerNorm on each of Swin's outputs that dense prediction uses. All maps are NCHW in channels-last memory:
timm's Swin computes that way inside, and on CPU convolutions, bilinear resizing and its gradient are up to twice as
fast in it.
"""

import contextlib
import importlib.util
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdam_ray.zoo import BACKBONES, Backbone

LEVELS = 4
PATCH = 4  # Swin: pixels on the side of one token
DROP_PATH = 0.1  # Swin's published stochastic depth; the small members of the zoo set their own


def declare_torchvision_operators() -> None:
    """Make `import torchvision` (which timm does) work where torchvision's compiled operators do not load.

    The wheel of torchvision on the public index is linked against CUDA's torch; beside a CPU-only torch its library
    does not load, and the import dies where it registers the shapes of `nms` and `qnms`, operators that nobody
    declared. They are declared here, without an implementation: nothing in this project calls them. Does nothing where
    the library loads.
    """
    if (
        hasattr(torch.ops.torchvision, "nms")
        or not (spec := importlib.util.find_spec("torchvision"))
        or not spec.origin
    ):
        return
    libraries = (Path(spec.origin).parent / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES)
    if (library := next(filter(Path.exists, libraries), None)) is not None:
        with contextlib.suppress(OSError):
            torch.ops.load_library(library)
            return
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def import_timm() -> ModuleType:
    """timm, imported late (seconds) and after torchvision has been made importable.

    On the CPU, whatever device the caller builds on: torch 2.8 cannot import its compiler where that is "meta".
    """
    declare_torchvision_operators()
    with torch.device("cpu"):
        import timm

    return timm


class Swin(nn.Module):
    """Swin Transformer with a LayerNorm on each of its four outputs; any image size.

    timm's refuses a height that is not a multiple of the patch; here the image is padded with zeros at the bottom and
    the right, as mmsegmentation's patch embedding does, so level sizes are those of every other family.
    """

    def __init__(self, row: Backbone) -> None:
        super().__init__()
        options = {"drop_path_rate": DROP_PATH} | row.options
        self.net = import_timm().create_model(
            row.timm, pretrained=False, num_classes=0, strict_img_size=False, always_partition=True, **options
        )
        self.net.norm = nn.Identity()  # the classifier's; its parameters would never get a gradient
        self.channels = tuple(info["num_chs"] for info in self.net.feature_info)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in self.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, C_k, h_k, w_k]."""
        height, width = image.shape[-2:]
        if height % PATCH or width % PATCH:
            image = F.pad(image, (0, -width % PATCH, 0, -height % PATCH))
        x = self.net.patch_embed(image)
        maps = []
        for stage, norm in zip(self.net.layers, self.norms, strict=True):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
        return maps


class Pyramid(nn.Module):
    """The outputs of the four stages of a network of timm's (ResNet as it is); any image size.

    Args:
        row: of `zoo.BACKBONES`.
        options: further ones of `timm.create_model`.
    """

    def __init__(self, row: Backbone, **options: Any) -> None:
        super().__init__()
        self.net = import_timm().create_model(
            row.timm,
            pretrained=False,
            features_only=True,
            out_indices=tuple(range(1, LEVELS + 1)),
            **options,
            **row.options,
        )
        self.channels = tuple(self.net.feature_info.channels())

    def forward(self, image: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> four maps [B, C_k, h_k, w_k]."""
        return self.net(image)


class HRNet(Pyramid):
    """HRNet: the four branches after the last fusion; any image size.

    Its published head of dense prediction reads the branches themselves (18, 36, 72, 144 channels for HRNet18), not
    timm's widened ones.
    """

    def __init__(self, row: Backbone) -> None:
        super().__init__(row, feature_location="")
        for stage in (self.net.stage2, self.net.stage3, self.net.stage4):
            for index, module in enumerate(stage):
                stage[index] = ExchangeUnit(module)


class ExchangeUnit(nn.Module):
    """HRNet's parallel branches and their fusion, with coarse maps resized to the size that they join.

    timm's own fusion enlarges by fixed factors, which fails on odd sizes (2 x 54 rows do not fit onto 107). Where the
    factors are exact, both compute the same. Parameter names stay timm's.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.branches: nn.ModuleList = module.branches
        self.fuse_layers: nn.ModuleList = module.fuse_layers
        self.fuse_act: nn.Module = module.fuse_act
        for row in module.fuse_layers:
            for column, path in enumerate(row):
                if isinstance(path, nn.Sequential) and isinstance(path[-1], nn.Upsample):
                    row[column] = path[:-1]

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of all branches, finest first -> the same, each mixed with all."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for own, paths in zip(maps, self.fuse_layers, strict=True):
            size = own.shape[-2:]
            terms = [self._fit(path(x), size) for path, x in zip(cast(nn.ModuleList, paths), maps, strict=True)]
            fused.append(self.fuse_act(sum(terms[1:], start=terms[0])))
        return fused

    @staticmethod
    def _fit(x: Tensor, size: torch.Size) -> Tensor:
        return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="nearest")


FAMILIES: dict[str, Callable[[Backbone], nn.Module]] = {"swin": Swin, "hrnet": HRNet, "resnet": Pyramid}


def build_backbone(name: str, *, pretrained: str = "none") -> nn.Module:
    """The backbone of that row of `zoo.BACKBONES`.

    Initialisation draws from torch's global random state: equal seeds give equal weights, bit for bit.

    Args:
        name: row of `zoo.BACKBONES`.
        pretrained: "none", "imagenet" (timm's weights; downloaded, or from timm's cache) or a local weight file.

    Returns:
        Module, [B, 3, H, W] -> four maps [B, C_k, ceil(H / 4 / 2^k), ceil(W / 4 / 2^k)]; `.channels` holds C_k.

    Raises:
        ValueError: unknown name; weights that cannot be had or that match nothing.
    """
    if name not in BACKBONES:
        raise ValueError(f"backbone {name!r} is not one of {', '.join(BACKBONES)}")
    row = BACKBONES[name]
    backbone = FAMILIES[row.family](row)
    if pretrained != "none":
        from kdam_ray.models import weights

        tensors = weights.imagenet(name, import_timm()) if pretrained == "imagenet" else weights.read(Path(pretrained))
        weights.load(backbone, tensors, source=pretrained)
    return backbone

"""What can be built, as plain tables: backbones and decoders.

Plain data (no torch), so that a Run with a misspelt backbone is refused before anything heavy is imported; how a row
becomes a network is the business of `models/`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Backbone:
    """One row per backbone.

    Attributes:
        family: how the four feature maps are taken out of timm's network.
        timm: name in timm.
        hidden: channels of each task's 3x3 convolution in the multi-task baseline head, and of what is built on it.
        options: timm constructor arguments that make the network small; empty for the published sizes.
        dim: channels of a token in the decoders that attend (DeMT, MQTransformer, MTFormer; InvPT takes twice as many).
    """

    family: Literal["swin", "hrnet", "resnet"]
    timm: str
    hidden: int
    options: dict[str, Any] = field(default_factory=dict)
    dim: int = 256


def _swin(width: int, depths: tuple[int, ...]) -> dict[str, Any]:
    # windows that divide the maps of 48x64 pixels (12x16, 6x8, 3x4, 2x2); no stochastic depth in so few blocks
    windows = ((4, 4), (3, 4), (3, 4), (2, 2))
    return {
        "embed_dim": width,
        "depths": depths,
        "num_heads": (1, 2, 4, 8),
        "window_size": windows,
        "drop_path_rate": 0.0,
    }


def _resnet(width: int, layers: tuple[int, ...]) -> dict[str, Any]:
    return {"channels": tuple(width * 2**i for i in range(4)), "layers": layers}


BACKBONES: dict[str, Backbone] = {
    "hrnet18": Backbone("hrnet", "hrnet_w18_small_v2", hidden=67),
    "swin_t": Backbone("swin", "swin_tiny_patch4_window7_224", hidden=96),
    "swin_s": Backbone("swin", "swin_small_patch4_window7_224", hidden=96),
    "swin_b": Backbone("swin", "swin_base_patch4_window7_224", hidden=128),
    "swin_l": Backbone("swin", "swin_large_patch4_window7_224", hidden=192),
    # small members of the same families, for CPUs: w = channels of the first stage
    "swin_w12": Backbone("swin", "swin_tiny_patch4_window7_224", hidden=12, options=_swin(12, (1, 1, 1, 1)), dim=16),
    "swin_w16": Backbone("swin", "swin_tiny_patch4_window7_224", hidden=16, options=_swin(16, (1, 1, 2, 1)), dim=16),
    "swin_w32": Backbone("swin", "swin_tiny_patch4_window7_224", hidden=32, options=_swin(32, (2, 2, 2, 2)), dim=32),
    "resnet_w8": Backbone("resnet", "resnet18", hidden=8, options=_resnet(8, (1, 1, 1, 1)), dim=16),
    "resnet_w12": Backbone("resnet", "resnet18", hidden=24, options=_resnet(12, (1, 1, 1, 1)), dim=24),
    "resnet_w16": Backbone("resnet", "resnet18", hidden=32, options=_resnet(16, (1, 1, 1, 1)), dim=32),
    "resnet_w32": Backbone("resnet", "resnet18", hidden=32, options=_resnet(32, (2, 2, 2, 2)), dim=32),
}

DECODERS: tuple[str, ...] = (
    "mt_baseline", "cross_stitch", "nddr_cnn", "pad_net", "pap", "psd", "mti_net", "atrc", "context_search", "mtformer",
    "mqtransformer", "demt", "invpt",
)  # fmt: skip

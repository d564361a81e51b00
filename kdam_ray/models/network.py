"""A network: one backbone, one decoder; and the teacher, a network that never learns."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdam_ray.config import Run
from kdam_ray.contexts import Contexts
from kdam_ray.models.backbones import build_backbone
from kdam_ray.models.decoders import DECODERS, ContextSearch
from kdam_ray.tasks import DATASETS, Task
from kdam_ray.zoo import BACKBONES


class Network(nn.Module):
    """Image to logits per task.

    Args:
        backbone: image -> four feature maps.
        decoder: four feature maps -> logits per task.
    """

    def __init__(self, backbone: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits at a quarter of the image's resolution.

        Args:
            image: [B, 3, H, W], any H and W, normalised by ImageNet's mean and deviation.

        Returns:
            {Task.name: [B, task's channels, ceil(H/4), ceil(W/4)]}, fp32 outside autocast; while training also the
            decoder's auxiliary outputs, under keys with a slash (`models.decoders`).
        """
        return self.decoder(self.backbone(image.contiguous(memory_format=torch.channels_last)))

    def at(self, progress: float) -> None:
        """Tell a decoder that anneals how far training is.

        Args:
            progress: share of the steps done, in [0, 1).
        """
        if isinstance(self.decoder, ContextSearch):
            self.decoder.at(progress)


class Teacher(nn.Module):
    """A frozen network: in eval mode for good, no gradients, the same parameters and buffers for ever (law 6).

    `train()` is overridden, so neither a training loop nor DDP can switch its batch norm back to learning.

    Args:
        network: taken over, not copied; its parameters stop requiring gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in eval mode, whatever is asked."""
        return super().train(False)

    @torch.no_grad()  # not inference_mode: its tensors could not be saved for the student's backward
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits as `Network.forward` gives them, without gradients."""
        return self.network(image)


def build_network(
    backbone: str,
    decoder: str,
    tasks: Sequence[Task],
    *,
    image_size: tuple[int, int],
    pretrained: str = "none",
    contexts: Contexts | None = None,
) -> Network:
    """The network of those names.

    Initialisation draws from torch's global random state: equal seeds give equal weights, bit for bit.

    Args:
        backbone: row of `zoo.BACKBONES`.
        decoder: name in `zoo.DECODERS`.
        tasks: outputs, in order; at least one.
        image_size: (height, width) that it will mostly see, pixels; today's backbones and decoders take any.
        pretrained: of the backbone: "none", "imagenet" or a local weight file.
        contexts: of the decoder "atrc": which context each task takes from each other; None: as published.

    Raises:
        ValueError: an unknown name, no task, contexts that do not fit decoder or tasks, or weights that cannot be had
            or match nothing.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder {decoder!r} is not one of {', '.join(DECODERS)}")
    if not tasks:
        raise ValueError("tasks is empty: a network needs at least one output")
    if contexts is not None and decoder != "atrc":
        raise ValueError(f"contexts: only the decoder 'atrc' takes them, not {decoder!r}")
    features = build_backbone(backbone, pretrained=pretrained)
    options = {} if contexts is None else {"contexts": contexts}
    return Network(features, DECODERS[decoder](features.channels, tasks, BACKBONES[backbone], **options))


def network_of(run: Run, *, pretrained: str = "none") -> Network:
    """The network that a run trains; `pretrained` as in `build_network`, for the run may name a file by its hash."""
    dataset = DATASETS[run.dataset]
    tasks = [dataset.task(name) for name in run.tasks]
    return build_network(
        run.student, run.decoder, tasks, image_size=run.image_size, pretrained=pretrained, contexts=run.contexts
    )

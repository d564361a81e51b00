"""A network as an ONNX graph that takes images as they are decoded, checked against torch before anybody gets it.

The graph takes RGB values from 0 to 255, normalises them itself, and gives logits at the image's own resolution. It is made by
`torch.export`. The older exporter, which traces, gives wrong numbers for Swin at torch 2.13 without a word; that is also why
no graph is kept unless onnxruntime's outputs equal torch's.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kdam_ray.models.local  # noqa: F401  its operators are named below
from kdam_ray.data.transforms import MEAN, STD
from kdam_ray.models.heads import resize

TOLERANCE = 1e-4  # of an output's largest magnitude; float32 in another order differs by 1e-6, a wrong graph by 1e-1 and more
RANDOM_IMAGES = 3


class Deployed(nn.Module):
    """Image as it is decoded -> logits at its resolution.

    Parameters are held flat, by names with underscores: the exporter writes module paths out as Python, where a module called
    `global` (a type of context) is a syntax error.

    Args:
        network: as `models.Network`, on the CPU and in eval mode; its parameters are shared, not copied.
        tasks: names, in the order of the outputs.
        size: (height, width) of the image.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, tasks: Sequence[str], size: tuple[int, int]) -> None:
        super().__init__()
        self.tasks, self.size = tuple(tasks), tuple(size)
        self.hidden = [network]  # in a list, so that it is no submodule
        self.flat = {name: f"network_{name.replace('.', '_')}" for name in network.state_dict()}
        for name, tensor in network.state_dict().items():
            self.register_buffer(self.flat[name], tensor)
        for name, values in (("mean", MEAN), ("deviation", STD)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1) * 255)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """[B, 3, H, W] RGB, 0 .. 255 -> per task [B, task's channels, H, W]."""
        state = {name: getattr(self, flat) for name, flat in self.flat.items()}
        logits = torch.func.functional_call(self.hidden[0], state, ((image - self.mean) / self.deviation,))
        return tuple(resize(logits[name], self.size) for name in self.tasks)


def write_graph(deployed: Deployed, path: Path, decoder: str) -> bool:
    """Writes the ONNX graph. Returns whether it takes any number of images at once; some decoders' graphs take one.

    Raises:
        ValueError: it cannot be exported; names the decoder and the exporter's reason.
    """
    reasons = []
    for dynamic in (True, False):
        try:
            with _quiet():
                _export(deployed, path, dynamic)
            return dynamic
        except Exception as error:  # torch.export's errors have no common type but this one
            reasons.append(f"{type(error).__name__}: {_reason(error)}")
    raise ValueError(f"decoder: {decoder} cannot be exported to ONNX: {reasons[-1]}")


def check_graph(deployed: Deployed, path: Path, *, images: Mapping[str, np.ndarray], dynamic: bool) -> dict[str, float]:
    """Runs the graph with onnxruntime on random and on real images.

    Args:
        deployed: what it was made of.
        path: of the graph.
        images: by name, [H, W, 3] uint8.
        dynamic: it takes several images at once.

    Returns:
        The largest difference of each output, relative to its largest magnitude.

    Raises:
        ValueError: an output differs by more than TOLERANCE, or is not finite; names task and image.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    noise = torch.rand(RANDOM_IMAGES, 3, *deployed.size, generator=torch.Generator().manual_seed(0)) * 255
    batches = {"random images": noise} if dynamic else {f"random image {i}": one[None] for i, one in enumerate(noise)}
    batches |= {name: torch.from_numpy(np.moveaxis(array, -1, 0)[None].astype(np.float32)) for name, array in images.items()}
    worst = dict.fromkeys(deployed.tasks, 0.0)
    for name, batch in batches.items():
        with torch.inference_mode():
            wanted = deployed(batch)
        for task, want, got in zip(deployed.tasks, wanted, session.run(None, {"image": batch.numpy()}), strict=True):
            difference = float(np.abs(got - want.numpy()).max() / max(float(want.abs().max()), 1e-12))
            if not difference <= TOLERANCE:  # so a NaN is refused too
                problem = f"ONNX differs from torch by {difference:.1e} of the largest output, more than {TOLERANCE}"
                raise ValueError(f"{task}: {problem}, on {name}")
            worst[task] = max(worst[task], difference)
    return worst


def _export(deployed: Deployed, path: Path, dynamic: bool) -> None:
    example = torch.zeros(2 if dynamic else 1, 3, *deployed.size)
    shapes = {"image": {0: torch.export.Dim("batch", min=1)}} if dynamic else None
    with torch.no_grad():
        program = torch.export.export(deployed, (example,), dynamic_shapes=shapes).run_decompositions(LOCAL)
        torch.onnx.export(
            program, f=path, dynamo=True, input_names=["image"], output_names=list(deployed.tasks), verbose=False, external_data=False
        )


def _similarity(query: Tensor, key: Tensor, size: int) -> Tensor:
    return (query[:, :, None] * _neighbours(key, size)).sum(1)


def _aggregate(weights: Tensor, value: Tensor, size: int) -> Tensor:
    return (weights[:, None] * _neighbours(value, size)).sum(2)


def _neighbours(x: Tensor, size: int) -> Tensor:
    """[B, C, h, w] -> [B, C, k^2, h, w], what lies at each offset of the window; 0 outside the image."""
    height, width = x.shape[-2:]
    rows, columns = (torch.arange(size, device=x.device)[:, None] + torch.arange(side, device=x.device) for side in (height, width))
    picked = F.pad(x, (size // 2,) * 4).index_select(2, rows.flatten()).index_select(3, columns.flatten())
    return picked.unflatten(2, (size, height)).unflatten(4, (size, width)).transpose(3, 4).flatten(2, 3)


# `models.local`'s operators, of which backward alone needs the third, in few functions that ONNX has, nothing written in place
LOCAL: dict[Any, Callable] = {
    torch.ops.kdam_ray.local_similarity.default: _similarity,
    torch.ops.kdam_ray.local_aggregate.default: _aggregate,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress, which it prints and logs whatever it is asked."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _reason(error: BaseException) -> str:
    """The first line of the error behind the exporter's own, which only tells how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

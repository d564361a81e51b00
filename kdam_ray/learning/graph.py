"""A network as an ONNX graph that takes images as they are decoded, checked against torch before anybody gets it.

The graph takes RGB values from 0 to 255, normalises them itself, and gives logits at the image's own resolution. It is
made by `torch.export`. The older exporter, which traces, gives wrong numbers for Swin at torch 2.13 without a word;
that is also why no graph is kept unless onnxruntime's outputs equal torch's.
"""

import contextlib
import copy
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

TOLERANCE = (
    1e-4  # of an output's largest magnitude; float32 in another order differs by 1e-6, a wrong graph by 1e-1 and more
)
RANDOM_IMAGES = 3
FEW, ROUNDINGS = (
    0.01,
    10,
)  # share of an output that may differ by more; by so many times torch's own largest error, see `check_graph`
LARGEST = 2**31 - 2**24  # bytes of weights: one ONNX file holds 2 GiB, and the graph itself needs some


class Deployed(nn.Module):
    """Image as it is decoded -> logits at its resolution.

    Parameters are held flat, by names with underscores: the exporter writes module paths out as Python, where a module
    called `global` (a type of context) is a syntax error.

    Args:
        network: as `models.Network`, on the CPU and in eval mode; its parameters are shared, not copied.
        tasks: names, in the order of the outputs.
        size: (height, width) of the image.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, tasks: Sequence[str], size: tuple[int, int]) -> None:
        super().__init__()
        self.tasks, self.size = tuple(tasks), (size[0], size[1])
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


def write_graph(deployed: Deployed, path: Path, decoder: str, facts: Mapping[str, str] | None = None) -> bool:
    """Writes the ONNX graph. Returns whether it takes any number of images at once; some decoders' graphs take one.

    Args:
        deployed: network and fixed size of the images.
        path: of the graph.
        decoder: for messages.
        facts: that the file says of itself (its metadata).

    Raises:
        ValueError: it cannot be exported; names the decoder and the exporter's reason, or the size of a network for
            which one file is too small.
    """
    count = sum(buffer.numel() * buffer.element_size() for buffer in deployed.buffers())
    if count > LARGEST:
        raise ValueError(
            f"decoder: {decoder}'s network has {count / 2**30:.1f} GiB of weights, and one ONNX file holds 2; "
            "take a smaller backbone"
        )
    reasons = []
    for dynamic in (True, False):
        try:
            with _quiet():
                _export(deployed, path, dynamic, facts or {})
            return dynamic
        except Exception as error:  # torch.export's errors have no common type but this one
            reasons.append(f"{type(error).__name__}: {_reason(error)}")
    raise ValueError(f"decoder: {decoder} cannot be exported to ONNX: {reasons[-1]}")


def check_graph(
    deployed: Deployed, path: Path, *, images: Mapping[str, np.ndarray], dynamic: bool
) -> dict[str, dict[str, float]]:
    """Runs the graph with onnxruntime on random and on real images.

    An output must lie within TOLERANCE of torch's. Some networks decide between near-equals (the windows' softmax of
    PSD before it is trained): there torch's own float32 is far from float64 at a few pixels, and no other order of sums
    can be nearer. So single pixels may differ by as much as that, if all but few lie within TOLERANCE; a wrong graph
    differs nearly everywhere.

    Args:
        deployed: what it was made of.
        path: of the graph.
        images: by name, [H, W, 3] uint8.
        dynamic: it takes several images at once.

    Returns:
        "largest_difference" of each output, relative to its largest magnitude; and "torch_rounding", the same between
        torch's float32 and float64, of those outputs for which TOLERANCE was not kept.

    Raises:
        ValueError: an output differs by more, or is not finite; names task and image.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    noise = torch.rand(RANDOM_IMAGES, 3, *deployed.size, generator=torch.Generator().manual_seed(0)) * 255
    batches = {"random images": noise} if dynamic else {f"random image {i}": one[None] for i, one in enumerate(noise)}
    batches |= {
        name: torch.from_numpy(np.moveaxis(array, -1, 0)[None].astype(np.float32)) for name, array in images.items()
    }
    worst, rounding = dict.fromkeys(deployed.tasks, 0.0), dict[str, float]()
    for name, batch in batches.items():
        with torch.inference_mode():
            wanted = dict(zip(deployed.tasks, (x.numpy() for x in deployed(batch)), strict=True))
        found = dict(zip(deployed.tasks, session.run(None, {"image": batch.numpy()}), strict=True))
        differences = {task: _difference(found[task], wanted[task]) for task in wanted}
        largest = {task: float(difference.max()) for task, difference in differences.items()}
        exact = {} if all(x <= TOLERANCE for x in largest.values()) else _in_float64(deployed, batch)
        for task in deployed.tasks:
            if not largest[task] <= TOLERANCE:  # so a NaN is refused too
                rounding[task] = max(
                    rounding.get(task, 0.0), _own_rounding(differences[task], wanted[task], exact.get(task), task, name)
                )
            worst[task] = max(worst[task], largest[task])
    return {"largest_difference": worst} | ({"torch_rounding": rounding} if rounding else {})


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference of each element, relative to the other's largest magnitude."""
    return np.abs(one - other) / max(float(np.abs(other).max()), 1e-12)


def _own_rounding(difference: np.ndarray, wanted: np.ndarray, exact: np.ndarray | None, task: str, image: str) -> float:
    """How far torch's float32 itself is from float64 at most, where that accounts for the difference.

    Raises:
        ValueError: it does not.
    """
    own = 0.0 if exact is None else float(_difference(wanted, exact).max())
    few = float((~(difference <= TOLERANCE)).mean()) <= FEW
    if not (few and difference.max() <= ROUNDINGS * own):
        problem = f"ONNX differs from torch by {difference.max():.1e} of the largest output, more than {TOLERANCE}"
        raise ValueError(f"{task}: {problem}, on {image}; torch's own rounding is {own:.1e}")
    return own


def _in_float64(deployed: Deployed, batch: Tensor) -> dict[str, np.ndarray]:
    """The outputs in twice the precision, one image at a time; {} for networks that cannot."""
    double = copy.deepcopy(deployed.hidden[0]).double()
    exact = Deployed(double, deployed.tasks, deployed.size).double()
    try:
        with torch.inference_mode():
            rows = [exact(one[None].double()) for one in batch]
    except RuntimeError:  # of operators that know float32 only
        return {}
    return {task: torch.cat(parts).numpy() for task, parts in zip(deployed.tasks, zip(*rows, strict=True), strict=True)}


def _export(deployed: Deployed, path: Path, dynamic: bool, facts: Mapping[str, str]) -> None:
    example = torch.zeros(2 if dynamic else 1, 3, *deployed.size)
    shapes = {"image": {0: torch.export.Dim("batch", min=1)}} if dynamic else None
    with torch.no_grad():
        program = torch.export.export(deployed, (example,), dynamic_shapes=shapes).run_decompositions(LOCAL)
        made = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=list(deployed.tasks), verbose=False
        )
    if made is None:
        raise RuntimeError("the exporter made no graph")
    made.model.metadata_props.update(facts)
    made.save(path, external_data=False)


def _similarity(query: Tensor, key: Tensor, size: int) -> Tensor:
    return (query[:, :, None] * _neighbours(key, size)).sum(1)


def _aggregate(weights: Tensor, value: Tensor, size: int) -> Tensor:
    return (weights[:, None] * _neighbours(value, size)).sum(2)


def _neighbours(x: Tensor, size: int) -> Tensor:
    """[B, C, h, w] -> [B, C, k^2, h, w], what lies at each offset of the window; 0 outside the image."""
    height, width = x.shape[-2:]
    rows, columns = (
        torch.arange(size, device=x.device)[:, None] + torch.arange(side, device=x.device) for side in (height, width)
    )
    picked = F.pad(x, (size // 2,) * 4).index_select(2, rows.flatten()).index_select(3, columns.flatten())
    return picked.unflatten(2, (size, height)).unflatten(4, (size, width)).transpose(3, 4).flatten(2, 3)


# `models.local`'s operators, of which backward alone needs the third, in few functions that ONNX has, nothing written
# in place
LOCAL: dict[Any, Callable] = {
    torch.ops.kdam_ray.local_similarity.default: _similarity,
    torch.ops.kdam_ray.local_aggregate.default: _aggregate,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's progress, which it prints and logs whatever it is asked."""
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

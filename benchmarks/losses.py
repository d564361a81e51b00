"""What the distillation losses cost at the size of NYUD-v2: 8 images, 40 classes, 107 x 140 (a quarter of 425 x 560).

    OMP_NUM_THREADS=1 python benchmarks/losses.py

Forward and backward of each loss as the library has it (logits stay [B, C, h, w]), and as it is usually written:
permute to pixels x channels, then reduce either axis. Both in this process, in turn, so that a slow moment of the
machine hits both. Prints a Markdown table of milliseconds, median and minimum. The usual form knows no mask; training
always has one.
"""

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from kdam_ray.losses import dist, kdam, plain_kd

SHAPE = (8, 40, 107, 140)


def rows(z: Tensor) -> Tensor:
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def rows_kdam(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = rows(student).softmax(1), rows(teacher).softmax(1)

    def mean_divergence(dim: int) -> Tensor:
        return -((p * q).sum(dim) / ((p * p).sum(dim) * (q * q).sum(dim)).sqrt()).log().mean()

    return mean_divergence(1) + mean_divergence(0)


def rows_dist(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = rows(student).softmax(1), rows(teacher).softmax(1)

    def mean_distance(dim: int) -> Tensor:
        a, b = p - p.mean(dim, keepdim=True), q - q.mean(dim, keepdim=True)
        return (1 - (a * b).sum(dim) / (a.norm(dim=dim) * b.norm(dim=dim) + 1e-8)).mean()

    return mean_distance(1) + mean_distance(0)


def rows_plain_kd(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = rows(student / 3).log_softmax(1), rows(teacher / 3).log_softmax(1)
    return 9 * (q.exp() * (q - p)).sum(1).mean()


def candidates(student: Tensor, teacher: Tensor, mask: Tensor) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """Loss -> form -> a call that returns the scalar."""

    def both(loss: Callable[..., tuple[Tensor, Tensor]], mask: Tensor | None) -> Tensor:
        inter, intra = loss(student, teacher, temperature=1.0, reading="channels", mask=mask)
        return inter + intra

    def plain(mask: Tensor | None) -> Tensor:
        return plain_kd(student, teacher, temperature=3.0, reading="channels", mask=mask)

    return {
        "kdam": {
            "rows": lambda: rows_kdam(student, teacher),
            "library": lambda: both(kdam, None),
            "library, masked": lambda: both(kdam, mask),
        },
        "dist": {
            "rows": lambda: rows_dist(student, teacher),
            "library": lambda: both(dist, None),
            "library, masked": lambda: both(dist, mask),
        },
        "plain_kd": {
            "rows": lambda: rows_plain_kd(student, teacher),
            "library": lambda: plain(None),
            "library, masked": lambda: plain(mask),
        },
    }


def timed(call: Callable[[], Tensor], student: Tensor) -> tuple[float, Tensor, Tensor]:
    """Milliseconds, loss, gradient."""
    student.grad = None
    start = time.perf_counter()
    loss = call()
    loss.backward()
    assert student.grad is not None
    return 1000 * (time.perf_counter() - start), loss.detach(), student.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(SHAPE, generator=generator).mul(2) for _ in range(2))
    student.requires_grad_()
    mask = torch.rand(SHAPE[0], 1, *SHAPE[2:], generator=generator) > 0.2

    forms = candidates(student, teacher, mask)
    times: dict[tuple[str, str], list[float]] = {}
    for repeat in range(arguments.repeats + 2):  # two rounds of warm-up
        for name, calls in forms.items():
            for form, call in calls.items():
                milliseconds, _, _ = timed(call, student)
                if repeat >= 2:
                    times.setdefault((name, form), []).append(milliseconds)

    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(f"{datetime.date.today()}, {machine}, torch {torch.__version__}, {arguments.threads} thread(s), ", end="")
    print(f"float32 {list(SHAPE)}, {arguments.repeats} repeats\n")
    print("| loss | form | median ms | minimum ms | loss value | largest gradient difference to rows |")
    print("|---|---|---|---|---|---|")
    for (name, form), values in times.items():
        _, loss, gradient = timed(forms[name][form], student)
        _, _, expected = timed(forms[name]["rows"], student)
        difference = (
            "" if "masked" in form else f"{((gradient - expected).abs().max() / expected.abs().max()).item():.0e}"
        )
        both = f"{statistics.median(values):.0f} | {min(values):.0f}"
        print(f"| {name} | {form} | {both} | {loss.item():.6f} | {difference} |")


if __name__ == "__main__":
    main()

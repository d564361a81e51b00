"""A member of a cohort: one run's network, optimiser and random state."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdam_ray.config import Run
from kdam_ray.learning import checkpoint
from kdam_ray.learning.evaluate import autocast
from kdam_ray.learning.objective import Shared, objective
from kdam_ray.learning.optimiser import build_optimisers, learning_rate
from kdam_ray.models import network_of
from kdam_ray.ranks import rank, world_size


class Member:
    """One run inside a cohort.

    Attributes:
        run: what it is.
        network: the student, without wrappers.
        epoch: passes completed.
        active: still takes part; False once failed or pruned.
        failure: why it failed, or None.
    """

    def __init__(
        self, run: Run, *, device: torch.device | str, checkpoint: Path | None = None, weights: Path | None = None
    ):
        """Initialise from `run.seed`, or go on from a checkpoint of the same run.

        Raises:
            ValueError: the checkpoint is damaged or belongs to another run.
        """
        self.run = run
        self.device = torch.device(device)
        self.epoch = 0
        self.active = True
        self.failure: str | None = None
        if checkpoint is None and run.pretrained.startswith("sha256:") and weights is None:
            raise ValueError(f"weights: the file of {run.pretrained} is not given")
        pretrained = "none" if checkpoint else str(weights or run.pretrained)
        self._random_state = _states_from(_derived_seed(run.seed, 0, 0), self.device)
        with self._own_randomness():
            network = network_of(run, pretrained=pretrained)
        if world_size() > 1 and self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.network = network.to(self.device).train()
        self.log_variances = (
            {name: nn.Parameter(torch.zeros((), device=self.device)) for name in run.tasks}
            if run.task_weights == "uncertainty"
            else None
        )
        named = [*self.network.named_parameters(), *(self.log_variances or {}).items()]
        self.optimisers = build_optimisers(run.optim, named)
        self._parameters = [parameter for _, parameter in named]
        if checkpoint is not None:
            self._resume(checkpoint)
        self._forward: nn.Module = self.network if world_size() == 1 else _distributed(self.network, self.device)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    @property
    def wants_more(self) -> bool:
        return self.active and self.epoch < self.run.epochs

    def begin_epoch(self, epoch: int) -> None:
        """Reset the sums; set the random state, which at an epoch's start is a function of (seed, epoch, rank) alone.

        That is why no checkpoint stores it: a resumed run draws what the uninterrupted one would have drawn.
        """
        self._sums, self._steps = {}, 0
        self._random_state = _states_from(_derived_seed(self.run.seed, epoch, rank()), self.device)

    def step(self, shared: Shared) -> None:
        """One optimiser step on one batch."""
        done = self.epoch * self.run.steps_per_epoch + self._steps
        steps = self.run.epochs * self.run.steps_per_epoch
        self.network.at(done / steps)
        for group in self.optimisers["optimiser"].param_groups:
            group["lr"] = learning_rate(self.run.optim, done, steps) * group.get("factor", 1.0)
        with self._own_randomness():
            with autocast(self.device, self.run.precision):
                logits = self._forward(shared.image)
            loss, terms = objective(self.run, logits, shared, self.log_variances)
            loss.backward()
        if self.run.optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.run.optim.clip_norm)
        for optimiser in self.optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        for name, value in terms.items():
            self._sums[name] = self._sums[name].add_(value) if name in self._sums else value.double()
        self._steps += 1

    def fail_if_diverged(self) -> None:
        """Leave the cohort if a loss of this epoch was NaN or infinite (equal on every rank, for the losses are)."""
        if self.active and self._sums and not torch.isfinite(self._sums["loss"]):
            self.fail(f"the training loss became {self._sums['loss'].item()}")

    def fail(self, reason: str) -> None:
        """Leave the cohort for good."""
        self.active, self.failure = False, reason

    def end_epoch(self, epoch: int) -> None:
        """Count the epoch; before anything is evaluated or saved, batch-norm statistics become the mean over ranks."""
        self.epoch = epoch
        if world_size() > 1:
            for buffer in self.network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= world_size()

    def train_metrics(self) -> dict[str, float]:
        """Means over the epoch's steps: {"train/loss": ..., "train/semseg/kd_inter": ...}."""
        return {f"train/{name}": (value / self._steps).item() for name, value in self._sums.items()}

    def save(self, folder: Path, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint of the member as it stands; one rank does it."""
        state: dict = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        if self.log_variances is not None:
            state["log_variances"] = {name: value.detach().cpu() for name, value in self.log_variances.items()}
        manifest = {
            "run": self.run.model_dump(mode="json"),
            "run_id": self.run.run_id,
            "epoch": epoch,
            "metrics": dict(metrics),
        }
        checkpoint.write(folder, weights=self.network.state_dict(), state=state, manifest=manifest)

    def _resume(self, folder: Path) -> None:
        weights, state, manifest = checkpoint.read(folder)
        if manifest["run_id"] != self.run.run_id:
            raise ValueError(f"{folder}: is a checkpoint of run {manifest['run_id']}, not of {self.run.run_id}")
        self.network.load_state_dict(weights)
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
        if self.log_variances is not None:
            with torch.no_grad():
                for name, value in self.log_variances.items():
                    value.copy_(state["log_variances"][name])
        self.epoch = manifest["epoch"]

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Inside, torch's generators are this member's; outside, they are as they were."""
        outside = _read_states(self.device)
        _write_states(self._random_state, self.device)
        try:
            yield
        finally:
            self._random_state = _read_states(self.device)
            _write_states(outside, self.device)


def _distributed(network: nn.Module, device: torch.device) -> nn.Module:
    """DDP without its per-step buffer broadcast: `end_epoch` averages the statistics instead."""
    return DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
    )


def _derived_seed(seed: int, epoch: int, of_rank: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{of_rank}".encode()).digest()[:7])


def _states_from(seed: int, device: torch.device) -> tuple[Tensor, ...]:
    states = (torch.Generator().manual_seed(seed).get_state(),)
    return states if device.type != "cuda" else (*states, torch.Generator(device).manual_seed(seed).get_state())


def _read_states(device: torch.device) -> tuple[Tensor, ...]:
    cpu = (torch.get_rng_state(),)
    return cpu if device.type != "cuda" else (*cpu, torch.cuda.get_rng_state(device))


def _write_states(states: tuple[Tensor, ...], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)

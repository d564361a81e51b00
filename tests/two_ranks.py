"""Two gloo processes that wait for functions to run: the pool behind the `two_ranks` fixture."""

import multiprocessing
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

SECONDS = 60  # an exchange that the other rank never joins ends as an error, not as a hanging suite


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(rank: int, port: int, pipe) -> None:
    """In the child: joins the group, then answers (function, args) with (True, result) or (False, traceback)."""
    torch.set_num_threads(1)
    timeout = timedelta(seconds=SECONDS)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2, timeout=timeout)
    while (job := pipe.recv()) is not None:
        function, args = job
        try:
            pipe.send((True, function(*args)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()


class TwoRanks:
    """Calls a module-level function on both ranks; arguments and results go through pickle, so keep them plain or
    numpy.
    """

    def __init__(self) -> None:
        context, port = multiprocessing.get_context("spawn"), free_port()
        self.pipes, self.processes = [], []
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(rank, port, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(self, function: Callable, *args: Any) -> list[Any]:
        """[result of rank 0, result of rank 1]."""
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            assert pipe.poll(2 * SECONDS), f"rank {rank} does not answer"
            answers.append(pipe.recv())
        for rank, (worked, answer) in enumerate(answers):
            assert worked, f"rank {rank}: {answer}"
        return [answer for _, answer in answers]

    def close(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(None)
            process.join(10)
            process.kill()

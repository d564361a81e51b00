"""MLflow's pages over what was recorded, until Ctrl-C.

    kdam ui                                  # http://127.0.0.1:5000, over the folder runs/
    kdam ui --storage my-runs --port 5001

Of a tracking server (MLFLOW_TRACKING_URI) it says the address and ends.
"""

import os
import socket
import sys
from typing import Annotated

from pydantic import Field

from kdam_ray.command import bad_input_exits, flags, print_line, require
from kdam_ray.config import Frozen, Place

SERVER = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # no jobs are run there

BACKEND = "MLFLOW_BACKEND_STORE_URI"


class Flags(Frozen):
    """What is shown, and where.

    Attributes:
        storage: folder that the runs were given.
        tracking_uri: MLflow's store; left out: MLFLOW_TRACKING_URI, else sqlite in `storage`.
        host: address that is listened on; others than this machine's see what is recorded, without a password.
        port: 1 to 65535.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 5000


def main() -> int:
    asked = flags(Flags, __doc__)
    with bad_input_exits():
        require("service")

        from kdam_ray.service.records.tracking import Tracking
        from kdam_ray.service.records.ui_pages import IN_TRAINING

        tracking = Tracking(Place(storage=asked.storage, tracking_uri=asked.tracking_uri))
        if tracking.uri.startswith("http"):
            print_line(f"what is recorded there is shown at {tracking.shown}")
            return 0
        if tracking.empty:
            raise ValueError(f"storage: {tracking.shown} is not there; begin with `kdam sweep-beta-temp --smoke`")
        check_free(asked.host, asked.port)
    address = f"http://{asked.host}:{asked.port}/#/experiments?{IN_TRAINING}"
    print(f"MLflow over {tracking.shown}: {address} (Ctrl-C ends it)", file=sys.stderr)
    command = [sys.executable, "-m", "mlflow", "server", "--host", asked.host, "--port", str(asked.port)]
    if tracking.artifacts is not None:
        command += ["--artifacts-destination", str(tracking.artifacts)]
    # the address may hold a password, which a command line would show; the server takes this process's place
    os.execve(sys.executable, [*command, "--workers", "1"], os.environ | SERVER | {BACKEND: tracking.uri})


def check_free(host: str, port: int) -> None:
    """Refuse an address that something listens on already, or that is not this machine's.

    Raises:
        ValueError: says which.
    """
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ValueError(f"port: {host}:{port} cannot be listened on ({error.strerror}); give another --port") from None

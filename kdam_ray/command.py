"""What every job's command line has in common: flags from a pydantic model, exit codes, one JSON document on stdout.

Exit codes: 0 done, 1 some run failed, 2 bad input (one line on stderr, before Ray starts).
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from kdam_ray.config import explain

Flags = TypeVar("Flags", bound=BaseModel)


def flags(model: type[Flags], description: str | None) -> Flags:
    """The command line as `model`; its nested models' fields are flags without prefix.

    Exits with 0 after --help, with 2 and one line after a flag that does not exist or a value it does not take.
    """
    errors = io.StringIO()
    options = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(model, description=description, config=options)
    except ValidationError as error:
        refuse(explain(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        refuse(_one_line(errors.getvalue()))


def _one_line(box: str) -> str:
    """The message inside tyro's box, which ends at its first rule."""
    lines = [re.sub(r"^│ ?| ?│$", "", line).strip() for line in box.splitlines() if line.startswith("│")]
    end = next((i for i, line in enumerate(lines) if set(line) == {"─"}), len(lines))
    hints = [line for line in lines[end + 1 :] if line.startswith("--")]
    message = " ".join(lines[:end]) or " ".join(box.split())
    return f"{message}; perhaps {hints[0].split()[0]}; --help lists all" if hints and "Unrecognized" in message else message


def refuse(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def bad_input_exits():
    """A ValueError in here is the user's: exit code 2 and its one line."""
    try:
        yield
    except ValidationError as error:
        refuse(explain(error))
    except ValueError as error:
        refuse(str(error))


@contextlib.contextmanager
def output(as_json: bool):
    """Yields say(text, document): prints the text, or with `as_json` the document as the only thing on stdout.

    With `as_json` file descriptor 1 itself points to stderr meanwhile, because Ray and its workers print to it.
    """
    if not as_json:
        yield _say_text
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    documents: list[Any] = []
    try:
        yield lambda text, document: documents.append(document)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
    for document in documents:
        print(json.dumps(document, indent=2, allow_nan=False))


def _say_text(text: str, document: Any) -> None:
    del document
    print(text, flush=True)


Say = Callable[[str, Any], None]

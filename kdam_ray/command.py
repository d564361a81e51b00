"""What every job's command line has in common: flags from a pydantic model, exit codes, one JSON document on stdout.

Exit codes: 0 done, 1 some run failed, 2 bad input (one line on stderr, before Ray starts), 130 interrupted from the
keyboard.
"""

import contextlib
import importlib.util
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from pydantic import BaseModel, ValidationError

from kdam_ray.config import Frozen, Place, explain

Flags = TypeVar("Flags", bound=BaseModel)
OPTIONS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
SHELLS = ("bash", "zsh", "fish")
# what each extra of the package brings, by the modules that are imported
EXTRAS = {
    "service": ("ray", "optuna", "mlflow", "boto3"),
    "report": ("matplotlib", "sklearn", "jinja2"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
}
Say = Callable[[str, Any], None]  # the text for people, the document for programs


class OfRecords(Frozen):
    """Flags of what reads what was recorded.

    Attributes:
        storage: folder or s3:// URI that the runs were given.
        tracking_uri: MLflow; left out: MLFLOW_TRACKING_URI, else sqlite in `storage`.
        as_json: one JSON document on stdout, everything else on stderr.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False

    @property
    def place(self) -> Place:
        """Where the records are."""
        return Place(storage=self.storage, tracking_uri=self.tracking_uri)


def flags(model: type[Flags], description: str | None) -> Flags:
    """The command line as `model`; its nested models' fields are flags without prefix.

    Exits with 0 after --help, with 2 and one line after a flag that does not exist or a value it does not take.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(model, description=description, config=OPTIONS)
    except ValidationError as error:
        refuse(explain(error))
    except SystemExit as stop:
        if not stop.code:
            raise
        invalid = _refused_by_model(stop)
        refuse(explain(invalid) if invalid else _one_line(errors.getvalue()))


def completion(commands: Mapping[str, type[BaseModel]], shell: str) -> str:
    """The completion script of `kdam` with these commands, for a shell of `SHELLS`."""
    with contextlib.redirect_stdout(io.StringIO()) as script, contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            dict(commands), prog="kdam", config=OPTIONS, args=["--tyro-print-completion", shell]
        )
    return script.getvalue()


def require(*extras: str) -> None:
    """Refuse a command whose extras are not installed, before anything starts.

    Raises:
        ValueError: says what is missing and which extra brings it.
    """
    for extra in extras:
        for module in EXTRAS[extra]:
            if importlib.util.find_spec(module) is None:
                raise ValueError(_bring(module, extra))


def _bring(module: str, extra: str) -> str:
    return f"{module} is not installed; pip install 'kdam_ray[{extra}]' brings it"


def _refused_by_model(stop: BaseException) -> ValidationError | None:
    """The model's own error behind tyro's exit, if that is what stopped it."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, ValidationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _one_line(box: str) -> str:
    """The message inside tyro's box, which is drawn in Unicode or ASCII: between its title and its first rule."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    is_rule = [re.search(r"[─-]{3,}[╮╯]?$", line) is not None for line in lines]  # the title's line ends in one
    first = is_rule.index(True) + 1 if True in is_rule else 0
    end = next((i for i in range(first, len(lines)) if is_rule[i]), len(lines))
    message = " ".join(lines[first:end])
    hints = [line.split()[0] for line in lines[end:] if re.match(r"--\w", line) and "Unrecognized" in message]
    message = message.partition(" Got errors:")[0]
    return f"{message}; perhaps {hints[0]}; --help lists all" if hints else message


def announce(text: str) -> None:
    """First words on stderr, before what takes seconds: `20:15:02  kdam tables: reads ...`."""
    print(f"{time.strftime('%H:%M:%S')}  {Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


def refuse(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def bad_input_exits() -> Iterator[None]:
    """A ValueError in here is the user's, and so is a missing extra: exit code 2 and one line."""
    try:
        yield
    except ValidationError as error:
        refuse(explain(error))
    except ValueError as error:
        refuse(str(error))
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        refuse(_bring(module, extra))


@contextlib.contextmanager
def output(as_json: bool) -> Iterator[Say]:
    """Yields say(text, document): prints the text, or with `as_json` the document as the only thing on stdout.

    With `as_json` file descriptor 1 itself points to stderr meanwhile, because Ray and its workers print to it.
    """
    try:
        with _document_alone() if as_json else contextlib.nullcontext(lambda text, _: print_line(text)) as say:
            yield say
    except KeyboardInterrupt:
        print("interrupted: nothing recorded is lost; the same command goes on from the last epochs", file=sys.stderr)
        raise SystemExit(130) from None


@contextlib.contextmanager
def _document_alone() -> Iterator[Say]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    documents: list[Any] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda text, document: documents.append(document)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
    for document in documents:
        print_line(json.dumps(_finite(document), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity (the loss of a run that failed): null instead."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_line(text: str) -> None:
    """Text on stdout; nothing is wrong if the reader has seen enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, as in `... | head`; Python would complain again at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

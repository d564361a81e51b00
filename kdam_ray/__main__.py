"""The command `kdam`: one word for each thing that a person does. `python -m kdam_ray` is the same."""

import difflib
import importlib
import sys

from pydantic import BaseModel

from kdam_ray import __version__
from kdam_ray.command import SHELLS, completion, print_line, refuse

# group -> command -> module of kdam_ray.jobs and what it does, in the order a person needs them
COMMANDS = {
    "Sweeps of the paper's tables": {
        "sweep-beta-temp": ("sweep_beta_temp", "Table 5: beta and temperature, and a search between them"),
        "compare-systems": ("compare_systems", "Tables 1 and 3: other papers' systems, with KDAM and without"),
        "distill-decoders": ("distill_decoders", "Table 2: InvPT and DeMT, with KDAM and without"),
        "sweep-pairs": ("sweep_pairs", "Table 4: teacher-student pairs by plain KD, DIST and KDAM"),
        "ablate-terms": ("ablate_terms", "Table 6: KDAM's inter-task and intra-task terms"),
        "ablate-epochs": ("ablate_epochs", "Table 7: shorter and longer schedules"),
        "study-gain": ("study_gain", "whether a gain is the teacher's: controls, seeds, a test split"),
    },
    "What was recorded": {
        "runs": ("runs", "the sweeps with their state and best, or the members of one"),
        "show": ("show", "one run or sweep: configuration, scores by epoch, cost, what to do next"),
        "compare": ("compare", "runs side by side: what differs, and which differences are more than chance"),
        "tables": ("make_tables", "the tables again, in text, Markdown, TeX, CSV, HTML or JSON"),
        "ui": ("ui", "MLflow's pages"),
    },
    "One network": {
        "train-teacher": ("train_teacher", "a teacher alone"),
        "train-student": ("train_student", "students alone: distilled or not, any decoder, any tasks"),
        "search-contexts": ("search_contexts", "ATRC's search for contexts"),
        "predict": ("predict", "what a trained network says about any image"),
        "export": ("export", "weights, card and ONNX graph to take away"),
        "model-cost": ("model_cost", "parameters and GMACs of every system"),
    },
    "Data and predictions": {
        "prepare-data": ("prepare_data", "checks a data set and writes it as Parquet shards"),
        "score": ("score_predictions", "scores a folder of predictions of any code base"),
    },
}
OTHERS = {
    "plan": "what a command would train and what that costs: kdam plan sweep-beta-temp",
    "completion": 'for bash, zsh or fish: eval "$(kdam completion bash)"',
}
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
ASKS_FOR_HELP = ("-h", "--help", "help")


def main() -> int:
    """Runs the command that the command line names. Returns its exit code."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ASKS_FOR_HELP and rest[:1] and rest[0] in MODULES:  # `kdam help score`
        name, rest = rest[0], ["--help"]
    if name in ASKS_FOR_HELP:
        print_line(help_text())
        return 0
    if name == "--version":
        print_line(f"kdam_ray {__version__}")
        return 0
    if name == "completion":
        return print_completion(rest)
    if name == "plan":
        name, rest = planned(rest)
    if name not in MODULES:
        known = [*MODULES, *OTHERS]
        near = [other for other in known if other.startswith(name)] or difflib.get_close_matches(name, known)
        hint = f"; perhaps {', '.join(near)}" if near else ""
        refuse(f"command: there is no {name!r}{hint}; `kdam --help` lists all")
    sys.argv = [f"kdam {name}", *rest]
    return importlib.import_module(f"kdam_ray.jobs.{MODULES[name]}").main()


def help_text() -> str:
    """All commands by group, a line each."""
    width = max(map(len, [*MODULES, *OTHERS])) + 2
    lines = ["usage: kdam COMMAND [--help] ...", "", "Distil big multi-task dense-prediction networks into small ones."]
    for group, commands in COMMANDS.items():
        lines += ["", f"{group}:", *(f"  {name:<{width}}{text}" for name, (_, text) in commands.items())]
    lines += ["", "Others:", *(f"  {name:<{width}}{text}" for name, text in OTHERS.items())]
    lines += ["", "`kdam COMMAND --help` lists a command's flags. To begin with: kdam sweep-beta-temp --smoke"]
    return "\n".join(lines)


def flags_of(name: str) -> type[BaseModel]:
    """The flags of a command, as its job declares them."""
    return importlib.import_module(f"kdam_ray.jobs.{MODULES[name]}").Flags


def planned(rest: list[str]) -> tuple[str, list[str]]:
    """`kdam plan COMMAND ...` as that command with --plan."""
    if not rest or rest[0] not in MODULES or "plan" not in flags_of(rest[0]).model_fields:
        able = (name for name in MODULES if "plan" in flags_of(name).model_fields)
        refuse(f"plan: give a command that trains: {', '.join(able)}")
    return rest[0], [*rest[1:], "--plan"]


def print_completion(rest: list[str]) -> int:
    """The shell's completion script on stdout."""
    if len(rest) != 1 or rest[0] not in SHELLS:
        refuse(f"completion: give a shell: {', '.join(SHELLS)}")
    print_line(completion({name: flags_of(name) for name in MODULES}, rest[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

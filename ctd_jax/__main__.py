"""The commands of ctd_jax: landmarks from a few dozen labelled pictures.

ctd-jax COMMAND ...            the same as python -m ctd_jax COMMAND ...
ctd-jax COMMAND --help         what it does, with every flag
"""

import difflib
import runpy
import sys

from ctd_jax import converters
from ctd_jax.text_table import text_table

COMMANDS = {  # name -> module, what it does
    "train": ("main", "train, evaluate and report one configuration; again: continue"),
    "check": ("check", "a folder of data: faults, mistaken labels, pictures that are alike, on one page"),
    "review": ("reviewing", "a page in the browser: look at points, correct them, place the first ones"),
    "next": ("next_pictures", "which pictures of a folder to label next, by a run"),
    "labels": ("label_files", "label files of other programs: in as a landmark folder, and out"),
    "predict": ("predict", "landmarks or class maps of new pictures, by a run"),
    "export": ("export", "a run's network as StableHLO, ONNX or TF-Lite"),
    "compare": ("compare", "whether one run is better than another, on the same pictures"),
    "learning-curve": ("learning_curve", "the error of several methods against the number of labels"),
    "convert": ("convert", "published weights as a teacher: ctd-jax convert NAME FILE --out=teacher.safetensors"),
}


def main() -> None:
    """Runs the command that `sys.argv` names, as `python -m` runs its module; without one, lists them."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "convert":
        name, *arguments = arguments or ["--help"]
        _run(converters.module(_chosen(name, converters.CONVERTERS, "ctd-jax convert")), arguments)
    else:
        command = _chosen(name, {one: about for one, (_, about) in COMMANDS.items()}, "ctd-jax")
        _run(f"ctd_jax.{COMMANDS[command][0]}", arguments)


def _chosen(name: str, known: dict[str, str], before: str) -> str:
    """`name`, if it is one of the `known`; else this ends the program, with a list of them."""
    if name in known:
        return name
    table = "\n".join(text_table([(f"{before} {one}", about) for one, about in known.items()], "  <  <"))
    if name in ("--help", "-h", "help"):
        print(f"{__doc__.strip()}\n\n{table}")
        sys.exit(0)
    (near, *_) = difflib.get_close_matches(name, known, 1, cutoff=0.0)
    print(f"error: there is no command {name!r}; the nearest is {near}:\n{table}", file=sys.stderr)
    sys.exit(2)


def _run(module: str, arguments: list[str]) -> None:
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

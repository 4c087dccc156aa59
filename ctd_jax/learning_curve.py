"""How many labels does a method need? Trains methods with several numbers of labelled pictures, and compares them.

    python -m ctd_jax.learning_curve --configs=ft,ctd_ed,scratch --budgets=10,25,50,100,all --seeds=3 \\
        --config.data.root=DIR --config.teacher.weights=FILE --out=runs/curve

Each method is a configuration: a name in configs/, or FILE.py:variant. Every --config.KEY=VALUE holds for all of them,
but for a method whose `grid` has the KEY.

1. Choosing: what a configuration's `grid` lists is tried on val, with one number of labels (--choose_at) and a seed
   of its own; the best setting is kept. The grids must be of one size: no method is tuned more than another.
2. Comparing: every method, number of labels and seed is trained once and reads its test pictures once. A seed decides
   on initial weights, order, augmentation and on which pictures are labelled; fewer labels are a subset of more, and
   all methods get the same ones.

Interrupted, the same command continues; finished runs are not repeated. --cluster=local:4 or =tcp://HOST:PORT trains on
workers, each a run at a time (docs/devices.md); without workers, start the command side by side for some of the methods
each, with the same --out, and at last for all of them. Writes curve.png, curve.json and curve.csv (one line per run).

Checkpoints are deleted, because those of all runs would fill the disk: while choosing, of each run when it is finished;
while comparing, of all runs of a method but the one with the lowest error on val. That run can be used by the other
commands; its folder is in runs/METHOD/.
"""

import contextlib
import logging
import pathlib

from absl import flags
from ml_collections import ConfigDict

from ctd_jax import cluster, command, files, lock
from ctd_jax.config import load_config
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_CONFIGS = flags.DEFINE_list(
    "configs", None, "Methods: files, or names of those that come along, with commas between.", flag_values=_FLAGS
)
_BUDGETS = flags.DEFINE_list("budgets", ["all"], "Numbers of labelled training pictures, or all.", flag_values=_FLAGS)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each method and number of labels.", flag_values=_FLAGS)
_CHOOSE_AT = flags.DEFINE_string(
    "choose_at", None, "Labels with which settings are chosen. Default: the middle one.", flag_values=_FLAGS
)
_REFERENCE = flags.DEFINE_string(
    "reference", None, "Method the others are compared with. Default: ft, else the first.", flag_values=_FLAGS
)
_CLUSTER = flags.DEFINE_string("cluster", "", cluster.HELP, flag_values=_FLAGS)
_OUT = flags.DEFINE_string("out", "runs/learning_curve", "Folder for the results and the runs.", flag_values=_FLAGS)

OF_THE_STUDY = {  # keys that differ from run to run -> what says their values
    "seed": "--seeds=N trains with the seeds 0 to N - 1",
    "data.budget": "--budgets=N,N,... gives the numbers of labels",
    "data.budget_seed": "it is the seed of each run",
}
NOT_CHOSEN = (  # keys that a grid can't have -> why
    OF_THE_STUDY
    | {"eval.split": "settings are chosen on val"}
    | dict.fromkeys(
        ("data.root", "data.domains", "data.split", "data.train_split", "data.seed"),
        "all settings have the same pictures",
    )
)
_log = logging.getLogger("ctd_jax.learning_curve")  # also where __name__ is __main__
_overrides: list[str] = []


def main() -> None:
    for key, _, value in (override.partition("=") for override in _overrides):
        if key in OF_THE_STUDY and value != "0":
            raise UserError(f"--config.{key}: {OF_THE_STUDY[key]}; leave it out")
    methods = _methods()
    if not _BUDGETS.value:
        raise UserError("--budgets is empty; expected numbers of labelled pictures, or all")
    budgets = sorted({_budget(text) for text in _BUDGETS.value}, key=lambda b: b or float("inf"))
    choose_at = _budget(_CHOOSE_AT.value) if _CHOOSE_AT.value else budgets[len(budgets) // 2]
    reference = _REFERENCE.value or ("ft" if "ft" in methods else next(iter(methods)))
    if reference not in methods:
        raise UserError(f"--reference is {reference}; expected one of --configs: {', '.join(methods)}")
    if _SEEDS.value < 1:
        raise UserError(f"--seeds is {_SEEDS.value}; expected 1 or more")
    out = pathlib.Path(_OUT.value)
    files.expect("out", out, "")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file; give a folder for the results and the runs")
    grids = {name: tuple(config.grid) or ("",) for name, (_, config) in methods.items()}
    _check_grids(grids)

    from ctd_jax.label_study import LabelStudy

    study = LabelStudy({name: file for name, (file, _) in methods.items()}, _overrides, out)
    with contextlib.ExitStack() as stack:
        for name in methods:  # side by side, each process has its own
            stack.enter_context(lock.held(out / "runs" / name))
        study.check(grids, budgets, choose_at)
        study.workers = stack.enter_context(cluster.joined(_CLUSTER.value, out))
        print(study.compare(grids, budgets, choose_at=choose_at, seeds=_SEEDS.value, reference=reference))


def _methods() -> dict[str, tuple[str, ConfigDict]]:
    """Name -> file and configuration of each method."""
    from ctd_jax import tasks

    if not _CONFIGS.value:
        raise UserError("--configs is empty; expected names of configurations, or files")
    methods: dict[str, tuple[str, ConfigDict]] = {}
    for file in _CONFIGS.value:
        config = load_config(file, _overrides)
        if not tasks.of(config).finds_landmarks:
            raise UserError(f"--configs: {file} finds no landmarks; give configurations that do")
        if config.name in ("", "..") or pathlib.Path(config.name).name != config.name:
            raise UserError(f"--configs: {file} has name {config.name!r}; expected one that a folder can have")
        if config.name in methods:
            raise UserError(f"--configs: {file} and {methods[config.name][0]} are both named {config.name}")
        methods[config.name] = file, config
    return methods


def _budget(text: str) -> int:
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"--budgets, --choose_at: {text!r}; expected a number of pictures, or all")
    return 0 if text == "all" else int(text)


def _check_grids(grids: dict[str, tuple[str, ...]]) -> None:
    keys = {name: {change.partition("=")[0] for change in " ".join(grid).split()} for name, grid in grids.items()}
    for name, chosen in keys.items():
        for key in sorted(chosen & NOT_CHOSEN.keys()):
            raise UserError(f"the grid of {name} has {key}: {NOT_CHOSEN[key]}; leave it out")
    sizes = {name: len(grid) for name, grid in grids.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(
            "the grids of the methods are of other sizes, so that some would be tuned more than others: "
            + ", ".join(f"{name} {size}" for name, size in sizes.items())
            + "; even out `config.grid` in their files, or choose nothing: --config.grid=()"
        )
    for name, chosen in keys.items():
        for key in sorted(chosen & {override.partition("=")[0] for override in _overrides}):
            _log.warning("the grid of %s has %s, so that --config.%s does not hold for it; --config.grid=() chooses "
                         "nothing", name, key, key)  # fmt: skip


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("configs",), overrides=_overrides)

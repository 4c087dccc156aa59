"""Trains, evaluates and reports one configuration; the same command again continues, or shows the finished result.

    python -m ctd_jax.main --config=configs/ctd_ed.py
    python -m ctd_jax.main --config=configs/ctd_ed.py:paper --config.data.root=DIR --config.teacher.weights=FILE

A configuration is a file of configs/ (one for each method, and source.py, which makes a teacher; docs/configuration.md
lists them) and, after a colon, its variant: demo, the default, or paper. Every key of configs/default.py can be given
as --config.KEY=VALUE:

    --config.data.root=DIR --config.data.budget=50 --config.train.steps=1000

DIR is a folder with landmarks.csv, dataset.json and pictures; tfds:NAME in its place is a TFDS data set that is
prepared on this machine, and --config.data.tfds... say which of its features are meant (docs/data.md).

Another run's network is where a training starts from with --config.model.start=RUN, to take in further or corrected
pictures.

See first what the network will see, 16 training pictures with random augmentation (--config.augment...=, in
configs/default.py); this writes WORKDIR/augmented.html and trains nothing:

    python -m ctd_jax.main --config=configs/ctd_ed.py --show=16 --config.augment.rotation=20

On several hosts, or as several processes of one, the same command runs once in each, with --distributed and a --workdir
that all of them share. Slurm, GKE and TPU pods tell JAX who is who:

    srun python -m ctd_jax.main --config=configs/ctd_ed.py --workdir=DIR --distributed

By hand, each process is told (PORT: a free one on process 0's host):

    JAX_COORDINATOR_ADDRESS=HOST:PORT JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=0 python -m ctd_jax.main --distributed ...

Exit code: 0 done; 2 something you can mend, the message says how; 1 anything else.
"""

import pathlib

from absl import flags

from ctd_jax import command
from ctd_jax.config import load_config
from ctd_jax.errors import UserError

_FLAGS = command.new_flags()
_CONFIG = flags.DEFINE_string(
    "config",
    "",
    "Configuration, a file or the name of one that comes along, and its variant: ctd_ed, ctd_ed:paper.",
    flag_values=_FLAGS,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for the results. Default: runs/<config>-<variant>.", flag_values=_FLAGS
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes: JAX finds the cluster, or JAX_COORDINATOR_ADDRESS and others say.",
    flag_values=_FLAGS,
)
_SHOW = flags.DEFINE_integer(
    "show",
    None,
    "Writes augmented.html, a page of this many augmented training pictures, and does not train.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_overrides: list[str] = []


def main() -> None:
    config = load_config(_CONFIG.value, _overrides)
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{config.name}-{config.variant}")

    if _SHOW.value and _DISTRIBUTED.value:
        raise UserError("--show is for one process; leave --distributed out")

    from ctd_jax.training import hosts

    if _DISTRIBUTED.value:
        hosts.join()

    from ctd_jax import tasks, training_run

    if _SHOW.value:
        print(f"Training pictures: {training_run.show_augmented(config, workdir, _SHOW.value)}")
        return
    result = training_run.train_and_evaluate(config, workdir)
    if not hosts.is_first():
        return
    print(tasks.of(config).console(result, workdir))


if __name__ == "__main__":
    command.run(main, __doc__, _FLAGS, required=("config",), overrides=_overrides)

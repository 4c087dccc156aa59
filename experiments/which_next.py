"""Does it help to choose which pictures are labelled next? 10 labels, then 10 more at a time up to 50.

    python -m experiments.which_next faces_fgnet ceph_isbi2015 --folder=../shared/data --teacher=teacher.safetensors \
        --runs=runs/which_next

Each way of choosing begins with the same network, trained on 10 random pictures of a seed. It looks at the training
pictures of other people, the next 10 of these are chosen as `ctd-jax next` does, it trains on with all that are
labelled by then, with the same number of steps for every way, and so on. The ways are

    random      every picture is random
    next        what `ctd-jax next` does: expected error times distance, and a quarter of random pictures
    error       the same without the distance
    diversity   the same without the error

Val gives the radii, and chooses nothing: the last variables count. Every network reads test once. Of each split every
second picture is used. What a network found is kept in the folder of the runs, and not made again. Writes
experiments/which_next.csv (a line for each network) and .json: the error of each way, and its paired difference from
random over subjects, with these seeds.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import serialization
from ml_collections import ConfigDict

from configs import recipe
from ctd_jax import command, data, files, metrics, training_run, trust
from ctd_jax.config import config_hash
from ctd_jax.errors import UserError
from ctd_jax.metrics.repeated import Repeats
from ctd_jax.review import expected, order
from ctd_jax.tasks.landmarks import evaluate
from ctd_jax.tasks.landmarks.network import flip_order_of, look
from ctd_jax.text_table import text_table
from ctd_jax.training import step

HERE = pathlib.Path(__file__).parent
RANDOM = "random"
WAYS = (RANDOM, "next", "error", "diversity")
STEP, MOST = 10, 50  # labels
FIRST_STEPS = 160  # of training with the first labels; later "train.steps" each time
THIN = 2  # one picture in so many
SETTINGS = {
    "data.image_size": 64, "train.steps": 80, "train.batch_size": 8, "eval.batch_size": 50,
    "constraints.delta.weight": 0.0, "augment.flip": 0.5, "eval.mirror": True,
}  # fmt: skip
OF_FOLDER = {"faces_fgnet": {}, "ceph_isbi2015": {"augment.flip": 0.0, "eval.mirror": False}}


class Stage(NamedTuple):
    """A network: how its labelled pictures were chosen, how many they are, and its seed."""

    way: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.way}-{self.labels}-seed{self.seed}"


class Folder:
    """A folder of pictures, and the networks that are trained on it, which share what is compiled.

    Args:
      root: of the folder.
      teacher: a .safetensors file.
      runs: where it is kept what a network found.
    """

    def __init__(self, root: pathlib.Path, teacher: pathlib.Path, runs: pathlib.Path):
        self.name, self._runs = root.name, runs / root.name
        self._runs.mkdir(parents=True, exist_ok=True)
        config = recipe.get_config("own")
        config.update_from_flattened_dict(SETTINGS | OF_FOLDER[root.name])
        config.data.root, config.teacher.weights = str(root), str(teacher)
        self._task: Any
        self._task, self._parallel = training_run.prepare(config, runs / "tfds")
        self.config, self.pictures = self._task.config, self._task.pictures
        self._check_kept()
        self._every = self.pictures.everything
        of_split = data.splits.parts(self.pictures.split_of)
        self.pool = of_split["train"][::THIN]
        self._thin = {name: self._every.take(rows[::THIN]) for name, rows in of_split.items()}
        known = self.pictures.targets.landmarks
        self.measure_of = {
            "normalizer": known.normalizer,
            "thresholds": config.eval.threshold.to_dict(),
            "radii_mm": (),
        }
        self._look = self._parallel.compile(
            look(self._task.model, self._task.teacher.input, flip_order_of(self.config, known)), sharded=True
        )
        params = self._task.init(0)["params"]
        labels = self._task.param_labels(params)
        self._optimizer = step.optimizer(labels)
        self._step = self._parallel.compile(step.make(self._task.loss, self._optimizer, labels), sharded=False)

    def _check_kept(self) -> None:
        """Raises UserError if what is kept is of other pictures, another teacher or other settings."""
        mine = {"config": config_hash(self.config)}
        mine |= {key: self._task.meta[key] for key in ("annotations", "teacher weights")}
        path = self._runs / "made_with.json"
        kept = files.read_json(path, f"remove {self._runs}") if path.exists() else mine
        differ = [key for key in mine if kept.get(key) != mine[key]]
        if differ:
            raise UserError(f"{self._runs} has networks with other {' and '.join(differ)}; give another --runs")
        files.write_text(path, json.dumps(mine))

    def first(self, seed: int) -> np.ndarray:
        """The random labels that all ways begin with."""
        drawn = np.random.default_rng([seed, 10]).permutation(self.pool)
        return np.array(data.splits.in_turn(drawn, self._every.subjects)[:STEP])

    def train(self, stage: Stage, labelled: np.ndarray) -> Any:
        """A network's variables, as it predicts; it trains on from that of the stage before."""
        before = self._before(stage)
        variables = self._variables(before) if before else self._task.init(stage.seed)
        steps = self.config.train.steps if before else FIRST_STEPS
        state = step.TrainState(
            jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"],
            self._optimizer.init(variables["params"]), None,
        )  # fmt: skip
        train = ConfigDict(self.config.train.to_dict() | {"steps": steps})
        constants = step.constants(stage.seed, train, self._task.constants)
        state, constants = self._parallel.replicate((state, constants))
        turns = self._every.take(labelled).training_order(batch_size=self.config.train.batch_size, seed=stage.seed)
        for number in range(steps):
            batch = self._every.batch(labelled[turns[number]])
            state, _ = self._step(state, constants, self._parallel.shard(batch))
        last = self._parallel.first({"params": state.params, "batch_stats": state.batch_stats})
        files.write_bytes(self._weights(stage), serialization.to_bytes(last))
        return self._task.for_prediction(last, self._parallel)[0]

    def _before(self, stage: Stage) -> Stage | None:
        labels = stage.labels - STEP
        return Stage(stage.way if labels > STEP else RANDOM, labels, stage.seed) if labels else None

    def _weights(self, stage: Stage) -> pathlib.Path:
        return self._runs / f"{stage.name}.msgpack"

    def _variables(self, stage: Stage) -> Any:
        return serialization.from_bytes(self._task.init(stage.seed), self._weights(stage).read_bytes())

    def see(self, variables: Any, dataset: data.Dataset) -> evaluate.Looked:
        return evaluate.look_at(self._look, variables, dataset, self._parallel, self.config.eval.batch_size)

    def run(self, stage: Stage, labelled: np.ndarray, ways: Sequence[str]) -> dict[str, Any]:
        """What a network found: `labels`, the pictures that each of `ways` would label next, and what told their
        error. Its test pictures are in a table beside that."""
        path = self._runs / f"{stage.name}.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if found and set(ways) <= set(found["next"]):
            return found
        began = time.process_time()
        variables = self.train(stage, labelled)
        tests = [self.see(variables, self._thin[name]).table for name in self.pictures.splits_called("test")]
        metrics.write_predictions(self.table(stage), metrics.concatenate(tests))
        found = {"labelled": labelled.tolist()} | self._choose(stage, variables, labelled, ways)
        found["processor_seconds"] = round(time.process_time() - began, 1)
        files.write_text(path, json.dumps(found))
        return found

    def _choose(self, stage: Stage, variables: Any, labelled: np.ndarray, ways: Sequence[str]) -> dict[str, Any]:
        if not ways:
            return {"next": {}, "sign": ""}
        val = self.see(variables, self._thin["val"])
        off = np.linalg.norm(val.table.xy - val.table.true_xy, axis=-1) / val.side[:, None]
        radius = trust.Radius.fit(off, val.doubts, metrics.subject_units(val.table))
        pool = self.see(variables, self._thin["train"])
        error = expected.error(radius, pool.doubts, np.ones(off.shape[1], bool))
        sign = expected.sign_of(radius, pool.doubts)
        error = np.where(np.isfinite(error), error, 1.0)
        subjects = np.array(self._every.subjects)
        free = ~np.isin(subjects[self.pool], subjects[labelled])
        centres = np.isin(self.pool, labelled)
        seed = int(np.random.SeedSequence([stage.seed, stage.labels]).generate_state(1)[0])
        chosen = {}
        for way in ways:
            worth = error if way in ("next", "error") else np.ones(len(error))
            features = pool.features if way in ("next", "diversity") else np.empty((len(error), 0))
            found = order.order(
                worth[free], features[free], subjects[self.pool][free].tolist(), number=STEP, seed=seed,
                share=1.0 if way == RANDOM else order.SHARE, labelled=features[centres],
            )  # fmt: skip
            chosen[way] = self.pool[free][found.indices].tolist()
        return {"next": chosen, "sign": sign}

    def table(self, stage: Stage) -> pathlib.Path:
        return self._runs / f"{stage.name}.csv"

    def run_seed(self, seed: int, ways: Sequence[str], said: Any) -> dict[Stage, dict[str, Any]]:
        """All the networks of a seed."""
        start = Stage(RANDOM, STEP, seed)
        found = {start: self.run(start, self.first(seed), ways)}
        said(self, start, found[start])
        for way in ways:
            before = found[start]
            for labels in range(2 * STEP, MOST + 1, STEP):
                stage = Stage(way, labels, seed)
                labelled = np.array([*before["labelled"], *before["next"][way]])
                before = found[stage] = self.run(stage, labelled, [way] if labels < MOST else [])
                said(self, stage, before)
        return found

    def summarize(self, stages: Sequence[Stage]) -> dict[str, Any]:
        """The error of each way and number of labels, its paired difference from random, and `all`: that of all
        numbers of labels but the first."""
        tables = {stage: metrics.read_predictions(self.table(stage)) for stage in stages}
        some = metrics.summarize(tables[stages[0]], **self.measure_of)
        measure = some["ced_measure"]

        def repeats(way: str, labels: Sequence[int]) -> Repeats:
            mine = tuple(table for stage, table in tables.items() if stage.way == way and stage.labels in labels)
            return Repeats(mine, measure, **self.measure_of)

        rows = []
        for way, labels in dict.fromkeys((stage.way, stage.labels) for stage in stages):
            one = repeats(way, [labels])
            row = {"way": way, "labels": labels} | one.levels()[measure]
            if way != RANDOM:
                row["minus_random"] = one.minus(repeats(RANDOM, [labels]))[measure]
            rows.append(row)
        more = range(2 * STEP, MOST + 1, STEP)
        ways = dict.fromkeys(stage.way for stage in stages if stage.way != RANDOM)
        pooled = {way: repeats(way, more).minus(repeats(RANDOM, more))[measure] for way in ways}
        return {"measure": measure, "n_test": len(tables[stages[0]].images), "rows": rows, "all": pooled}

    def line(self, stage: Stage, found: dict[str, Any]) -> dict[str, Any]:
        result = metrics.summarize(metrics.read_predictions(self.table(stage)), **self.measure_of)
        measure = result["ced_measure"]
        return {"folder": self.name} | stage._asdict() | {"measure": measure, "error": result[measure],
                "sign": found["sign"], "processor_seconds": found["processor_seconds"]}  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """The tables for the terminal."""
    lines = []
    for folder, one in found.items():
        factor = 100 if one["measure"].startswith("nme") else 1
        rows = [("way", "labels", one["measure"], "minus random", "95 % interval")]
        for row in one["rows"]:
            cells = _cells(row.get("minus_random"), factor)
            rows.append((row["way"], str(row["labels"]), f"{factor * row['mean']:.2f}", *cells))
        rows += [(way, "all", "", *_cells(row, factor)) for way, row in one["all"].items()]
        lines += ["", folder, *text_table(rows, "<  >  >  >  >", rule=True)]
    return "\n".join(lines)


def _cells(row: dict[str, Any] | None, factor: float) -> tuple[str, str]:
    if row is None:
        return "", ""
    low, high = row["ci95"]
    return f"{factor * row['difference']:+.2f}", f"{factor * low:+.2f} to {factor * high:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(OF_FOLDER), help="folders of pictures")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="that has them")
    parser.add_argument("--teacher", type=pathlib.Path, required=True, help="a .safetensors file")
    parser.add_argument("--runs", type=pathlib.Path, required=True, help="folder for what the networks find")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "which_next.json", help="a .csv is beside it")
    args = parser.parse_args()
    args.ways = list(dict.fromkeys([RANDOM, *args.ways]))  # the others are compared with it
    folders: dict[str, Folder] = {}
    done: dict[str, list[Stage]] = {name: [] for name in args.names}
    lines: list[dict[str, Any]] = []
    total = len(args.names) * args.seeds * (1 + len(args.ways) * (MOST // STEP - 1))

    def said(folder: Folder, stage: Stage, found: dict[str, Any]) -> None:
        lines.append(folder.line(stage, found))
        files.write_csv(args.out.with_suffix(".csv"), list(lines[0]), [list(line.values()) for line in lines])
        print(f"{len(lines)} of {total}: {folder.name} {stage.name}: {lines[-1]['error']:.4f}", file=sys.stderr)

    for seed in range(args.seeds):
        for name in args.names:
            if name not in folders:
                folders[name] = Folder(args.folder / name, args.teacher, args.runs)
            done[name] += list(folders[name].run_seed(seed, args.ways, said))
        summary = {name: folder.summarize(done[name]) for name, folder in folders.items()}
        content = {"settings": SETTINGS, "of_folder": OF_FOLDER, "seeds": seed + 1, "folders": summary}
        files.write_text(args.out, json.dumps(content, indent=1) + "\n")
        print(text(summary), flush=True)


if __name__ == "__main__":
    command.run_study(main)

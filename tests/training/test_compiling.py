"""What is compiled: nothing that a run of the same shapes has compiled before."""

import jax
import pytest
import tiny
from jax.experimental.compilation_cache import compilation_cache

from configs import recipe
from ctd_jax import training_run

SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_enable_compilation_cache": True,
}


LAYERS = {"constraints__delta__layers": ("stage1",)}


@pytest.fixture
def programs(tmp_path):
    """Function of nothing: the programs that a compilation cache of its own holds by now. JAX has no others."""
    folder = tmp_path / "compiled"
    settings = SETTINGS | {"jax_compilation_cache_dir": str(folder)}
    before = {key: jax.config.values[key] for key in settings}
    for key, value in settings.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()
    jax.clear_caches()
    yield lambda: {path.name for path in folder.glob("*-cache")}
    for key, value in before.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_another_run_of_the_same_shapes_compiles_nothing(tmp_path, teacher_file, programs):
    training_run.train_and_evaluate(tiny.config(teacher_file, recipe, **LAYERS), tmp_path / "run")
    known = programs()
    assert any(name.startswith("jit_step-") for name in known)
    assert not any(name.startswith("jit_norms-") for name in known)  # eval.gradient_norms is off
    jax.clear_caches()
    changes = {
        "seed": 1, "data__seed": 1, "data__budget": 5, "train__steps": 6, "eval__every": 3,
        "train__encoder_lr": 3e-3, "train__decoder_lr": 1e-3, "constraints__delta__weight": 1e-4,
    }  # fmt: skip
    training_run.train_and_evaluate(tiny.config(teacher_file, recipe, **LAYERS, **changes), tmp_path / "another")
    assert programs() - known == set()

"""A configuration as keys and values, its hash, and the difference of two."""

from configs import ctd_ed, ft
from ctd_jax.config import config_hash, differences, flatten


def test_flatten():
    flat = flatten(ctd_ed.get_config())
    assert flat["constraints.ed.layers"] == ["encoder"]
    assert flat["seed"] == 0
    assert not any(isinstance(value, dict) for value in flat.values())


def test_hash_changes_with_what_changes_the_result():
    config = ctd_ed.get_config()
    before = config_hash(config)
    assert before == config_hash(ctd_ed.get_config())
    assert len(before) == 12
    config.parallel, config.eval.batch_size, config.data.cache_mib = "pmap", 7, 1
    assert config_hash(config) == before
    config.train.decoder_lr *= 2
    assert config_hash(config) != before
    assert config_hash(ft.get_config()) != before


def test_a_term_that_only_one_has_is_a_difference_where_it_is_on():
    old, new = ctd_ed.get_config(), ctd_ed.get_config()
    del old.constraints["kd"]
    assert differences(old, new) == differences(new, old) == {}
    new.constraints.kd.weight = 0.5
    assert differences(old, new) == {
        "constraints.kd.layers": (None, ["heatmaps"]),
        "constraints.kd.weight": (None, 0.5),
    }
    new = ctd_ed.get_config()
    new.constraints.cd.form = "l2"  # of a term that both have
    assert differences(old, new) == {"constraints.cd.form": ("kl", "l2")}

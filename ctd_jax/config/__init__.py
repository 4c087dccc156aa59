"""A configuration: how it is loaded, changed, checked, frozen and hashed, and how that of an earlier run is read.

configs/default.py owns every key. Here are the ranges of their values (`ranges.py`), and what a key meant to runs that
are older (`of_run.py`).
"""

from ctd_jax.config.keys import (
    NETWORK_KEYS,
    PATH_KEYS,
    check_unread,
    config_hash,
    content_of,
    contents_of,
    differences,
    each_path,
    expand_paths,
    flatten,
    written,
)
from ctd_jax.config.loading import check_keys, load_config
from ctd_jax.config.of_run import REMEDY, config_of_run, notes_of_run
from ctd_jax.config.ranges import POSITIVE, WEIGHT, Range, check_config, one_of

__all__ = [
    "NETWORK_KEYS",
    "PATH_KEYS",
    "POSITIVE",
    "REMEDY",
    "WEIGHT",
    "Range",
    "check_config",
    "check_keys",
    "check_unread",
    "config_hash",
    "config_of_run",
    "content_of",
    "contents_of",
    "differences",
    "each_path",
    "expand_paths",
    "flatten",
    "load_config",
    "notes_of_run",
    "one_of",
    "written",
]

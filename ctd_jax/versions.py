"""What a result was made with: the versions of the programs, and the device."""

import collections
import platform
import sys
from collections.abc import Mapping
from importlib import metadata

import ctd_jax

PACKAGES = {"jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "orbax": "orbax-checkpoint", "numpy": "numpy"}


def describe() -> dict[str, str]:
    """Name -> version of ctd_jax, Python and the packages that compute (one that isn't installed is left out); the
    platform; and, in a program that has loaded JAX, the devices of all its processes, as "4 x NVIDIA H100"."""
    found = {"ctd_jax": ctd_jax.__version__, "python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["platform"] = f"{platform.system()} {platform.machine()}"
    if "jax" in sys.modules:
        kinds = collections.Counter(device.device_kind for device in sys.modules["jax"].devices())
        found["device"] = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return found


def line(found: Mapping[str, str]) -> str:
    """What `describe` gives, in one line."""
    without_name = ("platform", "device")
    return ", ".join(value if name in without_name else f"{name} {value}" for name, value in found.items())


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Each that differs, as "jax 0.10.2, now 0.11.0"."""
    return [
        f"{name} {old.get(name, 'none')}, now {new.get(name, 'none')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]

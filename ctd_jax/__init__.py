"""Cross-task learning for anatomical landmarks, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctd_jax.notebook import LabelledPictures, train
    from ctd_jax.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["LabelledPictures", "Predictor", "train"]


def __getattr__(name: str) -> Any:
    """What people import is loaded when it is used: JAX takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'ctd_jax' has no attribute {name!r}")
    module = "predictor" if name == "Predictor" else "notebook"
    return getattr(importlib.import_module(f"ctd_jax.{module}"), name)

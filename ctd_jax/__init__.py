"""Cross-task learning for anatomical landmarks, in JAX."""

__version__ = "0.1.0"
__all__ = ["Predictor"]


def __getattr__(name: str) -> object:
    """What people import is loaded when it is used: JAX takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'ctd_jax' has no attribute {name!r}")
    from ctd_jax.predictor import Predictor

    return {"Predictor": Predictor}[name]

"""How sure is it? What a run learns about itself from pictures that it was not trained on: a radius about each landmark
that holds the true point, and a score of pictures unlike those of its training."""

from ctd_jax.trust import temperature
from ctd_jax.trust.evidence import Evidence, average, calibrated
from ctd_jax.trust.radius import Radius
from ctd_jax.trust.unlike import Unlike

__all__ = ["Evidence", "Radius", "Unlike", "average", "calibrated", "temperature"]

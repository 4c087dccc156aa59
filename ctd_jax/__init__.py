"""Cross-task learning for anatomical landmarks, in JAX."""

__version__ = "0.1.0"

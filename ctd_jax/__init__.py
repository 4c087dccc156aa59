"""Cross-task learning for anatomical landmarks, in JAX."""

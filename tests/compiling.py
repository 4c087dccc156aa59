"""XLA's flags for tests, which compile more than they compute. To be set before JAX is imported."""

import importlib.metadata

QUICK = "--xla_backend_optimization_level=0"  # halves their time
if importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11.")):  # a later one ends at a flag it doesn't know
    # A third of the time: the newer form makes a module of every fusion.
    QUICK += " --xla_cpu_use_fusion_emitters=false"

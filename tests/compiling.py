"""XLA's flags for tests, which compile more than they compute. To be set before JAX is imported."""

import importlib.metadata

QUICK = "--xla_backend_optimization_level=0"  # halves their time
# A quarter of what is left: by default every fusion is a module of its own. A later jaxlib ends at a flag it doesn't
# know, and has today's form alone.
_HAS_OLDER = importlib.metadata.version("jaxlib").startswith(("0.10.", "0.11."))
USUAL = "--xla_cpu_use_fusion_emitters=true" if _HAS_OLDER else ""
if _HAS_OLDER:
    QUICK += " --xla_cpu_use_fusion_emitters=false"

# For one program, in a process that has QUICK: the form that users have. The older one rounds sums of other lengths
# otherwise, and Adam makes a step of a gradient that is nothing but rounding.
USUAL_FUSIONS = {"xla_cpu_use_fusion_emitters": True} if _HAS_OLDER else {}

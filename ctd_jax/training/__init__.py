"""How a step runs: on which devices and hosts, with which memory, and what is kept of it."""

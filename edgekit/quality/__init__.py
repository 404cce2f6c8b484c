"""How good an artifact is beside its float model, and whether that is good enough: the gate at the end of a build."""

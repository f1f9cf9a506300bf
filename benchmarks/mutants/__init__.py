"""Mutants: inputs of one kind each, damaged on purpose; `benchmarks.faults` runs them."""

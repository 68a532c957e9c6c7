"""Engines: Program -> Timeline. `reference` is the definition of the timing semantics."""

"""Makes the example data: one module per unit, `dataset` assembles, `wording` and `topics` vary."""

"""The shared language of Wardrobe: domain values, registry, artifact store, policy.

`service/` and `training/` import this package and never each other; it imports neither torch,
vLLM, FastAPI nor PEFT (import-linter holds it to that).
"""

"""The registry's schema, step by step; run at open by `adapters.registry.database`."""

"""The domain's values: frozen and pure, one module per word of the glossary."""

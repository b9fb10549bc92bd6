"""The values everybody speaks of: frozen and pure, one module per word of the glossary."""

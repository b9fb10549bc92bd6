"""Example data for three business units and client snippets; nothing in the product imports it."""

"""OIDC: bearer tokens of an identity provider, beside keys."""

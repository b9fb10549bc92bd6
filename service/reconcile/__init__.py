"""Brings a replica to the registry's desired state: routes, loaded versions, rollouts."""

"""Adapters of the domain's ports to the network."""

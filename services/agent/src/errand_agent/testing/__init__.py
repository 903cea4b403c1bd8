"""Fakes of the ports and of the services behind, shipped like all other code."""

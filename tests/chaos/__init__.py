"""Replicas are killed while runs go on."""

"""Experiments on differential state-space models: see the README."""

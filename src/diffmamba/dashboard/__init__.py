"""Dashboards of Weights & Biases as files: the project's workspace, and a report for each table, figure and sweep.

A file of `conf/dashboards/` describes a page (`description`). The run store says which variants there are (`variants`).
`pages` makes the objects of the library wandb-workspaces of both, `sending` creates or updates them on W&B, and
`offline` says how to look at the runs without it.
"""

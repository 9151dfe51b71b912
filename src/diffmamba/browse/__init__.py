"""`diffmamba runs`: to look at the runs of a store, compare them, take them elsewhere, and remove them."""

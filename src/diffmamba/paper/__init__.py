"""The paper itself: the numbers it prints, and what can be checked of them without training."""

"""What may be concluded from counts: effects and their intervals, sequential tests, sample sizes, drift."""

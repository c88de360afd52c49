"""Who runs when: why instances wait, whose turn it is, what is taken in under pressure, and who follows whom."""

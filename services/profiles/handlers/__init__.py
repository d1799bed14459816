"""The decisions of the profiles stage, by role: router, keeper, merging, statements."""

"""What the Makefile calls: draw figures, train, measure, ship. Notebooks import `training` only."""

"""Draw the figures that are out of date, and compare what is drawn again with what is stored."""

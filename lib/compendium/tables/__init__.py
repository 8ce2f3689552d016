"""Tables of results that take minutes or hours, in `data/tables`; figures read them."""

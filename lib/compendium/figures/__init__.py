"""Draw the figures that are out of date, and compare what is drawn again with what is stored."""

import sys

# At its import, jsonschema builds a grammar of IRIs with this package, if there is one: three
# quarters of the time that papermill takes to load. No notebook's format asks for it.
sys.modules.setdefault("rfc3987_syntax", None)

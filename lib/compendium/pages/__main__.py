"""Write the generated README files: `python -m compendium.pages`."""

import sys

from atarilens.paths import ROOT
from compendium.pages import readmes

if __name__ == "__main__":
    if sys.argv[1:] == ["minutes"]:
        readmes.store_minutes()
    for page in readmes.write():
        print(f"wrote {page.relative_to(ROOT)}")

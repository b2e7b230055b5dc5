"""What ``python -m async_goc`` does.

`command` takes the arguments, and says by its exit code what came of them. `targets`
finds what they name: models, an engine, a URL. `report` writes the findings down.
"""

# pyright: reportUnusedImport=false

from .command import main

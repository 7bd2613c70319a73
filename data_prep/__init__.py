"""Raw files -> prepared datasets; one module per source in `data_prep.sources`.

    recipe = plan("goemotions", {}, data_root, accept_local=False)
    prepare(recipe, data_root, out)

Importing this package, listing and planning are light; what a source needs is imported when it is prepared.
"""

from data_prep.errors import DataError
from data_prep.planning import Recipe, plan
from data_prep.preparing import prepare
from data_prep.registry import names

__all__ = ["DataError", "Recipe", "names", "plan", "prepare"]

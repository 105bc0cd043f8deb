"""``python -m xdyna_unianimate …``, and ``python <this folder> …`` from custom_nodes, where nothing was installed."""

import importlib.util
import sys
from pathlib import Path

NAME = "xdyna_unianimate"


def _load_package_under_its_import_name() -> None:
    """Give the folder this file lies in the name ``xdyna_unianimate``, whatever the folder is called."""
    root = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        NAME, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    if not __package__:
        _load_package_under_its_import_name()
    from importlib import import_module

    sys.exit(import_module(f"{NAME}.app.cli").main())

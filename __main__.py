"""``python -m xdyna_unianimate …``, and ``python <this folder> …`` from custom_nodes, where nothing was installed."""

import importlib
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


def _run() -> int:
    """The command line's exit code, that of a shell for ctrl-C too while there is no command line yet."""
    try:
        if not __package__:
            _load_package_under_its_import_name()
        return importlib.import_module(f"{NAME}.app.cli").main()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped before anything was begun.\n")
        return 130


if __name__ == "__main__":
    sys.exit(_run())

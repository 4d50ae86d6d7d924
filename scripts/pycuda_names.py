"""Write the names that the installed pycuda offers, for the tests that check which of them the code uses.

Usage: python scripts/pycuda_names.py FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pycuda
import pycuda.driver

# Conversions to an address are part of what a class offers; the other special names are Boost.Python's own.
SPECIAL = {"__int__", "__index__"}


def members(owner: type) -> list[str]:
    """Return the public names of a class, sorted; those of Python's own base classes are left out."""
    bases = (base for base in owner.__mro__ if base.__module__ != "builtins")
    names = {name for base in bases for name in vars(base)}
    return sorted(name for name in names if name in SPECIAL or not name.startswith("_"))


def main() -> None:
    """Write one line per class, so that a difference between two versions reads well."""
    modules = {
        module.__name__: sorted(name for name in dir(module) if not name.startswith("_"))
        for module in (pycuda, pycuda.driver)
    }
    found = {name: getattr(pycuda.driver, name) for name in modules["pycuda.driver"]}
    classes = {name: members(value) for name, value in found.items() if isinstance(value, type)}
    text = (
        f'{{\n "version": {json.dumps(pycuda.VERSION_TEXT)},\n'
        f' "modules": {{\n{lines_of(modules)}\n }},\n'
        f' "classes": {{\n{lines_of(classes)}\n }}\n}}\n'
    )
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


def lines_of(table: dict[str, list[str]]) -> str:
    """Return the entries of a JSON object, one line each."""
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(names)}" for key, names in table.items())


if __name__ == "__main__":
    main()

"""Puts the compiled CPU operators into a wheel, for every instruction set of the platform that it is built on.

Only where DIFFMAMBA_WHEEL=compiled asks for it. Any other wheel is for every platform and carries the sources, which
are compiled on first use.
"""

import os
import runpy
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/diffmamba/ops/cpu")


class CompiledOperators(BuildHookInterface):
    """Hatchling's hook; see the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and names the wheel after the platform. Fails where the compiler does."""
        if os.environ.get("DIFFMAMBA_WHEEL") != "compiled" or version == "editable":
            return
        compiler = runpy.run_path(str(Path(self.root, FOLDER, "compiler.py")))
        self.place = tempfile.TemporaryDirectory(prefix="diffmamba-")
        command = compiler["compiler"]()
        for instructions in compiler["sets_of"]():
            content = compiler["compile_library"](command, instructions)
            library = Path(self.place.name, compiler["file_name"](compiler["name_of"](instructions), content))
            library.write_bytes(content)
            build_data["force_include"][str(library)] = f"diffmamba/ops/cpu/built/{library.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the temporary files."""
        if hasattr(self, "place"):
            self.place.cleanup()

"""A setting and its value as a word of a command line, in Hydra's quotes where Hydra would read another value."""

import json
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def word(name: str, value: Any) -> str:
    """`NAME=VALUE`. A text that Hydra reads as it is stays without quotes."""
    plain = f"{name}={value}"
    if isinstance(value, str) and _read(plain) == value:
        return plain
    return f"{name}={json.dumps(value, ensure_ascii=False)}"


def _read(word: str) -> Any:
    try:
        return OverridesParser.create().parse_override(word).value()
    except HydraException:
        return None

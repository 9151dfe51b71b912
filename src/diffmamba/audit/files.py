"""The audit as files: `audit.json` for programs, `audit.md` and `index.html` for people; each replaced in one step."""

import json
from pathlib import Path

from diffmamba.audit.document import Document
from diffmamba.audit.markdown import markdown
from diffmamba.audit.page import page
from diffmamba.audit.result import Result, as_dict
from diffmamba.reports.files import put


def write(result: Result, document: Document, directory: Path) -> list[Path]:
    """Writes the three files into `directory`, made if need be; returns their paths, `index.html` last."""
    contents = {
        "audit.json": json.dumps(as_dict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "audit.md": markdown(document),
        "index.html": page(document),
    }
    return put({name: text.encode() for name, text in contents.items()}, directory)

"""Sources: which files, in which order, and what is taken from them."""

import io
import json
import tokenize
from pathlib import Path

import pytest

from diffmamba.data.published import PublishedFile, WikiText103
from diffmamba.data.sources import PythonDocs, PythonSource, Source, TextFile, docs
from diffmamba.errors import SettingError

MODULE = b'''# coding: utf-8
"""Module's own.

Second line."""
x = "not a # comment"  # a comment
class A:  # of A
    """Of class A"""
    def f(self):
        r"""Of f \\d"""  # after f
        if x:
            async def g(): "Of g"
        return """not a docstring # nor a comment"""
def h(): pass
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    latin = "# -*- coding: latin-1 -*-\n# caf\u00e9\n".encode("latin-1")
    files = {"b.py": b'"""Of b."""\n', "a/z.py": b"# of z\n", "a.py": MODULE, "a/latin.py": latin}
    files["broken.py"] = b'"""Lost."""\n# lost too\ndef (:\n'
    skipped = ("test", "a/tests", "idlelib/idle_test", "site-packages", "a/__pycache__")
    files |= dict.fromkeys(("notes.txt", *(f"{folder}/skipped.py" for folder in skipped)), b"# skipped\n")
    for name, content in files.items():
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "library"


def test_docs_are_in_source_order() -> None:
    assert docs(MODULE).splitlines() == [
        *("coding: utf-8", "Module's own.", "", "Second line.", "a comment", "of A", "Of class A"),
        *("Of f \\d", "after f", "Of g"),
    ]


def text_of(source: Source) -> bytes:
    return b"".join(source.open().parts["text"]())


def test_files_are_sorted_and_tests_are_left_out(library: Path) -> None:
    files = PythonDocs(library).files()
    assert list(files) == ["a.py", "a/latin.py", "a/z.py", "b.py", "broken.py"]
    assert text_of(PythonSource(library)) == b"".join(path.read_bytes() for path in files.values())


def test_python_docs_skip_what_does_not_parse_and_read_declared_encodings(library: Path) -> None:
    prose = "-*- coding: latin-1 -*-\ncaf\u00e9\nof z\nOf b.\n"
    assert text_of(PythonDocs(library)).decode() == docs(MODULE) + prose


def test_fingerprint_follows_content_and_names(library: Path) -> None:
    source = PythonDocs(library)
    first = source.fingerprint()
    assert PythonDocs(library, name="pydoc_words").fingerprint() == first
    (library / "notes.txt").write_bytes(b"changed")
    assert source.fingerprint() == first
    (library / "b.py").rename(library / "c.py")
    renamed = source.fingerprint()
    (library / "c.py").write_bytes(b'"""Of c."""\n')
    assert len({first, renamed, source.fingerprint()}) == 3


def test_a_folder_without_python_files(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"data\.source\.root.*data\.path=FILE"):
        PythonDocs(tmp_path).fingerprint()


def test_the_real_library_agrees_with_tokenize() -> None:
    for name, path in list(PythonDocs().files().items())[::40]:
        content = path.read_bytes()
        tokens = tokenize.tokenize(io.BytesIO(content).readline)
        expected = {token.string.strip("#! \t") for token in tokens if token.type == tokenize.COMMENT}
        assert expected - {""} <= {*docs(content).splitlines()}, name


def test_text_file_streams_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the working directory."""
    path = tmp_path / "My text.v2.txt"
    path.write_bytes(bytes(range(256)) * 5000)
    monkeypatch.chdir(tmp_path)
    source = TextFile(path.name)
    assert source.name == "My-text.v2"
    assert text_of(source) == path.read_bytes()
    assert source.open().size == path.stat().st_size
    first = source.fingerprint()
    path.write_bytes(path.read_bytes()[:-1])
    assert source.fingerprint() != first


def test_choices_are_told_apart_by_class_and_arguments(library: Path) -> None:
    """Without reading anything; a published text is the same wherever its files are."""
    expected = {"train": 1, "val": 1, "test": 1, "vocabulary": 1}
    text8 = [PublishedFile("text8", "http://a", expected | {"train": train}) for train in (1, 2)]
    ours = PythonDocs(), PythonDocs(library), PythonDocs(name="pydoc_words"), PythonSource()
    different = [WikiText103(expected), *text8, *ours, TextFile("none.txt"), TextFile("other.txt")]
    assert len(set(different)) == len({json.dumps(source.describe_choice()) for source in different}) == len(different)
    assert PythonDocs(library) == PythonDocs(str(library))
    assert TextFile("none.txt").describe_choice() == {"source": "TextFile", "path": str(Path("none.txt").absolute())}
    elsewhere = WikiText103(expected, library, "copy"), PublishedFile("text8", "http://b", expected, library)
    assert [source.describe_choice() for source in elsewhere] == [source.describe_choice() for source in different[:2]]
    assert not {*elsewhere} & {*different}

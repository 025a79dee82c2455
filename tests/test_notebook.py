"""The notebook is run cell by cell, without Jupyter, and must say what is kept in it."""

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_says_again_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict[str, object] = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)  # noqa: S102 - our own
        kept = "".join(text for output in cell["outputs"] for text in output["text"])
        assert said.getvalue() == kept, f"cell {number}"
        assert cell["execution_count"] == number
    assert len(cells) > 3


def test_there_is_a_notebook_from_history_to_a_promoted_model_without_a_machines_paths() -> None:
    assert [path.name for path in NOTEBOOKS] == ["train.ipynb"]
    text = NOTEBOOKS[0].read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert not re.search(r"/(tmp|home|root|usr)/", text)

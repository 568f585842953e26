"""The page of keys is drawn from the code."""

from itertools import chain

import pytest

from scripts.training_keys import PAGE, draw_page
from train.config_file import read_config
from train.families.videoitg.stages import STAGES


def test_the_page_is_what_the_code_says():
    drawn = PAGE.read_text("utf-8") == draw_page()
    assert drawn, "draw it anew with: python -m scripts.training_keys"


@pytest.mark.parametrize("stage", STAGES)
def test_every_default_of_the_page_may_be_written_into_a_file(tmp_path, stage):
    """All at once, as they are printed; the run is then that of a file without them."""
    place = tmp_path / "run.toml"
    required = {
        "": ['init = "init"', 'out = "out"'],
        "[data]": ['records = "r.json"', 'media_root = "."'],
        "[validation]": ['records = "v.json"', 'media_root = "."', "every_steps = 1"],
    }
    if stage != "grounding":
        del required["[validation]"]
    tables, table, names = {name: list(lines) for name, lines in required.items()}, "", set()
    for line in draw_page().splitlines():
        if line.startswith("## "):
            table = "" if line == "## At the top" else line.removeprefix("## ").strip("`")
        if not line.startswith("| `") or table not in tables | {"[optimizer]": []}:
            continue
        name, _, default, _ = (cell.strip() for cell in line.strip("|").split(" | ", 3))
        names.add(name)
        if default.startswith("`"):
            choices = [choice.strip("`") for choice in default.split(" / ")]
            value = choices[list(STAGES).index(stage) if len(choices) > 1 else 0]
            tables.setdefault(table, []).append(f"{name.strip('`')} = {value}")
    assert len(names) > 35

    def read(lines):
        place.write_text("\n".join(chain.from_iterable((name, *lines[name]) for name in lines)))
        return read_config(stage, place)

    assert read(tables) == read(required)

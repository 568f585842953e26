"""docs/training_keys.md names every key of a config, with the default that it has."""

from itertools import chain
from typing import get_type_hints

import pytest

from tests.support.reference import REPOSITORY
from train.config import ValidationConfig
from train.config_file import component_of, read_config
from train.families.videoitg.stages import STAGES

PAGE = (REPOSITORY / "docs" / "training_keys.md").read_text("utf-8")


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
    for line in PAGE.splitlines():
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

    def read(lines):
        place.write_text("\n".join(chain.from_iterable((name, *lines[name]) for name in lines)))
        return read_config(stage, place)

    config = read(tables)
    assert config == read(required)
    components = [type(config), type(config.data), type(config.optimizer)]
    components += [ValidationConfig] if stage == "grounding" else []
    hints = chain.from_iterable(get_type_hints(one).items() for one in components)
    assert names == {f"`{name}`" for name, hint in hints if component_of(hint) is None}

"""docs/settings.md names every setting, with its real default; and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from edge_mnv2.config import RunConfig, read_config
from edge_mnv2.config_words import inner_model
from edge_mnv2.settings import CameraSettings
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (\S+) \| (.+) \|$", PAGE, re.MULTILINE)


def shown(default: object) -> str:
    if default is None:
        return "-"
    return f"`{default}`" if isinstance(default, str) else str(default).lower()


def test_every_setting_is_there_once_with_its_default() -> None:
    assert [name for name, _, _ in ROWS if name not in RunConfig.model_fields] == []
    assert sorted(name for name, _, _ in ROWS) == sorted(RunConfig.model_fields)
    for name, default, _ in ROWS:
        assert default == shown(RunConfig.model_fields[name].default), name


def test_every_choice_is_there() -> None:
    properties = RunConfig.model_json_schema()["properties"]
    for name, _, meaning in ROWS:
        for option in [properties[name], *properties[name].get("anyOf", [])]:
            for choice in option.get("enum", []):
                assert str(choice) in meaning, name


def groups() -> dict[str, type[BaseModel]]:
    found = {name: inner_model(field.annotation) for name, field in RunConfig.model_fields.items()}
    return {name: model for name, model in found.items() if model not in (None, CameraSettings)}  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(groups()))
def test_settings_with_settings_in_them_have_a_page_that_names_each(name: str) -> None:
    (meaning,) = (meaning for row, _, meaning in ROWS if row == name)
    assert f"({name}.md)" in meaning
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert [inner for inner in groups()[name].model_fields if f"`{inner}`" not in page] == []


def test_its_examples_are_right(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 2
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        path.write_text(example, encoding="utf-8")
        read_config(path, {})


def test_every_setting_has_a_description_for_editors() -> None:
    schema = RunConfig.model_json_schema()
    for properties in [schema["properties"], *(part["properties"] for part in schema["$defs"].values())]:
        assert [name for name, setting in properties.items() if not setting.get("description")] == []


def test_editors_take_what_may_be_written() -> None:
    properties = RunConfig.model_json_schema()["properties"]
    for name, kinds in {
        "source": {"string", "integer"},
        "classes": {"array", "string"},
        "web": {"string", "integer"},
        "mqtt": {"string"},
    }.items():
        options = [option.get("type", []) for option in properties[name]["anyOf"]]
        found = {kind for option in options for kind in ([option] if isinstance(option, str) else option)}
        assert found - {"null"} == kinds, name


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link

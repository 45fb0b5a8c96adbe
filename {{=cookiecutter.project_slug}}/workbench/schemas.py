"""JSON schemas of the config files, so that editors complete keys and underline misspelt ones.

`python -m workbench.schemas` writes `configs/.schemas/<group>.json` from the signatures of all
classes and functions that the files of the group name. Schemas are as strict as the check of a
command: keys of a class that takes `**kwargs`, or cannot be imported, are not restricted.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .cli import one_sentence_errors
from .errors import UserError, first_line
from .files import replace_text
from .project import project
from .runs.config import plain
from .signatures import DEFINITIONS, Schema, describe

FOLDER = ".schemas"
DRAFT = "http://json-schema.org/draft-07/schema#"
# The file itself is one part with a `_target_`; the files of other groups contain named parts.
SINGLE = ("data", "model", "trainer")
NAMED = ("callbacks", "finders", "logger", "profiler")
# `name:` selects one of several classes or functions.
BY_NAME = ("optimizer", "scheduler")
OVERRIDES: Schema = {"$ref": "#/definitions/defaults"}
DEFAULTS: Schema = {
    "description": "Selections of this file, each as `override /group: choice`, or other files.",
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {
                    "anyOf": [
                        {"type": ["string", "null"]},
                        {"type": "array", "items": {"type": "string"}},
                    ]
                },
            },
        ]
    },
}
ANALYSIS: Schema = {
    "function": "A function that takes an Evaluation and returns a figure, a table or a text.",
    "tasks": "The tasks it applies to; without this key, all of them.",
    "method": "A method that the model must have.",
}


def main() -> None:
    """Write the schemas of the project in the current folder."""
    folder = project().configs / FOLDER
    folder.mkdir(exist_ok=True)
    for name, schema in build_schemas().items():
        text = json.dumps({"$schema": DRAFT, **schema}, indent=2, ensure_ascii=False) + "\n"
        path = folder / f"{name}.json"
        if not path.is_file() or path.read_text("utf-8") != text:
            replace_text(path, text)
            print(f"wrote {path.relative_to(project().root).as_posix()}")


def build_schemas() -> dict[str, Schema]:
    """The schema of each group, and of the files in `experiment` and `debug`."""
    targets = {group: _targets(group) for group in (*SINGLE, *NAMED)}
    schemas = {group: _single(targets[group]) for group in SINGLE}
    schemas |= {group: _named(group, targets[group]) for group in NAMED}
    schemas |= {group: _by_name(classes) for group, classes in _classes_by_name().items()}
    schemas["analyses"] = _analyses()
    schemas["search_space"] = _search_space()
    schemas["experiment"] = _experiment(targets)
    return dict(sorted(schemas.items()))


def _read(group: str) -> dict[str, dict[str, Any]]:
    """The content of the files of a group, by their names."""
    contents = {}
    for path in sorted((project().configs / group).glob("*.yaml")):
        content = OmegaConf.load(path)
        if isinstance(content, DictConfig):
            contents[path.stem] = plain(content, resolve=False)
    return contents


def _targets(group: str) -> dict[str, Schema]:
    """The schemas of all classes and functions that the files of a group name."""
    names = {
        str(node["_target_"])
        for content in _read(group).values()
        # An argument of a single part, such as a strategy of the trainer, is not such a part.
        for node in ([content] if group in SINGLE else content.values())
        if isinstance(node, dict) and "_target_" in node
    }
    return {name: _describe(name) for name in sorted(names)}


def _describe(target: str) -> Schema:
    """The schema of one class or function; of any keys if it cannot be imported."""
    from hydra.utils import get_object

    try:
        return describe(get_object(target))
    except Exception as error:
        print(f"any keys for {target}: {first_line(error)}", file=sys.stderr)
        return {"type": "object"}


def _names(target: str) -> Schema:
    """The values of `_target_` that mean this target.

    Without the name of the package, so that schemas are the same in all projects.
    """
    package, _, rest = target.partition(".")
    if package != project().package:
        return {"const": target}
    return {"pattern": rf"^\w+\.{rest.replace('.', chr(92) + '.')}$"}


def _key(target: str) -> str:
    """The name of a target's definition."""
    package, _, rest = target.partition(".")
    return rest if package == project().package else target


def _definitions(targets: Mapping[str, Schema]) -> dict[str, Schema]:
    """What the schemas of a group refer to: `defaults`, each target, and any part."""
    chosen = [
        {
            "if": {"properties": {"_target_": _names(target)}, "required": ["_target_"]},
            "then": {"$ref": f"#/definitions/{_key(target)}"},
        }
        for target in targets
    ]
    part = {"if": {"type": "object"}, "then": {"allOf": chosen}} if chosen else {}
    return {
        "defaults": DEFAULTS,
        **DEFINITIONS,
        "part": part,
        **{_key(target): schema for target, schema in targets.items()},
    }


def _union(targets: Mapping[str, Schema]) -> Schema:
    """The arguments of any of the targets, for files that change only some values."""
    properties: dict[str, Any] = {}
    for schema in targets.values():
        for key, value in schema.get("properties", {}).items():
            # A type may differ from class to class.
            properties.setdefault(key, _only(value, "description"))
    is_open = any(schema.get("additionalProperties", True) for schema in targets.values())
    return {
        "properties": properties,
        "patternProperties": {"^_": {}},
        "additionalProperties": is_open,
    }


def _only(schema: Schema, *keys: str) -> Schema:
    return {key: schema[key] for key in keys if key in schema}


def _single(targets: Mapping[str, Schema]) -> Schema:
    """The schema of files that are one part; without `_target_`, that of another file is kept."""
    return {
        "type": "object",
        "properties": {"defaults": OVERRIDES},
        "if": {"required": ["_target_"]},
        "then": {"$ref": "#/definitions/part"},
        "else": _with_defaults(_union(targets)),
        "definitions": _definitions(
            {target: _with_defaults(schema) for target, schema in targets.items()}
        ),
    }


def _with_defaults(schema: Schema) -> Schema:
    properties = {"defaults": OVERRIDES, **schema.get("properties", {})}
    return {**schema, "properties": properties}


def _named(group: str, targets: Mapping[str, Schema]) -> Schema:
    """The schema of files with named parts, such as `swa: {_target_: ...}`."""
    return {
        "type": "object",
        "properties": {"defaults": OVERRIDES, **_sections(group)},
        "additionalProperties": {"$ref": "#/definitions/part"},
        "definitions": _definitions(targets),
    }


def _sections(group: str) -> dict[str, Schema]:
    """A schema for each part of a group that has a name; null leaves it out."""
    sections = {}
    for content in _read(group).values():
        for name, node in content.items():
            if isinstance(node, dict) and "_target_" in node:
                sections[name] = {
                    "if": {"type": "object", "required": ["_target_"]},
                    "then": {"$ref": "#/definitions/part"},
                    "else": {
                        "anyOf": [
                            {"type": "null"},
                            {"$ref": f"#/definitions/{_key(str(node['_target_']))}"},
                        ]
                    },
                }
    return sections


def _classes_by_name() -> dict[str, dict[str, tuple[Callable[..., Any] | None, int]]]:
    """The classes or functions behind each `name`, and how many first arguments are not options."""
    from .models.optimizers import SCHEDULES, optimizers

    optimizer = {name: (called, 1) for name, called in optimizers().items()}
    scheduler = {name: (called, 2) for name, called in SCHEDULES.items()}
    return {"optimizer": dict(optimizer), "scheduler": {"constant": (None, 0), **scheduler}}


def _by_name(classes: Mapping[str, tuple[Callable[..., Any] | None, int]]) -> Schema:
    """The schema of files whose `name` selects a class or function."""
    described = {}
    for name, (called, without) in classes.items():
        found = describe(called, without) if called else {"properties": {}}
        properties = {"name": {}, "defaults": OVERRIDES, **found["properties"]}
        described[name] = {**found, "properties": properties, "additionalProperties": False}
    return {
        "type": "object",
        "properties": {"name": {"enum": list(classes)}},
        "if": {"required": ["name"]},
        "then": {
            "allOf": [
                {
                    "if": {"properties": {"name": {"const": name}}},
                    "then": {"$ref": f"#/definitions/{name}"},
                }
                for name in classes
            ]
        },
        "else": _union(described),
        "definitions": {"defaults": DEFAULTS, **DEFINITIONS, **described},
    }


def _analyses() -> Schema:
    properties = {key: {"description": text} for key, text in ANALYSIS.items()}
    return {
        "type": "object",
        "additionalProperties": {
            "type": ["object", "null"],
            "properties": properties,
            "required": ["function"],
            "additionalProperties": False,
        },
    }


def _search_space() -> Schema:
    """Options by their full names, such as `optimizer.lr`."""
    names = "|".join([*_keys(), *_groups()])
    return {
        "type": "object",
        "patternProperties": {rf"^({names})(\.|$)": {}},
        "additionalProperties": False,
    }


def _keys() -> list[str]:
    """The keys of `configs/train.yaml` without the list `defaults`."""
    return [key for key in _train() if key != "defaults"]


def _groups() -> list[str]:
    """The groups that `configs/train.yaml` chooses from, without those that are no part of it."""
    entries = [entry for entry in _train()["defaults"] if isinstance(entry, dict)]
    return [
        group
        for entry in entries
        for group in entry
        if group not in ("debug", "experiment", "search_space")
    ]


def _train() -> dict[str, Any]:
    return plain(OmegaConf.load(project().configs / "train.yaml"), resolve=False)


def _experiment(targets: Mapping[str, Mapping[str, Schema]]) -> Schema:
    """The schema of files that change any value of a run."""
    sections: dict[str, Schema] = {key: {} for key in [*_keys(), *_groups()]}
    named = {name: schema for group in NAMED for name, schema in targets[group].items()}
    sections["objective"] = {
        "description": "The metric that ranks models.",
        "properties": {key: {} for key in _train().get("objective") or {}},
        "additionalProperties": False,
    }
    for group in SINGLE:
        sections[group] = {"type": ["object", "null"], **_union(targets[group])}
    for group in NAMED:
        sections[group] = {
            "type": ["object", "null"],
            "properties": _sections(group),
            # A part with another name is a new one.
            "additionalProperties": {
                "required": ["_target_"],
                "allOf": [{"$ref": "#/definitions/part"}],
            },
        }
    for group, classes in _classes_by_name().items():
        found = {name: describe(called, n) for name, (called, n) in classes.items() if called}
        found["name"] = {"properties": {"name": {"enum": list(classes)}}}
        sections[group] = {"type": ["object", "null"], **_union(found)}
        # A name may be left out, and an open class allows any key.
        sections[group]["additionalProperties"] = False
    # Its values belong to the trainer.
    sections["profiler"] = {}
    return {
        "type": "object",
        "properties": {"defaults": OVERRIDES, **sections},
        "additionalProperties": False,
        "definitions": _definitions(named),
    }


if __name__ == "__main__":
    if sys.argv[1:]:
        with one_sentence_errors():
            raise UserError("python -m workbench.schemas takes no arguments.")
    with one_sentence_errors():
        main()

"""Tests of the house: imports go downwards only, and the map of the rooms is true."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from fine_tune.path import PROJECT

PACKAGE = PROJECT / "fine_tune"
MAP = re.findall(r"^(\w+(?:/|\.py)) +(\S.*)$", (PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
"""Rooms and their lines, from the top of the house down."""
LEVEL = {name.removesuffix("/").removesuffix(".py"): level for level, (name, _) in enumerate(reversed(MAP))}
MODULES = {
    ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
SCRIPTS = {file.stem for file in PROJECT.glob("*.py")}


def imported(file: Path) -> set[str]:
    """The modules that a file imports anywhere, functions included; of the project's own, whole names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            inside = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name if name in MODULES else str(node.module) for name in inside}
    return found


def room(module: str) -> str:
    """The room of a module, or the module itself where it stands beside the rooms."""
    return module.split(".")[1] if "." in module else ""


ARROWS = {name: {other for other in imported(file) if other in MODULES} for name, file in MODULES.items()}


def test_the_map_names_every_room_and_nothing_else():
    there = {path.name + "/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert {name for name, _ in MAP} == there and len(MAP) == len(there)


@pytest.mark.parametrize("module", [name for name in MODULES if room(name)])
def test_a_module_imports_from_rooms_below_it_only(module):
    upward = {other for other in ARROWS[module] if room(other) and LEVEL[room(other)] > LEVEL[room(module)]}
    assert not upward


def test_there_is_no_circle():
    seen, path = set(), []

    def visit(module: str) -> None:
        assert module not in path, f"a circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in seen:
            path.append(module)
            for other in ARROWS[module]:
                visit(other)
            path.pop()
            seen.add(module)

    for module in MODULES:
        visit(module)


def test_rooms_do_not_import_each_other():
    """Two rooms side by side would be one."""
    arrows = defaultdict(set)
    for module, others in ARROWS.items():
        arrows[room(module)] |= {room(other) for other in others} - {room(module), ""}
    assert not [(one, other) for one in arrows for other in arrows[one] if one in arrows[other]]


def test_no_module_imports_a_script():
    assert not {name: found for name, file in MODULES.items() if (found := imported(file) & SCRIPTS)}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_gate_only_where_gates_live(module):
    """Shared plumbing knows no method: a method brings what it wants saved, clipped and watched."""
    if room(module) == "train" or module in {"fine_tune.model.gate", "fine_tune.plot.shares", "fine_tune"}:
        return
    text = MODULES[module].read_text(encoding="utf-8")
    assert not re.findall(r"(?<![A-Za-z])gate.*|.*Gate.*", text)


def test_no_module_is_imported_for_its_side_effect():
    for module, file in MODULES.items():
        assert "noqa: F401" not in file.read_text(encoding="utf-8"), module


def test_the_readme_has_the_same_map():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for name, line in MAP:
        assert re.search(rf"^  {re.escape(name)} +{re.escape(line)}$", readme, re.MULTILINE), name


def test_flags_and_table_load_nothing_heavy():
    code = "import sys, fine_tune.train.methods; print({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


LOOPS = {
    node.name: node
    for file in (PACKAGE / "train").glob("*.py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and (node.name.startswith("train_") or node.name == "fine_tune")
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_fits_on_a_screen(name):
    """At most 60 lines and five arguments; an update, its micro-batches, and no branch inside."""
    loop = LOOPS[name]
    assert loop.end_lineno - loop.lineno < 60 and len(loop.args.args) + len(loop.args.kwonlyargs) <= 5
    assert [type(node) for node in ast.walk(loop) if isinstance(node, ast.For)] == [ast.For, ast.For]
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.If | ast.IfExp)]
    assert "to_device" not in ast.unparse(loop)


def test_every_method_has_one_of_the_loops():
    from fine_tune.train.methods import METHODS

    used = {
        name
        for script in {"glove_student/train", *(method.script for method in METHODS.values())}
        for name in LOOPS
        if name in (PROJECT / f"{script}.py").read_text(encoding="utf-8")
    }
    assert used == set(LOOPS) and len(LOOPS) == 18

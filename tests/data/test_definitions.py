"""The definitions that code passes through: what changes a digest, and what must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.definitions import Project, Reached

FILES = {
    "__init__.py": "",
    "main.py": '''
"""The entry."""
from __future__ import annotations
import logging
import math
import warnings
from typing import TYPE_CHECKING
from app import tools, shapes as forms
from app.numbers import scale, UNUSED
from app.package import exported
from app.lazy import Later
if TYPE_CHECKING:
    from app.types import Thing

LIMIT = 3
logger = logging.getLogger("app")

def run(x, thing: Thing | None = None, start=LIMIT):
    """Does it."""
    # at first
    if x < 0:
        raise ValueError(f"too small: {x}, not {LIMIT}" + " or so")
    assert x >= 0, "at least 0"
    warnings.warn("slow", stacklevel=2)
    logger.info("running %s", x)
    print("running")
    from app.hidden import secret
    value = tools.double(x) + secret(x) + start + exported(x)
    value = sum(forms.Square(side).area() for side in [value])
    return scale(value) + math.sin(x) + Later().value

def unused(x):
    return x * 100
''',
    "tools.py": """
import app.registry
FACTOR = 2
def double(x):
    return _times(x, FACTOR)
def _times(x, y):
    return x * y
def _nobody(x):
    return x - 1
""",
    "numbers.py": """
from math import sin as wave
UNUSED = 5
def scale(x):
    def inner(y):
        return wave(y) + 0.5
    return [inner(y) for y in [x]][0]
""",
    "shapes.py": """
class Shape:
    sides = 4
    def area(self):
        return 0
class Square(Shape):
    def __init__(self, side):
        self.side = side
    def area(self):
        return self.side ** 2 * self.sides
class Circle(Shape):
    pi = 3
""",
    "hidden.py": "def secret(x):\n    return x + 7\n",
    "registry.py": """
NAMES = {}
def register(name, value):
    NAMES[name] = value
def other():
    return 11
register("first", 1)
FOUND = register("second", 2)
PLAIN = dict(a=1)
""",
    "types.py": "class Thing:\n    size = 1\n",
    "package/__init__.py": "from app.package.first import exported\nfrom app.package.second import extra\n",
    "package/first.py": "def exported(x):\n    return x + 13\n",
    "package/second.py": "def extra(x):\n    return x + 17\n",
    "lazy.py": """
import importlib
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from app.later import Later
def __getattr__(name):
    return getattr(importlib.import_module("app.later"), name)
""",
    "later.py": "class Later:\n    value = 19\nclass Much:\n    value = 23\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reach(folder: Path, *entries: str) -> Reached:
    return Project({"app": folder}).reach(entries or ["app.main.run"])


@pytest.fixture
def app(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


def edited(app: Path, file: str, old: str, new: str) -> bool:
    """Does this edit change what the entry passes through?"""
    before = reach(app)
    path = app / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return reach(app).digest != before.digest


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main.py", "x < 0", "x <= 0"),
        ("main.py", "LIMIT = 3", "LIMIT = 4"),
        ("main.py", "raise ValueError", "raise KeyError"),
        ("main.py", "assert x >= 0", "assert x > 0"),
        ("main.py", "math.sin", "math.cos"),
        ("main.py", "shapes as forms", "tools as forms"),
        ("tools.py", "FACTOR = 2", "FACTOR = 3"),
        ("tools.py", "x * y", "x / y"),
        ("numbers.py", "import sin as wave", "import cos as wave"),
        ("numbers.py", "0.5", "0.25"),
        ("shapes.py", "sides = 4", "sides = 5"),
        ("shapes.py", "** 2", "** 3"),
        ("shapes.py", "return 0", "return 1"),
        ("hidden.py", "x + 7", "x + 8"),
        ("package/first.py", "13", "14"),
        ("package/__init__.py", "first import exported", "second import extra as exported"),
        ("later.py", "value = 19", "value = 20"),
        ("registry.py", '"first", 1', '"first", 2'),
        ("registry.py", '"second", 2', '"second", 3'),
        ("registry.py", "NAMES[name] = value", "NAMES[name] = value + 1"),
        ("registry.py", "PLAIN = dict(a=1)", "PLAIN = dict(a=1)\nNAMES.clear()"),
    ],
)
def test_what_may_change_a_result_is_seen(app: Path, file: str, old: str, new: str) -> None:
    assert edited(app, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("main.py", "# at first", "# at last"),
        ("main.py", '"""Does it."""', '"""Does something else."""'),
        ("main.py", "too small: {x}, not", "{x} is not as large as"),
        ("main.py", '" or so"', '" or about"'),
        ("main.py", '"at least 0"', '"not negative"'),
        ("main.py", '"slow"', '"very slow"'),
        ("main.py", '"running %s"', '"at work on %s"'),
        ("main.py", 'print("running")', 'print("at work")'),
        ("main.py", "x * 100", "x * 200"),
        ("main.py", "def unused", "def not_used"),
        ("main.py", "import scale, UNUSED", "import scale"),
        ("main.py", "value = tools.double(x)", "value = (\n        tools.double(x)\n    )"),
        ("tools.py", "_nobody", "_no_one"),
        ("numbers.py", "UNUSED = 5", "UNUSED = 6"),
        ("shapes.py", "pi = 3", "pi = 4"),
        ("types.py", "size = 1", "size = 2"),
        ("package/second.py", "17", "18"),
        ("later.py", "23", "24"),
        ("registry.py", "return 11", "return 12"),
        ("registry.py", "a=1", "a=2"),
    ],
)
def test_what_the_code_does_not_pass_through_is_not(app: Path, file: str, old: str, new: str) -> None:
    if "value = (" in new:
        new = "value = (tools.double(x)\n    )"
    assert not edited(app, file, old, new)


def test_a_moved_module_and_another_name_for_it_change_nothing(app: Path) -> None:
    before = reach(app)
    write(app, {"deep/__init__.py": "", "deep/measures.py": (app / "numbers.py").read_text()})
    write(app, {"deep/helpers.py": (app / "tools.py").read_text()})
    for name in ("numbers.py", "tools.py"):
        (app / name).unlink()
    text = (app / "main.py").read_text()
    for old, new in {
        "from app import tools, shapes as forms": "from app import shapes as figures\nfrom app.deep import helpers",
        "app.numbers import": "app.deep.measures import",
        "tools.double": "helpers.double",
        "forms.Square": "figures.Square",
    }.items():
        assert old in text
        text = text.replace(old, new)
    write(app, {"main.py": text.replace("UNUSED", "UNUSED as U")})
    after = reach(app)
    assert after.digest == before.digest
    assert "app.deep.measures.scale" in after.definitions


def test_a_function_that_takes_the_place_of_one_like_it_is_seen(app: Path) -> None:
    """Both are reached before and after, and each looks as it did; what differs is who calls which."""
    same = "def go(x):\n    return part(x)\n"
    write(
        app,
        {"one.py": "def part(x):\n    return 1\n" + same, "two.py": "def part(x):\n    return 2\n" + same},
    )
    write(app, {"main.py": "from app import one, two\ndef run():\n    return one.go(1) + two.go(2)\n"})
    assert edited(app, "main.py", "one.go(1) + two.go(2)", "two.go(1) + one.go(2)")


@pytest.mark.parametrize(
    "use",
    [
        "from app import tools\ndef run(n):\n    return getattr(tools, n)()\n",
        "import app.tools\ndef run(n):\n    return helper(app.tools, n)\ndef helper(m, n):\n    return m\n",
        "from app.tools import *\ndef run(n):\n    return double(n) + _nobody(n)\n",
        "from app import tools\nclass run:\n    from app.tools import _nobody\n",
        "import importlib\ndef run(n):\n    return importlib.import_module('app.tools')\n",
        "from app import tools\ndef run(n):\n    return tools.made_when_it_runs\n",
        "import app\ndef run(n):\n    return getattr(app, n)\n",
    ],
)
def test_where_it_cannot_be_told_all_of_a_module_counts(app: Path, use: str) -> None:
    write(app, {"main.py": use})
    assert edited(app, "tools.py", "x - 1", "x - 2")


@pytest.mark.parametrize(
    ("use", "all_of_it"),
    [("globals()[n]", True), ("eval(n)", True), ("eval(n, {})", False), ("n.eval()", False)],
)
def test_who_uses_the_names_of_its_module_depends_on_all_of_it(app: Path, use: str, all_of_it: bool) -> None:
    write(app, {"main.py": f"def run(n):\n    return {use}\ndef some():\n    return 1\n"})
    assert edited(app, "main.py", "return 1", "return 2") == all_of_it


@pytest.mark.parametrize(
    "changing",
    [
        "import torch\ntorch.set_default_dtype(1)\n",
        "import torch\n_ = torch.set_default_dtype(1)\n",
        "from app import registry\nregistry.NAMES['x'] = 1\n",
        "from app import registry\nregistry.NAMES.update(x=1)\n",
        "import torch\nfor _ in range(1):\n    torch.seed()\n",
        "from torch import register\n@register(1)\ndef f():\n    return 2\n",
        "class A:\n    print(1)\n",
        "def f(x=print(1)):\n    return x\n",
        "from app.registry import register\n@register\ndef f():\n    return 1\n",
        "class A(metaclass=make(1)):\n    x = 1\n",
        "from app.registry import register\ndef made():\n    register('x', 1)\nX = made()\n",
    ],
)
def test_what_a_module_does_on_import_counts_wherever_it_is_imported(app: Path, changing: str) -> None:
    write(app, {"effects.py": changing, "between.py": "import app.effects\ndef f():\n    return 0\n"})
    write(app, {"hidden.py": "from app.between import f\n" + FILES["hidden.py"]})
    assert edited(app, "effects.py", "1", "3")


def test_imports_by_name_are_told(app: Path) -> None:
    assert reach(app).imports_by_name == ()
    write(app, {"hidden.py": "import importlib\ndef secret(x):\n    return importlib.import_module(x)\n"})
    assert reach(app).imports_by_name == ("app.hidden.secret",)


def test_what_is_not_entered_is_left_out_with_what_only_it_reaches(app: Path) -> None:
    project = Project({"app": app})
    found = project.reach(["app.main.run"], enters=lambda name: name != "app.tools.double")
    assert "app.tools.double" not in found.definitions
    assert "app.tools._times" not in found.definitions
    assert "app.numbers.scale" in found.definitions


def test_scopes_are_pythons(app: Path) -> None:
    """A local name is not the module's, a global one is, and the first iterable is looked up outside."""
    text = "x = [1]\ny = [2]\nz = [3]\ndef run(z):\n    global y\n    y = z\n    return [x for x in x]\n"
    write(app, {"main.py": text})
    assert set(reach(app).definitions) == {"app.main.run", "app.main.x", "app.main.y"}


def test_an_entry_point_that_is_not_there_is_an_error(app: Path) -> None:
    with pytest.raises(KeyError):
        reach(app, "elsewhere.run")


def test_a_users_module_is_followed_to_what_lies_beside_it(app: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write(
        mine,
        {
            "loss.py": "import beside\nfrom app.tools import double\ndef f(x):\n    return beside.g(double(x))\n"
        },
    )
    write(mine, {"beside.py": "def g(x):\n    return x + 1\n"})

    def digest() -> str:
        return Project({"app": app}).with_file("outer", mine / "loss.py").reach(["outer.f"]).digest

    before = digest()
    write(mine, {"beside.py": "def g(x):\n    return x + 2\n"})
    assert digest() != before

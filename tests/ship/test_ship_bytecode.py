"""Bytecode of a runtime: made when it is unpacked, loaded by every start, and gone if somebody else wrote it."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from shipping_fakes import fake_options, make_bundle

import edge_runtime
from host_tools.ship import device_steps
from host_tools.ship.deploy import deploy, rollback, status, steps_for
from host_tools.ship.device_bytecode import compiled
from host_tools.ship.signing import trust

WRONG = "import sys; sys.stderr.write('loaded\\n')\n"


@pytest.fixture
def site(tmp_path):
    """A folder to put sources in."""
    (tmp_path / "site" / "edge_runtime").mkdir(parents=True)
    return tmp_path / "site"


def write(site, sources):
    """Sources by their path below the folder."""
    for name, text in sources.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def sources_of(made):
    """The modules that there is bytecode of."""
    return {str(Path(path).parent.parent / Path(path).name.split(".")[0]) for path in made}


def test_a_start_loads_bytecode_alone(site):
    shutil.rmtree(site / "edge_runtime")
    package = Path(next(iter(edge_runtime.__path__)))
    shutil.copytree(package, site / "edge_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    made = compiled(str(site))
    argv = [sys.executable, "-s", "-v", "-m", "edge_runtime", "--help"]
    done = subprocess.run(argv, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True, cwd=site)
    loaded = [line for line in done.stderr.splitlines() if f"code object from '{site}/edge_runtime/" in line]
    assert len(loaded) > 5
    # The first file of a program is read as it is.
    assert [line for line in loaded if ".pyc'" not in line and "__main__.py" not in line] == []
    assert len(made) == len(list((site / "edge_runtime").rglob("*.py")))


def test_it_is_what_python_itself_would_write(site):
    path = site / "edge_runtime" / "a.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nx = 'é'\nclass A:\n    'words'\n    y = 1\n".encode("latin-1"))
    compiled(str(site))
    ours = Path(importlib.util.cache_from_source(str(path))).read_bytes()
    py_compile.compile(
        str(path), cfile=str(site / "theirs"), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP
    )
    theirs = (site / "theirs").read_bytes()
    assert ours[:16] == theirs[:16]
    assert marshal.loads(ours[16:]) == marshal.loads(theirs[16:])


def test_what_is_imported_is_compiled_and_nothing_else_and_nothing_is_run(site):
    sources = {
        "edge_runtime/__init__.py": "",
        "edge_runtime/run.py": "def f():\n    import engine.quick\n    from wire import tools\n",
        "edge_runtime/broken.py": "def f(:\n",
        "engine/__init__.py": "try:\n    from . import part\nexcept ImportError:\n    pass\nraise SystemExit('run')\n",
        "engine/part.py": "from .deep.er import *\nif True:\n    import os.path, other\n",
        "engine/deep/__init__.py": "",
        "engine/deep/er.py": "def g():\n    import engine.slow\n",
        "engine/quick.py": "",
        "engine/slow.py": "",
        "engine/tests/test_part.py": "import engine",
        "other.py": "import missing",
        "wire/__init__.py": "def late():\n    import wire.late\n",
        "wire/tools.py": "",
        "wire/late.py": "",
    }
    write(site, sources)
    made = sources_of(compiled(str(site)))
    assert made == {
        *("edge_runtime/__init__", "edge_runtime/run"),
        *("engine/__init__", "engine/part", "engine/deep/__init__", "engine/deep/er", "engine/quick"),
        *("other", "wire/__init__", "wire/tools"),
    }


def test_bytecode_in_an_archive_is_not_taken(tmp_path):
    with zipfile.ZipFile(tmp_path / "wheel.whl", "w") as archive:
        for name in ("lib/a.py", "lib/__pycache__/a.cpython-311.pyc"):
            archive.writestr(name, "")
    assert list(device_steps.unzip(str(tmp_path / "wheel.whl"), str(tmp_path / "site"))) == ["lib/a.py"]


def files_below(folder):
    """Every file and link."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def site_of(root):
    """Of the one runtime there."""
    return next((root / "runtime").iterdir()) / "site"


def test_calling_the_runtime_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    root = tmp_path / "device"
    release = deploy(make_bundle(tmp_path / "bundle"), f"local:{root}", options=fake_options()).release
    compiled_then = {path: path.read_bytes() for path in root.rglob("*.pyc")}
    assert compiled_then
    os.utime(site_of(root) / "edge_runtime" / "__init__.py", (1, 1))  # what was compiled is of another time now
    subprocess.run([root / "bin/edge-runtime", "check", root / "releases" / release], check=True, capture_output=True)
    assert {path: path.read_bytes() for path in root.rglob("*.pyc")} == compiled_then


def foreign(site, kind):
    """Put something there that a start would load."""
    init = site / "edge_runtime" / "__init__.py"
    if kind == "replaced bytecode":
        place = next((init.parent / "__pycache__").glob("__init__.*.pyc"))
        place.write_bytes(place.read_bytes()[:16] + marshal.dumps(compile(WRONG, str(init), "exec")))
    elif kind == "a file of that name":
        (site / "sitecustomize.py").write_text(WRONG)
    else:
        (site.parent.parent.parent / "elsewhere").mkdir()
        (site.parent.parent.parent / "elsewhere" / "__init__.py").write_text(WRONG)
        (site / "sitecustomize").symlink_to(site.parent.parent.parent / "elsewhere")


KINDS = ["replaced bytecode", "a file of that name", "a linked folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_deployment_wrote_is_told_and_removed(tmp_path, kind):
    root, bundle = tmp_path / "device", make_bundle(tmp_path / "bundle")
    target = f"local:{root}"
    deploy(bundle, target, options=fake_options())
    whole = files_below(root)

    def errors():
        argv = [root / "bin/edge-runtime", "check", root / "current"]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stderr

    assert (errors(), "no deployment left" in status(target).to_text()) == ("", False)
    foreign(site_of(root), kind)
    assert errors() == "loaded\n"
    assert "no deployment left there" in status(target).to_text()
    assert "loaded" not in deploy(bundle, target, options=fake_options()).check
    assert (errors(), files_below(root) - {"elsewhere/__init__.py"}) == ("", whole)
    assert steps_for(bundle, target, options=fake_options()) == []


def test_bytecode_that_is_missing_is_made_again(tmp_path):
    root, bundle = tmp_path / "device", make_bundle(tmp_path / "bundle")
    deploy(bundle, f"local:{root}", options=fake_options())
    before = files_below(root)
    shutil.rmtree(site_of(root) / "edge_runtime" / "__pycache__")
    deploy(bundle, f"local:{root}", options=fake_options())
    assert files_below(root) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_is_rolled_back_to_loads_nothing_foreign(tmp_path, kind):
    root, target = tmp_path / "device", f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    deploy(make_bundle(tmp_path / "two", model=b"two"), target, options=fake_options())
    foreign(site_of(root), kind)
    # Only to look changes nothing.
    before = files_below(root)
    trust(target, None)
    assert files_below(root) == before
    rollback(target)
    argv = [root / "bin/edge-runtime", "check", root / "current"]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stderr == ""


def test_a_runtime_of_which_nothing_is_known_is_left_alone(tmp_path):
    root, target = tmp_path / "device", f"local:{tmp_path}/device"
    deploy(make_bundle(tmp_path / "one"), target, options=fake_options())
    deploy(make_bundle(tmp_path / "two", model=b"two"), target, options=fake_options())
    (site_of(root).parent / "runtime.json").write_text("{")
    before = files_below(root)
    rollback(target)
    assert before <= files_below(root)
    assert os.system(f"{root}/bin/edge-runtime check {root}/current >/dev/null") == 0

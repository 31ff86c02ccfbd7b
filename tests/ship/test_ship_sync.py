"""What is renamed into place is on the disk before: as the system's own trace of a deployment says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from shipping_fakes import FAKE_RUNTIME, make_bundle

CALLS = "openat,open,creat,close,write,pwrite64,fsync,fdatasync,syncfs,rename,renameat,renameat2,mkdir,mkdirat,dup"
DEPLOY = (
    "import sys; from pathlib import Path; from host_tools.ship.deploy import deploy;"
    "from host_tools.ship.options import ShipOptions; b, t, r = sys.argv[1:];"
    "deploy(Path(b), t, options=ShipOptions(runtime_package=Path(r), requirements=()))"
)
OPENED = re.compile(r'(?:openat\(AT_FDCWD, |open\(|creat\()"([^"]*)".*= (\d+)$')
RENAMED = re.compile(r'rename(?:at2?)?\((?:AT_FDCWD, )?"([^"]*)", (?:AT_FDCWD, )?"([^"]*)".*= 0$')


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Lines of what the device's side did with files of its root, over a first deployment and a second one."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    folder = tmp_path_factory.mktemp("sync")
    lines = []
    for number in range(2):
        bundle = make_bundle(folder / f"bundle{number}", model=b"weights " * (500 + number))
        argv = [strace, "-f", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(folder / "trace")]
        deploying = [sys.executable, "-c", DEPLOY, bundle, f"local:{folder}/device", FAKE_RUNTIME]
        done = subprocess.run([*argv, *deploying], capture_output=True, text=True, check=False)
        if "ptrace" in done.stderr and done.returncode:
            pytest.skip("needs to trace programs: " + done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
        lines += whole_calls((folder / "trace").read_text().splitlines())
    return str(folder / "device"), lines


def whole_calls(lines):
    """A call during which another process was traced stands in two lines; here it is one, where it ended."""
    begun, whole = {}, []
    for line in lines:
        pid, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.strip().removesuffix("<unfinished ...>").rstrip()
        elif found := re.match(r" *<\.\.\. \w+ resumed>(.*)", call):
            whole.append(f"{pid} {begun.pop(pid)}{found[1]}")
        else:
            whole.append(line)
    return whole


class Disk:
    """Follows a trace: which files and folders have changes that were not brought to the disk."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.dirty: set[str] = set()
        self.renamed: list[tuple[str, str, set[str]]] = []
        self._open: dict[tuple[str, str], str] = {}

    def follow(self, line: str) -> None:
        """One call of one process."""
        pid, _, call = line.partition(" ")
        call = call.strip()
        if found := OPENED.search(call):
            path, handle = os.path.normpath(found[1]), found[2]
            self._open[pid, handle] = path
            if "O_CREAT" in call and path.startswith(self.root):
                self.dirty |= {path, os.path.dirname(path)}
        elif found := re.match(r"close\((\d+)\)", call):
            self._open.pop((pid, found[1]), None)
        elif found := re.match(r"(?:write|pwrite64)\((\d+),", call):
            path = self._open.get((pid, found[1]), "")
            if path.startswith(self.root):
                self.dirty.add(path)
        elif found := re.match(r"f(?:data)?sync\((\d+)\) *= 0", call):
            self.dirty.discard(self._open.get((pid, found[1]), ""))
        elif re.match(r"syncfs\(\d+\) *= 0", call):
            self.dirty.clear()
        elif found := re.match(r'mkdir(?:at)?\((?:AT_FDCWD, )?"([^"]*)".*= 0', call):
            if found[1].startswith(self.root):
                self.dirty |= {found[1], os.path.dirname(found[1])}
        elif found := RENAMED.search(call):
            self._rename(*(os.path.normpath(path) for path in found.groups()))

    def _rename(self, old: str, new: str) -> None:
        if not new.startswith(self.root):
            return
        inside = {path for path in self.dirty if path == old or path.startswith(old + "/")}
        self.renamed.append((old, new, inside))
        self.dirty = {path for path in self.dirty if path not in inside} | {new + path[len(old) :] for path in inside}
        self.dirty.add(os.path.dirname(new))


def test_nothing_is_renamed_into_place_that_is_not_on_the_disk(trace):
    root, lines = trace
    disk = Disk(root)
    for line in lines:
        disk.follow(line)
    places = {os.path.relpath(new, root): inside for _, new, inside in disk.renamed}
    final = [place for place in places if not place.startswith("incoming")]
    assert {place.split("/")[0] for place in final} == {"releases", "runtime", "current", "history.json", "bin"}
    for place in final:
        assert places[place] == set(), f"{place} was renamed into place before this was on the disk"


def test_every_folder_that_something_was_renamed_into_is_brought_to_the_disk(trace):
    root, lines = trace
    disk = Disk(root)
    for line in lines:
        disk.follow(line)
    assert disk.renamed
    left = {path for path in disk.dirty if path.startswith(root) and "/incoming" not in path and "/lock" not in path}
    assert left == set()

#!/usr/bin/env python3
"""Checks that every #include points down.

    layering.py ROOT         reads the sources below ROOT; prints each violation and fails if there is one
    layering.py --self-test  shows that each kind of violation is found, and that nothing else is

A folder is a layer. A file may include its own folder and the layers below it, never a layer above or another folder
of the same layer. Some third-party headers have one place where they may be included. Tests may include anything.
"""

import re
import sys
import tempfile
from pathlib import Path

# Folder: layer. A file belongs to the longest folder that holds it.
LAYERS = {
    "agent/base": 0,
    "agent/event": 1,
    "agent/process": 1,
    "agent/http": 2,
    "agent/policy": 2,
    "healthcheck": 3,
    "snapshot": 3,
    "adapters": 3,
    "lifecycle": 4,
    "agent": 5,
}

# Start of a third-party header: the folders that may include it, and the suffixes of the files in which they may.
THIRD_PARTY = {
    "uv.h": ({"agent/event"}, {".h", ".cc"}),
    "uv/": ({"agent/event"}, {".h", ".cc"}),
    "ares": ({"agent/event"}, {".cc"}),
    "boost/": ({"agent/process"}, {".h", ".cc"}),
    "seccomp.h": ({"agent/process"}, {".h", ".cc"}),
    "llhttp.h": ({"agent/http"}, {".h", ".cc"}),
    "nettle/": ({"agent/policy"}, {".cc"}),
    "CLI/": ({"agent"}, {".cc"}),
    "nlohmann/": ({"agent/process", "snapshot", "agent"}, {".h", ".cc"}),
    "zstd": ({"snapshot"}, {".cc"}),
    "xxhash.h": ({"snapshot"}, {".cc"}),
}

SUFFIXES = {".h", ".cc", ".c", ".hpp", ".cpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(path):
    """The layer's folder that holds `path` (relative, with slashes), or None."""
    holding = [folder for folder in LAYERS if path.startswith(folder + "/")]
    return max(holding, key=len, default=None)


def judge(root, path, quoted, header):
    """What is wrong with this #include in the file `path`, or None."""
    own = folder_of(path)
    if quoted:
        if not (root / header).is_file():
            return f'"{header}" is no file of this tree (paths start at its top)'
        other = folder_of(header)
        if other is None:
            return f'"{header}" belongs to no layer'
        if other != own and LAYERS[other] >= LAYERS[own]:
            where = "beside" if LAYERS[other] == LAYERS[own] else "above"
            return f'"{header}": {other} (layer {LAYERS[other]}) stands {where} {own} (layer {LAYERS[own]})'
        return None
    if folder_of(header) is not None and (root / header).is_file():
        return f'<{header}> is ours: include it with quotes'
    for start, (folders, suffixes) in THIRD_PARTY.items():
        if header.startswith(start) and (own not in folders or Path(path).suffix not in suffixes):
            places = " and ".join(f"{folder}/*{{{','.join(sorted(suffixes))}}}" for folder in sorted(folders))
            return f"<{header}> may be included in {places} only"
    return None


def sources(root):
    for top in sorted({folder.split("/")[0] for folder in LAYERS}):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                yield path


def violations(root):
    for path in sources(root):
        relative = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            include = INCLUDE.match(line)
            if include is None:
                continue
            problem = judge(root, relative, include.group(1) == '"', include.group(2))
            if problem is not None:
                yield f"{relative}:{number}: {problem}"


def self_test():
    clean = {
        "agent/base/log.h": "#include <string>\n",
        "agent/event/loop.h": '#include <uv.h>\n#include "agent/base/log.h"\n',
        "agent/process/launcher.cc": '#include <boost/process/v2.hpp>\n#include <nlohmann/json.hpp>\n#include <seccomp.h>\n',
        "agent/http/parser.cc": '#include <llhttp.h>\n#include "agent/event/loop.h"\n#include "agent/http/parser.h"\n',
        "agent/http/parser.h": '// #include "lifecycle/phase.h"\n#include <unistd.h>\n',
        "adapters/python/host.h": '#include "adapters/adapter.h"\n',
        "adapters/adapter.h": '#include "agent/http/parser.h"\n',
        "healthcheck/probe.h": '#include "agent/process/launcher.h"\n',
        "agent/process/launcher.h": "",
        "lifecycle/phase.h": '  #  include "healthcheck/probe.h"\n',
        "agent/main.cc": '#include <CLI/CLI.hpp>\n#include "lifecycle/phase.h"\n#include "agent/base/log.h"\n',
        "agent/cli.h": "",
        "tests/unit/x.cc": '#include <uv.h>\n#include "nowhere.h"\n',
    }
    wrong = [  # file, line to add, part of the complaint
        ("agent/base/log.h", '#include "agent/event/loop.h"', "above"),
        ("agent/event/loop.h", '#include "agent/process/launcher.h"', "beside"),
        ("healthcheck/probe.h", '#include "adapters/adapter.h"', "beside"),
        ("healthcheck/probe.h", '#include "lifecycle/phase.h"', "above"),
        ("lifecycle/phase.h", '#include "agent/cli.h"', "above"),
        ("adapters/python/host.h", '#include "lifecycle/phase.h"', "above"),
        ("agent/main.cc", '#include "tests/unit/x.cc"', "no layer"),
        ("agent/main.cc", '#include "log.h"', "no file"),
        ("agent/main.cc", "#include <agent/base/log.h>", "quotes"),
        ("agent/http/parser.cc", "#include <uv.h>", "agent/event"),
        ("agent/http/parser.cc", "#include <uv/unix.h>", "agent/event"),
        ("agent/event/loop.h", "#include <ares.h>", ".cc"),
        ("agent/http/parser.cc", "#include <ares_dns.h>", "agent/event"),
        ("lifecycle/phase.h", "#include <boost/asio.hpp>", "agent/process"),
        ("agent/event/loop.h", "# include <seccomp.h>", "agent/process"),
        ("agent/main.cc", "#include <llhttp.h>", "agent/http"),
        ("agent/cli.h", "#include <CLI/App.hpp>", ".cc"),
        ("lifecycle/phase.h", "#include <CLI/App.hpp>", "agent/*"),
        ("healthcheck/probe.h", "#include <nlohmann/json.hpp>", "agent/process"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, text in clean.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        failures = [f"found in a clean tree: {found}" for found in violations(root)]
        for path, line, part in wrong:
            (root / path).write_text(clean[path] + line + "\n", encoding="utf-8")
            found = list(violations(root))
            place = f"{path}:{clean[path].count(chr(10)) + 1}: "
            if len(found) != 1 or not found[0].startswith(place) or part not in found[0]:
                failures.append(f"{path}: {line}: expected one complaint with '{part}', got {found}")
            (root / path).write_text(clean[path], encoding="utf-8")
    for failure in failures:
        print(failure)
    print(f"self-test: {len(wrong)} violations tried, {len(failures)} failures")
    return 1 if failures else 0


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    if sys.argv[1] == "--self-test":
        return self_test()
    root = Path(sys.argv[1])
    if not any(True for _ in sources(root)):
        print(f"{root}: no sources there")
        return 2
    found = list(violations(root))
    for violation in found:
        print(violation)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

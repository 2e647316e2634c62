from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "pydantic",
    "httpx",
    "typer",
    "rich",
    "jsonschema",
    "pyjson5",
    "xllamacpp",
    "syrupy",
    "platformdirs",
)
PROBE = """
import json, sys, pytest
class Probe:
    def pytest_unconfigure(self):
        names = sorted({name.split('.')[0] for name in sys.modules})
        ours = sorted(n for n in sys.modules if n.startswith('pytest_agentlimit'))
        print('MODULES=' + json.dumps([names, ours]))
sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]], plugins=[Probe()]))
"""


def modules_after(folder: Path, *args: str) -> tuple[set[str], list[str]]:
    # Plugins of other packages import what they like: only ours is loaded.
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "-p", "pytest_agentlimit.plugin", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""},
        timeout=60,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES="))
    names, ours = json.loads(line.removeprefix("MODULES="))
    return set(names), ours


def test_a_session_without_a_model_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_plain(): assert 1 + 1 == 2\n")
    names, ours = modules_after(tmp_path)
    assert not names & set(HEAVY)
    assert {name.split(".")[1] for name in ours if "." in name} <= {
        "plugin",
        "hookspecs",
        "errors",
        "units",
    }


def test_skipped_checks_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "test_check.py").write_text("def test_check(agent): agent.ask('hi')\n")
    names, _ = modules_after(tmp_path)
    assert not names & set(HEAVY)


def test_the_probe_can_see_heavy_modules(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("import pydantic\ndef test_plain(): pass\n")
    names, _ = modules_after(tmp_path)
    assert "pydantic" in names

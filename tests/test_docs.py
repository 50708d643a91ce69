"""The API reference and the pages are built without a warning, and their links lead somewhere."""

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
docs_build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs_build)
MODULES = docs_build.MODULES


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "docs/build.py", folder],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    return folder


@pytest.mark.slow
def test_every_public_name_is_described(site):
    """Modules have pages of their own."""
    for name in MODULES:
        page = (site / Path(*name.split("."))).with_suffix(".html").read_text()
        sections = set(re.findall(r'<section id="([^"]+)"', page))
        module = importlib.import_module(name)
        public = getattr(module, "__all__", ())
        named = {other for other in public if not inspect.ismodule(getattr(module, other))}
        assert named <= sections, name


@pytest.mark.slow
def test_links_of_all_pages_lead_somewhere(site):
    """Places within a page are those of the headings; of the reference they are pdoc's care."""
    pages = list(site.rglob("*.html"))
    assert {f"{name}.html" for name in ("index", "README", "CHANGELOG", "nsdbench")} <= {
        page.name for page in pages
    }
    found = 0
    for page in pages:
        text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
        for target, place in re.findall(r'(?:href|src)="([^"#:]*)(?:#([^"]*))?"', text):
            found += 1
            other = page.parent / target if target else page
            assert other.exists(), f"{page.relative_to(site)}: {target}"
            if place and "<nav>" in text:
                assert f'id="{place}"' in other.read_text(), f"{page.relative_to(site)}: #{place}"
    assert found > 100


def test_every_public_thing_has_a_docstring():
    bare = []
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public)
            if inspect.isclass(thing) or inspect.isfunction(thing) or inspect.ismodule(thing):
                bare += [] if (thing.__doc__ or "").strip() else [f"{name}.{public}"]
    assert bare == []

"""Build the API reference and the pages as HTML: python docs/build.py FOLDER.

The reference is made from the docstrings of the public modules (pdoc). README.md, CHANGELOG.md and
the pages in docs/ and results/ become pages beside it; files of the repository that they link to
are copied. A warning of any part is an error.
"""

import html
import importlib
import re
import shutil
import sys
import warnings
from pathlib import Path

import markdown2
import pdoc

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CHANGELOG.md", "results/README.md")
MODULES = (
    "nsdbench", "nsdbench.plugin", "nsdbench.data", "nsdbench.models", "nsdbench.ops",
    "nsdbench.unroll", "nsdbench.augment", "nsdbench.sets", "nsdbench.sets.parameterizations",
    "nsdbench.coresets", "nsdbench.distillation", "nsdbench.evaluation", "nsdbench.experts",
    "nsdbench.methods", "nsdbench.report", "nsdbench.errors",
)  # fmt: skip
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem 2rem; }
pre, code { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { background: #f5f5f5; padding: 0.8em; overflow-x: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #ccc; padding: 0.2em 0.6em; }
img { max-width: 100%; }
nav { border-bottom: 1px solid #ccc; padding-bottom: 0.5em; }
"""
LINK = re.compile(r'(?P<kind>href|src)="(?P<target>[^"#:]+)(?P<place>#[^"]*)?"')


def main(folder: Path) -> None:
    """Write everything below a folder; what is there is overwritten."""
    warnings.simplefilter("error")
    write_reference(folder)
    pages = [ROOT / name for name in PAGES] + sorted((ROOT / "docs").glob("*.md"))
    for page in pages:
        write_page(page, pages, folder)
    shutil.copy(folder / "README.html", folder / "index.html")


def write_reference(folder: Path) -> None:
    """Write a page a public module, by pdoc."""
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):  # they are loaded when they are asked for
            setattr(module, public, getattr(module, public))
    pdoc.render.configure(docformat="google", footer_text="nsdbench")
    exclude = [f"!{name}\\..*" for name in MODULES]
    keep = [name for name in MODULES if name != "nsdbench"]
    pdoc.pdoc("nsdbench", *exclude, *keep, output_directory=folder)


def write_page(page: Path, pages: list[Path], folder: Path) -> None:
    """Turn a page of Markdown into HTML, and copy what it shows or links to."""
    text = page.read_text(encoding="utf-8")
    extras = ["fenced-code-blocks", "tables", "header-ids", "cuddled-lists", "strike"]
    body = markdown2.markdown(text, extras=extras)
    target = folder / page.relative_to(ROOT).with_suffix(".html")
    up = "../" * len(target.relative_to(folder).parent.parts)

    def link(match: re.Match[str]) -> str:
        source = (page.parent / html.unescape(match["target"])).resolve()
        if source in pages:
            other = match["target"].removesuffix(".md")
            return f'{match["kind"]}="{other}.html{match["place"] or ""}"'
        relative = source.relative_to(ROOT)
        if source.is_dir():
            shutil.copytree(
                source, folder / relative, dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
            )  # fmt: skip
        else:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / relative)
        return match[0]

    links = [f'<a href="{up}{other.relative_to(ROOT).with_suffix(".html")}">{title(other)}</a>'
             for other in pages]  # fmt: skip
    links += [f'<a href="{up}nsdbench.html">API</a>']
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title(page)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><nav>{' | '.join(links)}</nav>"
        f"{LINK.sub(link, body)}</body></html>\n",
        encoding="utf-8",
    )


def title(page: Path) -> str:
    """Return the first heading of a page."""
    return html.escape(page.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/build.py FOLDER")
    main(Path(sys.argv[1]).resolve())

"""What a developer runs: `nox -s demo`, `nox -s tests`, and the rest (`nox --list`)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
DASHBOARD = ROOT / "vscode" / "dashboard"
STATIC = ROOT / "packages" / "otf-serve" / "src" / "otf_serve" / "static"

#: Every package, with those of its siblings that it needs, in the order they are installed.
PACKAGES = {
    "otf-session": ["otf-session"],
    "otf-merge": ["otf-merge"],
    "otf-hooks": ["otf-session", "otf-hooks"],
    "otf-serve": ["otf-session", "otf-serve"],
    "onthefly-ai": ["otf-session", "otf-merge", "otf-hooks", "otf-serve", "onthefly-ai"],
}
#: Many tests wait for processes: a file on each core at a time makes the whole half as long.
SIDE_BY_SIDE = ["-n", "auto", "--dist", "loadfile"]
#: What a package's own tests need beside it.
TEST_NEEDS = {
    "otf-session": ["hypothesis", "pyarrow", "tensorboard"],
    "otf-merge": ["hypothesis", "scikit-learn"],
    "otf-hooks": [
        *("numpy", "torchdata", "scikit-learn"),
        *("lightning", "pytorch-lightning", "transformers", "accelerate"),
    ],
    "otf-serve": ["httpx", "hypothesis"],
    "onthefly-ai": ["accelerate", "lightning", "playwright", "scikit-learn", "transformers"],
}


@nox.session
def demo(session: nox.Session) -> None:
    """Train on handwritten digits, live on a dashboard (`-- --headless`: to the end, no browser)."""
    build_dashboard(session)
    install(session, "onthefly-ai", extras="[demo]")
    session.run("otf", "demo", *session.posargs)


@nox.session
@nox.parametrize("package", list(PACKAGES), ids=list(PACKAGES))
def tests(session: nox.Session, package: str) -> None:
    """Test each package installed alone; with `onthefly-ai`, the dashboard and the whole line."""
    if package in ("otf-serve", "onthefly-ai"):
        build_dashboard(session)
    install(session, package)
    pip_install(session, "pytest", "pytest-xdist", *TEST_NEEDS[package])
    folder = "onthefly" if package == "onthefly-ai" else package.replace("-", "_")
    session.run("pytest", *SIDE_BY_SIDE, f"tests/{folder}", *session.posargs)
    if package == "onthefly-ai":
        test_dashboard(session)
        run_e2e(session)


@nox.session
def e2e(session: nox.Session) -> None:
    """Run the real demo and the real server, and drive the page in Chromium."""
    build_dashboard(session)
    install(session, "onthefly-ai")
    pip_install(session, "pytest", *TEST_NEEDS["onthefly-ai"])
    run_e2e(session)


@nox.session
def peers(session: nox.Session) -> None:
    """Compare merges, tensor by tensor, with mergekit's and PEFT's (on Python 3.10 and newer)."""
    # Together, and torch first: mergekit and PEFT need it, and so it is the pinned one.
    pip_install(
        session,
        "torch",
        "mergekit==0.1.5",
        "peft==0.21.2",
        "pytest",
        *paths("otf-merge", editable=False),
    )
    session.run("pytest", "tests/peers", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of Python and TypeScript."""
    pip_install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    npm_ci(session)
    session.run("npm", "run", "lint", "--prefix", str(DASHBOARD), external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages, strictly."""
    install(session, "onthefly-ai", editable=True)
    fronts = ["lightning", "pytorch-lightning", "transformers", "accelerate"]
    pip_install(session, "mypy", "numpy", "types-PyYAML", *fronts)
    session.run("mypy", *(f"packages/{package}/src" for package in PACKAGES))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the project claims to be fast; see benchmarks/README.md."""
    build_dashboard(session)
    install(session, "onthefly-ai", editable=True)
    pip_install(session, "tensorboard")
    chosen = session.posargs or sorted(
        path.name for path in (ROOT / "benchmarks").glob("bench_*.py")
    )
    for name in chosen:
        session.run("python", str(ROOT / "benchmarks" / name))


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheels of all packages into dist/, the dashboard inside."""
    build_dashboard(session)
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in PACKAGES:
        session.run(
            *("python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist"),
            f"./packages/{package}",
        )


@nox.session(python="3.9")
def floor(session: nox.Session) -> None:
    """Test with Python 3.9 and the lowest versions that the packages allow."""
    build_dashboard(session)
    constraints = ["-c", "constraints-floor.txt"]
    session.install(*constraints, "torch", "numpy")
    session.install(*constraints, *paths("onthefly-ai", editable=False))
    session.install(*constraints, "pytest", "hypothesis", "httpx", "scikit-learn")
    folders = [f"tests/{name}" for name in ("otf_session", "otf_merge", "otf_hooks", "otf_serve")]
    session.run("pytest", *folders, "tests/onthefly", *session.posargs)


@nox.session
def dashboard(session: nox.Session) -> None:
    """Build the dashboard into otf-serve, whether or not it changed."""
    build_dashboard(session, always=True)


@nox.session
def wire(session: nox.Session) -> None:
    """Generate the dashboard's types from the Python vocabulary."""
    install(session, "otf-session", editable=True)
    schema = session.run("python", "-m", "otf_session.schema", silent=True)
    assert isinstance(schema, str)
    (DASHBOARD / "src" / "wire" / "schema.json").write_text(schema)
    npm_ci(session)
    session.run("npm", "run", "wire", "--prefix", str(DASHBOARD), external=True)


def install(
    session: nox.Session, package: str, *, extras: str = "", editable: bool = False
) -> None:
    """Install a package and its siblings with the pinned versions of everything else."""
    *siblings, last = paths(package, editable=editable)
    pip_install(session, *siblings, last + extras)


def pip_install(session: nox.Session, *what: str) -> None:
    """Install with the pinned versions."""
    session.install("-c", "constraints.txt", *what)


def paths(package: str, *, editable: bool) -> list[str]:
    """A package's and its siblings' folders, as arguments for pip."""
    flag = ["-e"] if editable else []
    return [part for name in PACKAGES[package] for part in [*flag, f"./packages/{name}"]]


def npm_ci(session: nox.Session) -> None:
    """Install the dashboard's dependencies, where they are not those of its lock file."""
    if shutil.which("npm") is None:
        session.error("The dashboard is built with npm, which is not there. Install Node.js 20+.")
    installed = DASHBOARD / "node_modules" / ".package-lock.json"
    if newest([DASHBOARD / "package-lock.json"]) > newest([installed]):
        session.run("npm", "ci", "--prefix", str(DASHBOARD), external=True)


def build_dashboard(session: nox.Session, *, always: bool = False) -> None:
    """Build the dashboard, where its sources are newer than what is built."""
    sources = [path for path in DASHBOARD.glob("*") if path.is_file()]
    sources += [path for path in (DASHBOARD / "src").rglob("*") if path.is_file()]
    if always or newest(sources) > newest([STATIC / "index.html"]):
        npm_ci(session)
        session.run("npm", "run", "build", "--prefix", str(DASHBOARD), external=True)


def test_dashboard(session: nox.Session) -> None:
    """Run the dashboard's own tests."""
    npm_ci(session)
    session.run("npm", "test", "--prefix", str(DASHBOARD), external=True)


def run_e2e(session: nox.Session) -> None:
    """Run the tests of the whole, in the machine's Chromium or in Playwright's."""
    if not os.environ.get("CHROMIUM") and not any(
        shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")
    ):
        session.run("playwright", "install", "chromium")
    session.run("pytest", "tests/e2e", *session.posargs)


def newest(files: list[Path]) -> float:
    """When the youngest of these files was changed; 0 where there is none."""
    return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)


if __name__ == "__main__":
    sys.exit("Run `nox`, not this file: pip install nox && nox --list")

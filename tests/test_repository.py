"""What files of the repository say of each other."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skff

REPOSITORY = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (REPOSITORY / ".github").exists(), reason="not a checkout")


def text(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads(text("pyproject.toml"))["project"]


def load(name):
    return pytest.importorskip("yaml", reason="PyYAML is not installed").safe_load(text(name))


def test_python_versions_that_are_claimed_are_those_that_are_tested(project):
    prefix = "Programming Language :: Python :: 3."
    claimed = [c.split(" :: ")[-1] for c in project["classifiers"] if c.startswith(prefix)]
    workflow = load(".github/workflows/ci.yml")
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == claimed
    assert project["requires-python"] == f">={claimed[0]}"
    (oldest,) = re.findall(
        r'version: "(.*)"\n      - run: .ci/oldest', text(".github/workflows/ci.yml")
    )
    assert oldest == claimed[0]


def test_citation_names_the_version_and_the_address(project):
    citation = load("CITATION.cff")
    assert citation["version"] == skff.__version__
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Source"]
    assert f"git clone {project['urls']['Source']}.git" in text("README.md")


def test_commits_are_checked_by_the_ruff_of_the_checks():
    (pinned,) = re.findall(r"^ruff==(.*)$", text(".ci/constraints.txt"), re.MULTILINE)
    revisions = {repo["repo"]: repo["rev"] for repo in load(".pre-commit-config.yaml")["repos"]}
    assert revisions["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pinned}"


def test_what_is_imported_is_declared(project):
    declared = {re.split("[<>=]", bound)[0] for bound in project["dependencies"]}
    declared = {{"scikit-learn": "sklearn"}.get(name, name) for name in declared}
    imports = set()
    for path in (REPOSITORY / "skff").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imports |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports.add(node.module.split(".")[0])
    optional = {"ray", "pandas"}  # imported only where the user has given something of theirs
    assert imports - sys.stdlib_module_names - {"skff"} - optional <= declared
    assert declared <= imports


@pytest.mark.parametrize("extra", ["dependencies", "test"])
def test_every_bound_is_pinned_by_the_checks(project, extra):
    bounds = project.get(extra) or project["optional-dependencies"][extra]
    pins = dict(re.findall(r"^([\w.-]+)==(.*)$", text(".ci/constraints.txt").lower(), re.MULTILINE))
    for bound in bounds:
        name, oldest = bound.split(">=")
        found = pins[name].split(".")
        assert [int(k) for k in found[:2]] >= [int(k) for k in oldest.split(".")[:2]], bound


@pytest.mark.parametrize("script", [".ci/run", ".ci/oldest"])
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", str(REPOSITORY / script)], check=True)

"""Packages of programming languages: Python's by pip, JavaScript's by npm. The host must have the program."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from goldenami.provision.fields import AbsolutePath, OneLine, Url
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9,._ -]+\])?"
_SPECIFIER = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9][A-Za-z0-9.*+!_-]*"
_SPECIFIERS = rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*"


def _requirement(value: str) -> str:
    if not re.fullmatch(rf"{_NAME}\s*(?:{_SPECIFIERS})?", value):
        raise ValueError('expected the name of a Python package, optionally with versions: "flask", "flask>=3,<4"')
    return value


Requirement = Annotated[str, AfterValidator(_requirement)]

# Runs with the Python of the environment, without network access. pip contains the code that compares versions.
_CHECK = r"""import re, sys
from importlib import metadata
from pip._vendor.packaging.requirements import Requirement
text = open(sys.argv[1], encoding="utf-8").read().replace("\\\n", " ")
for line in text.splitlines():
    line = re.sub(r"(^|\s)#.*", "", line)
    line = re.sub(r"\s--\S+", "", line).strip()
    if not line or line.startswith("-"):
        continue
    wanted = Requirement(line)
    if wanted.marker is not None and not wanted.marker.evaluate():
        continue
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        if sys.argv[2] == "absent":
            continue
        sys.exit(f"{wanted.name} is not installed")
    if sys.argv[2] == "absent" or not wanted.specifier.contains(version, prereleases=True):
        sys.exit(f"{wanted.name} {version} is installed")
"""


class Pip(Operation):
    """Installs Python packages in a virtual environment, or in the system's Python with `break_system_packages`."""

    kind: ClassVar[str] = "pip"
    sources: ClassVar = {"requirements": "verbatim"}

    name: Requirement | tuple[Requirement, ...] = Field(
        (), description='Name of the package, or a list of names, optionally with versions: "flask>=3,<4".'
    )
    version: str | None = Field(None, description='Versions of a single package: ">=3,<4", "==3.0.2".')
    requirements: str | None = Field(
        None,
        description="A requirements file beside the recipe. If it contains hashes, pip refuses packages without one. "
        "Either this or name.",
    )
    venv: AbsolutePath | None = Field(
        None,
        description="The virtual environment; created if it is missing (with apt: needs the package python3-venv).",
    )
    break_system_packages: bool = Field(
        False,
        description="Without venv: install into the system's Python. This can replace files of the distribution's "
        "packages.",
    )
    python: str = Field(
        "python3", pattern=r"^[A-Za-z0-9/._-]+$", description="The interpreter: a name, or a path on the host."
    )
    index_url: Url | None = Field(None, description="URL of the package index. Default: PyPI.")
    only_binary: bool = Field(
        False, description="Whether only wheels are installed, so that the host builds no package."
    )
    state: Literal["present", "absent"] = Field("present", description="Whether the packages are installed.")

    @field_validator("version")
    @classmethod
    def _version(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SPECIFIERS, value):
            raise ValueError('expected versions as pip takes them: ">=3,<4", "==3.0.2"')
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Pip:
        if (not self.names) == (self.requirements is None):
            raise ValueError("expected either name or requirements")
        if self.venv is None and not self.break_system_packages:
            raise ValueError("expected venv, or break_system_packages: true for the system's Python")
        if self.venv is not None and self.break_system_packages:
            raise ValueError("break_system_packages has no effect with venv: remove one of them")
        if self.version is not None and (len(self.names) != 1 or not re.fullmatch(_NAME, self.names[0])):
            raise ValueError("version needs exactly one name, without versions in the name")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if isinstance(self.name, str) else self.name

    def title(self) -> str:
        what = self.requirements or f"{', '.join(self.names)}{self.version or ''}"
        extra = " absent" if self.state == "absent" else ""
        return f"pip {what}{f' in {self.venv}' if self.venv else ''}{extra}"

    def compile(self, to: Compilation) -> Steps:
        wanted = "".join(f"{name}{self.version or ''}\n" for name in self.names)
        file = to.payload("requirements") if self.requirements is not None else to.place(wanted.encode())
        python = f"{self.venv}/bin/python" if self.venv is not None else self.python
        values: dict[str, str | Script] = {
            "python": python,
            "file": file,
            "state": self.state,
            "script": to.place(_CHECK.encode()),
        }
        gone = Script("return 0" if self.state == "absent" else "detail='no such environment'; return 1")
        check = sh(
            """command -v @python >/dev/null || { @gone; }
detail=$(@python @script @file @state 2>&1) || { detail=$(printf '%s\\n' "$detail" | tail -n 1); return 1; }
detail=''""",
            **values,
            gone=gone,
        )
        return Steps(check, self._apply(python, file))

    def _apply(self, python: str, file: Script) -> Script:
        settings = ["PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1", "PIP_ROOT_USER_ACTION=ignore"]
        settings += ["PIP_BREAK_SYSTEM_PACKAGES=1"] if self.break_system_packages else []
        pip = sh("env @settings @python -m pip", settings=settings, python=python)
        made = sh(
            """[ -x @python ] || @maker -m venv @venv || {
rm -rf -- @venv
die 'the virtual environment could not be created: with apt, add the package python3-venv before this operation'
}""",
            python=python,
            maker=self.python,
            venv=self.venv or "",
        )
        if self.state == "absent":
            names = [re.sub(r"[^A-Za-z0-9._-].*", "", name) for name in self.names]
            what = sh("@names", names=names) if names else sh("-r @file", file=file)
            return sh("@pip uninstall --yes --quiet @what", pip=pip, what=what)
        options = [*(["--index-url", self.index_url] if self.index_url else [])]
        options += ["--only-binary=:all:"] if self.only_binary else []
        install = sh("@pip install --quiet --no-cache-dir @options -r @file", pip=pip, options=options, file=file)
        return lines(made if self.venv is not None else Script(""), install)


def _npm_name(value: str) -> str:
    if not re.fullmatch(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*", value):
        raise ValueError('expected the name of an npm package: "prettier", "@scope/name"')
    return value


class Npm(Operation):
    """Installs a JavaScript package for the whole system or in a directory."""

    kind: ClassVar[str] = "npm"
    shorthand: ClassVar[str | None] = "name"

    name: Annotated[str, AfterValidator(_npm_name)] = Field(description='Name of the package: "prettier", "@org/name".')
    version: OneLine | None = Field(None, description='Version or range in npm\'s syntax: "3.1.0", "^3.1".')
    path: AbsolutePath | None = Field(
        None, description="The directory whose node_modules gets the package. Default: the whole system."
    )
    registry: Url | None = Field(None, description="URL of the registry. Default: npm's registry.")
    scripts: bool = Field(False, description="Whether the install scripts of the package run. They run as root.")
    state: Literal["present", "absent"] = Field("present", description="Whether the package is installed.")

    @model_validator(mode="after")
    def _consistent(self) -> Npm:
        if self.version is not None and self.state == "absent":
            raise ValueError("version has no effect with state absent: remove one of them")
        if self.version is not None and not re.fullmatch(r"[0-9A-Za-z^~<>=|*.+ -]+", self.version):
            raise ValueError('expected a version or a range: "3.1.0", "^3.1", ">=3 <4"')
        return self

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name

    def title(self) -> str:
        extra = " absent" if self.state == "absent" else ""
        return f"npm {self.spec}{f' in {self.path}' if self.path else ''}{extra}"

    def compile(self, to: Compilation) -> Steps:
        where = ["--prefix", self.path] if self.path else ["--global"]
        npm = sh("env NO_UPDATE_NOTIFIER=1 npm @where", where=where)
        present = sh("@npm ls --depth=0 @spec >/dev/null 2>&1", npm=npm, spec=self.spec)
        missing = Script("command -v npm >/dev/null")
        if self.state == "absent":
            check = sh(
                "! @missing || ! @present || { detail='is installed'; return 1; }", missing=missing, present=present
            )
            return Steps(check, sh("@npm uninstall --no-audit --no-fund @name", npm=npm, name=self.name))
        options = ["--no-audit", "--no-fund", "--no-update-notifier"]
        options += [] if self.scripts else ["--ignore-scripts"]
        options += ["--registry", self.registry] if self.registry else []
        return Steps(
            sh(
                "@missing && @present || { detail='is not installed, or in another version'; return 1; }",
                missing=missing,
                present=present,
            ),
            lines(
                sh(
                    "@missing || die 'npm is not installed: add the package npm before this operation'", missing=missing
                ),
                sh("mkdir -p -- @path", path=self.path) if self.path else Script(""),
                sh("@npm install @options @spec", npm=npm, options=options, spec=self.spec),
            ),
        )

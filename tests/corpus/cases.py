"""The bad inputs, made by tables: a recipe, goldenami.yaml, a template, controls, arguments, variables.

``¦`` in a file is not part of it: it marks the line and column that an error must name (at the end of a line,
only the line). A case without a mark has no place, or may name any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MARK = "¦"
SANDBOX = "environments: {sandbox: {sandbox: true}}\n"
HEAD = 'name: web\nversion: "1.0"\nbase: {id: ami-0123456789abcdef0}\nos: debian\n'


@dataclass(frozen=True)
class Case:
    """One input. ``status``: the exit code. ``says``: a part of the error."""

    name: str
    files: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ("validate",)
    variables: Mapping[str, str] = field(default_factory=dict)
    status: int = 2
    says: str = ""
    places: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def case(name: str, files: Mapping[str, str], *, says: str = "", status: int = 2, **others: Any) -> Case:
    """Return a case without the marks in its files, and with the places that they name."""
    clean: dict[str, str] = {"goldenami.yaml": SANDBOX}
    places = []
    for file, text in files.items():
        for number, line in enumerate(text.split("\n"), 1):
            if MARK in line:
                column = line.index(MARK) + 1
                places.append(f"{file}:{number}:" + ("" if column == len(line) else f"{column}:"))
        clean[file] = text.replace(MARK, "")
    return Case(name, clean, status=status, says=says, places=tuple(places), **others)


def recipe(name: str, text: str, **others: Any) -> Case:
    return case(f"recipe-{name}", {"recipes/web.yaml": HEAD + text}, **others)


def whole(name: str, text: str, **others: Any) -> Case:
    return case(f"yaml-{name}", {"recipes/web.yaml": text}, **others)


def expression(name: str, text: str, **others: Any) -> Case:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return recipe(f"expression-{name}", f'software:\n  - file: {{dest: /x, content: ¦"{quoted}"}}\n', **others)


def template(name: str, text: str, **others: Any) -> Case:
    use = "software:\n  - template: {src: x.j2, dest: /x}\n"
    return case(f"template-{name}", {"recipes/web.yaml": HEAD + use, "recipes/x.j2": text}, **others)


def operation(name: str, text: str, **others: Any) -> Case:
    return recipe(f"operation-{name}", f"software:\n  - {text}\n", **others)


# --- YAML -------------------------------------------------------------------------------------------------------------

BIG = 25_000


def _laughs(lists: bool) -> str:
    lines = ["name: web", "a0: &a0 [x, x]" if lists else "a0: &a0 {k: x}"]
    for level in range(1, 30):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{inner}]" if lists else f"a{level}: &a{level} {{<<: [{inner}]}}")
    return "\n".join(lines) + "\n"


def _keys(count: int) -> str:
    return "".join(f"key{number}: 1\n" for number in range(count))


def yaml_cases() -> Iterator[Case]:
    yield whole("empty", "")
    yield whole("only-comment", "# nothing\n")
    yield whole("scalar", "¦web\n")
    yield whole("list", "¦- web\n")
    yield whole("null", "¦~\n")
    yield whole("number", "¦1\n")
    yield whole("binary-tag", HEAD + "owner: ¦!!binary aGVsbG8=\n")
    yield whole("python-tag", HEAD + "owner: ¦!!python/object/apply:os.system [id]\n")
    yield whole("python-name", HEAD + "owner: ¦!!python/name:os.system\n")
    yield whole("own-tag", HEAD + "owner: ¦!x y\n")
    yield whole("own-tag-of-mapping", HEAD + "image: ¦!x {}\n")
    yield whole("own-tag-of-list", HEAD + "tests: ¦!x [base]\n")
    yield whole("set-tag", HEAD + "image: ¦!!set {a, b}\n")
    yield whole("omap-tag", HEAD + "tests: ¦!!omap [a: b]\n")
    yield whole("int-tag", HEAD + "owner: ¦!!int twelve\n")
    yield whole("float-tag", HEAD + "owner: ¦!!float x\n")
    yield whole("bool-tag", HEAD + "owner: ¦!!bool maybe\n")
    yield whole("null-tag", HEAD + "owner: !!null x\n")
    yield whole("key-tag", HEAD + "¦!!python/name:x owner: y\n")
    yield whole("directive", "%YAML 9.9\n---\n" + HEAD, status=2)
    yield whole("tag-directive", "%TAG ! tag:python.org,2002:\n---\n" + HEAD + "owner: ¦!x y\n")
    yield whole("laughs-of-lists", _laughs(lists=True), says="aliases")
    yield whole("laughs-of-merges", _laughs(lists=False), says="aliases")
    yield whole("merge-of-itself", HEAD + "image: ¦&a\n  <<: *a\n", says="contains itself")
    yield whole("alias-of-itself", HEAD + "tests: &a [¦*a]\n".replace(MARK, ""), says="contains itself")
    yield whole("merge-of-scalar", HEAD + "image:\n  <<: ¦3\n")
    yield whole("merge-of-scalars", HEAD + "image:\n  <<: [¦3]\n")
    yield whole("alias-of-text", HEAD + f"x: &x {'y' * 1000}\ntests: [{'*x, ' * 20_000}]\n", says="MiB of text")
    yield whole("undefined-alias", HEAD + "tests: ¦*nothing\n")
    yield whole("deep-flow", HEAD + f"tests: {'[' * 5000}\n")
    yield whole("deep-flow-closed", HEAD + f"tests: {'[' * 900}{']' * 900}\n", says="levels")
    yield whole("deep-mapping", HEAD + f"image: {'{a: ' * 500}x{'}' * 500}\n", says="levels")
    yield whole("deep-block", HEAD + "".join(f"{' ' * n}a:\n" for n in range(900)), says="levels")
    yield whole("deep-list", HEAD + "tests:\n  " + "- " * 900 + "x\n", says="levels")
    yield whole("long-line", HEAD + f"owner: {'x' * 1_000_000}\n")
    yield whole("long-key", HEAD + f"{'x' * 100_000}: 1\n")
    yield whole("long-key-of-question", HEAD + f"? {'x' * 100_000}\n: 1\n")
    yield whole("long-quoted", HEAD + f'owner: "{"x" * 1_000_000}\n')
    yield whole("long-list", HEAD + f"tests: [{'x, ' * BIG}]\n", says="values")
    yield whole("long-list-of-words", HEAD + f"tests: [{'x, ' * 20_000}]\n")
    yield whole("long-list-of-mappings", HEAD + f"tests: [{'{}, ' * 20_000}]\n")
    yield whole("many-keys", HEAD + _keys(5_000))
    yield whole("many-equal-keys", HEAD + "x: 1\n" * 5_000)
    yield whole("many-documents", "---\n" * 20_000)
    yield whole("many-anchors", HEAD + "".join(f"x{n}: &x{n} 1\n" for n in range(3_000)))
    yield whole("many-comments", "# x\n" * 200_000)
    yield whole("many-blank-lines", "\n" * 500_000 + "x\n")
    yield whole("many-spaces", HEAD + "owner:" + " " * 500_000 + "x\nx: 1\n")
    yield whole("nul", HEAD + "owner: a\0b\n")
    yield whole("nul-escape", HEAD + 'owner: ¦"a\\0b"\n', says="NUL")
    yield whole("nul-key", HEAD + '"a\\0b": 1\n')
    yield whole("escape-key", HEAD + '¦"\\e[31mred": 1\n', says="\\x1b")
    yield whole("escape-value", HEAD + 'image: ¦"\\e[31mred"\n', says="\\x1b")
    yield whole("escape-name", 'name: ¦"\\e]0;title\\a"\n' + HEAD.partition("\n")[2], says="\\x1b")
    yield whole("bidi", HEAD + 'image: ¦"\\u202egnp.exe"\n', says="\\u202e")
    yield whole("bell-bytes", HEAD + "owner: a\ab\n")
    yield whole("surrogate-escape", HEAD + 'owner: "\\ud800"\n')
    yield whole("bom", "\ufeff" + HEAD + "x: 1\n")
    yield whole("non-character", HEAD + "owner: \ufffe\n")
    yield whole("tab", HEAD + "image:\n¦\timds: v2\n")
    yield whole("carriage-returns", HEAD.replace("\n", "\r") + "x: 1\r")
    yield whole("line-separators", HEAD + "owner: a\u2028b\u2029c\nx: 1\n")
    yield whole("number-of-digits", HEAD + f"image: {{root_volume: {{size_gib: ¦{'9' * 5000}}}}}\n")
    yield whole("number-of-hex", HEAD + f"image: {{root_volume: {{size_gib: ¦0x{'f' * 5000}}}}}\n")
    yield whole("number-of-octal", HEAD + f"image: {{root_volume: {{size_gib: ¦0{'7' * 5000}}}}}\n")
    yield whole("number-of-sixties", HEAD + f"image: {{root_volume: {{size_gib: ¦1{':59' * 5000}}}}}\n")
    yield whole("number-infinite", HEAD + "image: {root_volume: {size_gib: ¦.inf}}\n")
    yield whole("number-not", HEAD + "image: {root_volume: {size_gib: ¦.nan}}\n")
    yield whole("number-large-float", HEAD + "image: {root_volume: {size_gib: ¦1.0e+999}}\n")
    yield whole("number-negative", HEAD + "image: {root_volume: {size_gib: ¦-1}}\n")
    yield whole("number-boolean", HEAD + "image: {root_volume: {size_gib: ¦true}}\n")
    yield whole("number-word", HEAD + "image: {root_volume: {size_gib: ¦yes}}\n")
    yield whole("number-octal-like", HEAD + "image: {root_volume: {size_gib: ¦010}}\n")
    yield whole("number-of-sixty", HEAD + "image: {root_volume: {size_gib: ¦1:20}}\n")
    yield whole("date-impossible", HEAD + "owner: ¦2024-13-45\n")
    yield whole("date-as-version", HEAD.replace('"1.0"', "¦2024-01-01"))
    yield whole("timestamp", HEAD + "image: ¦2001-12-14t21:59:43.10-05:00\n")
    yield whole("complex-key", HEAD + "? ¦[a, b]\n: 1\n")
    yield whole("mapping-key", HEAD + "? ¦{a: b}\n: 1\n")
    yield whole("null-key", HEAD + "¦~: 1\n")
    yield whole("number-key", HEAD + "¦1: 1\n")
    yield whole("boolean-key", HEAD + "¦no: 1\n")


# --- recipes ----------------------------------------------------------------------------------------------------------


def recipe_cases() -> Iterator[Case]:
    for key, values in {
        "name": ('"a/b"', '"../x"', '"a\\nb"', f'"{"x" * 300}"', '""', "[web]", "{}", '"web "', '"WEB"'),
        "version": ('"1"', '"1.0.0"', '"v1.0"', '"-1.0"', f'"{"9" * 5000}.0"', "1.10", '"1.0\\n"', '"١.٢"', '"01.1"'),
        "os": ("plan9", "[]", "1", '"debian "', '"\\e[0m"'),
    }.items():
        for number, value in enumerate(values):
            lines = [f"{key}: ¦{value}" if line.startswith(f"{key}:") else line for line in HEAD.splitlines()]
            yield whole(f"{key}-{number}", "\n".join(lines) + "\n")
    for number, base in enumerate(
        (
            "¦[]",
            "¦x",
            "null",
            "¦{}",
            '{id: ¦"ami-1"}',
            "{id: ¦ami-0123456789ABCDEF0}",
            '{ssm: ¦"a b"}',
            '{ssm: ¦"a\\0b"}',
            "{filter: ¦{name: x}}",
            "{recipe: ¦../../etc/passwd}",
            "{recipe: ¦web}",
            f"{{recipe: ¦{'x' * 5000}}}",
            '{recipe: ¦"a\\e[2Jb"}',
            "{filter: ¦[], owners: [self]}",
        )
    ):
        yield whole(f"base-{number}", HEAD.replace("{id: ami-0123456789abcdef0}", base))
    for number, text in enumerate(
        (
            "architectures: ¦[]",
            "architectures: ¦x86_64",
            "architectures: [¦sparc]",
            "builder: {instance_types: [¦t3]}",
            'builder: {ssh_user: ¦"root; reboot"}',
            "builder: {ssh_timeout: ¦0s}",
            "builder: {timeout: ¦0m}",
            "builder: {ssh_timeout: ¦999999999999d}",
            "builder: {timeout: ¦99999999999999999999999999s}",
            "builder: {timeout: ¦٣m}",
            "builder: {spot: ¦7}",
            "image: {root_volume: {size_gib: ¦65537}}",
            "image: {root_volume: {iops: ¦true}}",
            "image: {root_volume: {iops: ¦03000}}",
            'image: {tags: {¦"aws:x": y}}'.replace(MARK, ""),
            f"image: {{tags: {{x: ¦{'y' * 300}}}}}",
            'image: {tags: {x: ¦"a\\nb"}}',
            f"description: ¦{'x' * 300}",
            'description: ¦"caf\\u00e9"',
            'description: ¦"a\\nb"',
            'description: ¦"a\\tb\\e[0m"',
            f"owner: ¦{'x' * 300}",
            "distribution: {channel: ¦../x}",
            "distribution: {share: {accounts: [¦12]}}",
            "distribution: {targets: ¦nobody}",
            "retention: {deprecate_after: ¦999999999d}",
            f"retention: {{deprecate_after: ¦{'9' * 5000}d}}",
            "retention: {keep: ¦-1}",
            "retention: {keep: ¦true}",
            f"retention: {{keep: ¦{'9' * 30}}}",
            "tests: ¦[]",
            "tests: [¦../../../../etc/passwd]",
            "tests: [¦/dev/zero]",
            f"tests: [¦{'x' * 5000}.py]",
            'tests: [¦"a\\nb.py"]',
            "vars: ¦[]",
            "vars: {¦a-b: 1}",
            "vars: {a: {secret: ¦{}}}",
            "vars: {a: {secret: {env: ¦a-b}}}",
            "vars: {a: {secret: {env: A, file: b}}}",
            "vars: {a: '{{ ¦vars.b }}', b: 1}",
            "agents: ¦{}",
            "agents: [¦nothing]",
            "agents: [¦../../etc/passwd]",
            f"agents: [¦{'x' * 5000}]",
            "agents: [¦1]",
            "agents: [¦{}]",
            "software: ¦x",
            "software: [¦x]",
            "software: [¦{}]",
            "software: [{package: x, ¦file: {}}]",
            "handlers: ¦[]",
            "handlers: {a: ¦x}",
            "hardening: ¦x",
            "hardening: {profiles: [¦nothing]}",
            "hardening: {profiles: [¦../../x]}",
            "hardening: {profiles: [debian-12-level-1], waivers: {¦x: {reason: y, expires: 2999-01-01}}}",
            "hardening: {profiles: [debian-12-level-1], waivers: {x: {reason: y, expires: ¦0-0-0}}}",
            "schedules: {¦x: {}}",
            "schedules: {x: {when: ¦rate(0 days)}}".replace(MARK, ""),
            f"schedules: {{x: {{when: 'rate({'9' * 5000} days)'}}}}",
            f"schedules: {{x: {{when: 'cron({'* ' * 5000})'}}}}",
            "patches: {level: ¦none-of-it}",
            'patches: {exclude: [¦"a b"]}',
            "patches: {date: ¦9999-99-99}",
            f"patches: {{date: ¦'{'9' * 1000}'}}",
        )
    ):
        yield recipe(str(number), text + "\n")
    many = "".join(f"  - pakage{number}: x\n" for number in range(1_000))
    yield recipe("many-problems", f"software:\n{many}")
    many = ", ".join(f'"{{{{ vars.x{number} }}}}"' for number in range(600))
    yield recipe("many-undefined-in-a-line", f"software: [command: {{argv: [{many}]}}]\n")
    many = "".join(f"  v{number}: 1\n" for number in range(400))
    uses = "".join(f"  - package: '{{{{ vars.w{number} }}}}'\n" for number in range(400))
    yield recipe("many-undefined-of-many", f"vars:\n{many}software:\n{uses}")
    many = "".join(f"  - file: {{dest: /x{number}, content: '{{{{ {number} }}}}', x: y}}\n" for number in range(800))
    yield recipe("many-expressions", f"software:\n{many}")
    names = [f"r{number}" for number in range(100)]
    chain = {
        f"recipes/{name}.yaml": f'name: {name}\nversion: "1.0"\nbase: {{recipe: {names[number - 1]}}}\n'
        for number, name in enumerate(names)
    }
    yield case("recipe-cycle-of-100", chain, arguments=("validate", "r0"), says="depend on each other")


# --- operations -------------------------------------------------------------------------------------------------------


PGP = "-----BEGIN PGP PUBLIC KEY BLOCK-----"


def operation_cases() -> Iterator[Case]:
    nul = '¦"a\\0b"'
    for number, text in enumerate(
        (
            f"command: {{argv: [{nul}]}}",
            f"command: {{shell: {nul}}}",
            f"file: {{dest: {nul}, content: x}}",
            f"file: {{dest: /x, content: {nul}}}",
            f"package: {{name: {nul}}}",
            f"user: {{name: {nul}}}",
            f"service: {{name: {nul}}}",
            f"directory: {{path: {nul}}}",
            f"command: {{argv: [x], environment: {{A: {nul}}}}}",
            f"script: {{content: {nul}}}",
            "file: {dest: ¦relative, content: x}",
            "file: {dest: ¦/a/../b, content: x}",
            f"file: {{dest: ¦/{'x' * 5000}, content: x}}",
            f"file: {{dest: ¦/{'x/' * 3000}, content: x}}",
            "file: {dest: /x, content: x, mode: ¦0644}",
            "file: {dest: /x, content: x, mode: ¦644}",
            'file: {dest: /x, content: x, mode: ¦"9999"}',
            'file: {dest: /x, content: x, mode: ¦"u+x"}',
            'file: {dest: /x, content: x, owner: ¦"a b"}',
            "file: {dest: /x, content: x, owner: ¦0}",
            "file: {dest: /x, src: ¦/etc/passwd}",
            "file: {dest: /x, src: ¦../../../../../etc/passwd}",
            f"file: {{dest: /x, src: ¦{'x' * 5000}}}",
            'file: {dest: /x, src: ¦"a\\nb"}',
            "file: {dest: /x, src: ¦/dev/zero}",
            "script: {src: ¦.}",
            'package: {name: ¦"a b"}',
            'package: {name: x, version: ¦">"}',
            f"package: {{name: x, version: ¦'{'>=1,' * 5000}'}}",
            "package: [¦1]",
            "user: {name: x, uid: ¦true}",
            "user: {name: x, uid: ¦-1}",
            f"user: {{name: x, uid: ¦{'9' * 18}}}",
            "user: {name: x, uid: ¦010}",
            f"user: {{name: ¦{'x' * 100}}}",
            'user: {name: x, home: ¦"~"}',
            'group: {name: ¦"x:y"}',
            "group: {name: x, gid: ¦4294967296}",
            f"authorized_key: {{user: x, key: ¦'ssh-rsa {'A' * 50_000}!'}}",
            "command: {argv: ¦[]}",
            "command: {argv: ¦{}}",
            "command: {argv: [x], statuses: [¦256]}",
            "command: {argv: [x], statuses: [¦-1]}",
            "command: {argv: [x], ¦timeout: 0s}",
            "command: {argv: [x], environment: ¦{a-b: x}}",
            "command: {argv: [x], cwd: ¦x}",
            'service: {name: ¦"a b"}',
            "service: {name: x, enabled: ¦7}",
            'hostname: {name: ¦"a b"}',
            f"hostname: {{name: ¦{'x' * 300}}}",
            'timezone: {name: ¦"../../etc/passwd"}',
            'locale: {lang: ¦"a b"}',
            "sysctl: {name: ¦x, value: 1}",
            'sysctl: {name: a.b, value: ¦"a\\nb"}',
            "swap: {path: /swap, size_mib: ¦true}",
            "swap: {path: /swap, size_mib: ¦0}",
            f"swap: {{path: /swap, size_mib: ¦{'9' * 18}}}",
            "download: {url: ¦not-a-url, dest: /x, sha256: x}",
            f"download: {{url: 'https://x/y', dest: /x, sha256: ¦{'z' * 64}}}",
            'download: {url: ¦"https://", dest: /x}',
            'download: {url: ¦"https://a b/", dest: /x}',
            'download: {url: ¦"https://[::1/", dest: /x}',
            'download: {url: ¦"https://x:99999999/", dest: /x}',
            f"ca_certificate: ¦{{name: x, content: '{'-----BEGIN A-----' * 3000}'}}",
            f"ca_certificate: ¦{{name: x, content: '-----BEGIN CERTIFICATE-----{' ' * 20_000}x'}}",
            "ca_certificate: ¦{name: x, content: '-----BEGIN CERTIFICATE-----\n    !\n    -----END CERTIFICATE-----'}",
            f"repository: ¦{{name: x, uris: ['https://x/'], suites: [x], key: '{PGP}{' ' * 20_000}x'}}",
            f"pip: {{name: ¦'x{'.' * 50_000}!'}}",
            f"pip: {{name: ¦'x{' ' * 50_000}!'}}",
            f"npm: {{name: ¦'{'@a/' * 20_000}'}}",
            "git: {url: ¦x, dest: /x}",
            'git: {url: "https://x/y", dest: /x, tag: ¦"--upload-pack=x"}',
            'cron: {name: x, schedule: ¦"* *", command: x}',
            'mount: {path: /x, source: /dev/x, fstype: ¦"a b"}',
            "kernel_module: {name: ¦../x, state: loaded}",
            "mount: {path: /x, options: [nodev], fsck: ¦true}",
            "password_ageing: {max_days: ¦true}",
            "timer: {name: ¦'a b', command: x, calendar: daily}",
            "unit: {name: ¦'a b', content: x}",
            "link: {path: ¦x, target: y}",
            "tmpfiles: {name: ¦'../x', content: x}",
            "sudoers: {name: ¦'../x', content: x}",
            "environment_variable: {name: ¦'a b', value: x}",
            "limit: {domain: x, item: ¦nothing, value: 1}".replace(MARK, ""),
        )
    ):
        kind = text.partition(":")[0]
        yield operation(f"{kind}-{number}", text)


# --- expressions and templates ----------------------------------------------------------------------------------------


RUNAWAYS = {
    "power": "9**(9**9)",
    "power-of-variable": "9**((recipe.name|length + 6)**9)",
    "factor": "'a' * 10**9",
    "factor-of-list": "[1] * 10**9",
    "factor-nested": "(('a' * 10**4) * 10**4) * 10**4",
    "range": "range(10**9)|list",
    "range-sum": "range(99999)|map('string')|map('center', 99999)|join",
    "center": "'a'|center(10**9)",
    "center-method": "'a'.center(10**9)",
    "ljust": "'a'.ljust(10**9)",
    "zfill": "'a'.zfill(10**9)",
    "expandtabs": "'\\t'.expandtabs(10**9)",
    "indent": "('x\\n' * 99999)|indent(99999)",
    "batch": "[1]|batch(10**9, 'x')|list",
    "slice": "[1]|slice(10**8)|list",
    "format": "'%1000000000d' % 1",
    "format-filter": "'%1000000000d'|format(1)",
    "format-method": "'{:1000000000}'.format(1)",
    "replace": "('a' * 99999)|replace('a', 'a' * 99999)",
    "replace-method": "('a' * 99999).replace('a', 'a' * 99999)",
    "join": "range(99999)|join('a' * 99999)",
    "join-method": "('a' * 99999).join('a' * 99999)",
    "json-of-json": "'\"'" + "|json" * 60,
    "quote-of-quote": '"\'"' + "|quote" * 60,
    "wordwrap": "('a ' * 999999)|wordwrap(1)",
    "sort": "range(99999)|map('string')|map('center', 9999)|sort|join",
    "sum": "(range(99999)|list * 999)|sum",
    "shift": "1000000007 ** 1000000 % 97",
    "huge-number": "10**400",
    "nested-list": "[" * 80 + "]" * 80,
}


def rendering_cases() -> Iterator[Case]:
    for name, text in RUNAWAYS.items():
        yield expression(name, "{{ " + text + " }}")
        if name == "huge-number":  # as text, it is one of 401 characters
            continue
        yield template(name, "first\n{{ " + text + " }}\n", says="x.j2:2" if name in AT_THEIR_LINE else "x.j2:")
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    doubling = "{% set x = [1] %}" + "{% set x = [x, x] %}" * 60
    for name, text in {
        "loops": loops,
        "loops-of-text": loops.replace("%}{% endfor", "%}xxxxxxxx{% endfor", 1),
        "doubled-text": "{% set x = 'x' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}",
        "doubled-list-as-text": doubling + "{{ x }}",
        "doubled-lists-compared": doubling + "{% set y = [1] %}" + "{% set y = [y, y] %}" * 60 + "{{ x == y }}",
        "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "recursion-of-two": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "recursive-loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "deep-blocks": "{% if true %}" * 300 + "{% endif %}" * 300,
        "deep-parentheses": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "deep-brackets": "{{ " + "[" * 3000 + "1" + "]" * 3000 + " }}",
        "long-sum": "{{ " + "1+" * 20_000 + "1 }}",
        "long-filters": "{{ 1" + "|string" * 5_000 + " }}",
        "unclosed": "{{ " * 20_000,
        "unclosed-block": "{% if " * 20_000,
        "unclosed-comment": "{# " * 20_000,
        "unclosed-quote": '{{ "' + "x" * 99_999,
        "include": "{% include '/etc/passwd' %}",
        "import": "{% import 'x' as y %}",
        "extends": "{% extends 'x' %}",
        "undefined": "{{ nothing }}",
        "undefined-filter": "{{ 1|nothing }}",
        "undefined-test": "{{ 1 is nothing }}",
        "class": "{{ ''.__class__ }}",
        "globals": "{{ range.__globals__ }}",
        "attr": "{{ ''|attr('__class__') }}",
        "division": "{{ 1 / 0 }}",
        "types": "{{ 1 + 'a' }}",
        "surrogate": "{{ '\\ud800' }}",
        "nul": "{{ '\\x00' }}",
        "do": "{% do 1 %}",
        "call-number": "{{ 1() }}",
        "unknown-block": "{% nothing %}",
    }.items():
        yield template(name, f"first\n{text}\n", says="x.j2:")
        when = f"software:\n  - package: x\n    when: {_quoted(text)}\n"
        yield recipe(f"when-{name}", when, says="recipes/web.yaml:7:")
    yield template("long-line", "x" * 1_000_000 + "{{ nothing }}\n", says="x.j2:1")
    yield template("many-undefined-in-a-line", "{{ nothing }}" * 20_000, says="x.j2:1")
    yield template("many-undefined", "{{ nothing }}\n" * 20_000, says="x.j2:1")
    many = "".join(f"{{{{ vars.x{number} }}}}\n" for number in range(1_000))
    yield template("many-different-undefined", many, says="x.j2:1")
    big = "x" * 400_000
    grown = f"vars: {{x: {big}}}\nsoftware:\n" + "  - file: {dest: /x, content: '{{ vars.x }}'}\n" * 500
    yield recipe("many-large-values", grown, says="MiB of text")
    grown = f"vars: {{x: {big}}}\nsoftware:\n  - file: {{dest: /x, content: '{'{{ vars.x }}' * 5000}'}}\n"
    yield recipe("a-large-value-many-times", grown, says="recipes/web.yaml:7:31:")
    slow = "{% for a in range(9999) %}{% for b in range(99) %}{% endfor %}{% endfor %}"
    uses = "".join(f"  - package: {{name: x}}\n    when: '{slow}{{{{ {number} }}}}'\n" for number in range(500))
    yield recipe("many-slow-expressions", f"software:\n{uses}", says="together with those before it")


# A function that is ended inside one call of Python tells no line of the template.
AT_THEIR_LINE = frozenset({"factor", "center", "format", "replace"})


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- goldenami.yaml ---------------------------------------------------------------------------------------------------

PRODUCTION = {
    "home": '{account: "111111111111", region: eu-central-1}',
    "targets": "[{account: home, regions: [eu-central-1], kms_key: alias/x}]",
    "catalog": "catalog",
}


def environment(name: str, *, says: str = "", **changes: str) -> Case:
    """Return a case with one environment, which is not the sandbox, with these keys changed."""
    keys = {**PRODUCTION, **changes}
    return case(f"environment-{name}", {"goldenami.yaml": _project(keys), "recipes/web.yaml": HEAD}, says=says)


def _project(keys: Mapping[str, str]) -> str:
    return "environments:\n  production:\n" + "".join(f"    {key}: {value}\n" for key, value in keys.items())


def environment_cases() -> Iterator[Case]:
    for number, world in enumerate(("0.0.0.0/0", "'::/0'")):
        keys = {**PRODUCTION, "network": f"{{source_cidr: ¦{world}}}"}
        files = {"goldenami.yaml": _project(keys), "recipes/web.yaml": HEAD}
        yield case(f"warning-{number}", files, says="warning: source_cidr: ", status=0)
    for number, text in enumerate(
        (
            "",
            "¦[]",
            "¦x",
            "environments: ¦",
            "environments: ¦{}",
            "environments: ¦[]",
            "environments: ¦x",
            "environments: {¦production: }",
            "environments: {production: ¦x}",
            "environments: {production: ¦[]}",
            "environments: {¦production: {}}",
            "environments: {¦Production: {sandbox: true}}",
            "environments: {¦'a/b': {sandbox: true}}",
            "environments: {¦'': {sandbox: true}}",
            "environments: {¦1: {sandbox: true}}",
            'environments: {¦"a\\e[0m": {sandbox: true}}',
            f"environments: {{¦{'x' * 300}: {{sandbox: true}}}}",
            "environments: {sandbox: {sandbox: ¦7}}",
            "environments: {sandbox: {sandbox: true, ¦home: {account: '111111111111', region: eu-central-1}}}",
            "environments: {sandbox: {sandbox: true}}\n¦enviroments: {}",
            "¦enviroments: {sandbox: {sandbox: true}}",
            "environments: {sandbox: {sandbox: true, ¦nothing: 1}}",
            "environments: &a {sandbox: *a}",
            "environments: !!python/object:os.system {}",
            "environments: {sandbox: {sandbox: true, tags: {x: ¦1}}}",
            "environments: {sandbox: {sandbox: true}, ¦sandbox: {}}",
            "environments: {\n",
            "environments:\n¦\tsandbox: {}",
        )
    ):
        yield case(f"project-{number}", {"goldenami.yaml": text, "recipes/web.yaml": HEAD}, says="goldenami.yaml")
    for key, values in {
        "home": (
            "¦x",
            "¦[]",
            "{account: ¦111111111111, region: eu-central-1}",
            '{account: ¦"11111111111", region: eu-central-1}',
            '{account: ¦"١١١١١١١١١١١١", region: eu-central-1}',
            '{account: "111111111111", region: ¦frankfurt}',
            '{account: "111111111111", region: ¦"eu-central-1\\n"}',
            '¦{account: "111111111111"}'.replace(MARK, ""),
            '{account: "111111111111", region: eu-central-1, role: ¦x}',
            '{account: "111111111111", region: eu-central-1, role: "arn:aws:iam::1:role/x"}',
            '{account: "111111111111", region: eu-central-1, session_duration: 1h}',
            '{account: "111111111111", region: eu-central-1, external_id: ¦"a b"}',
        ),
        "targets": (
            "¦x",
            "¦{}",
            "[¦x]",
            "[{account: ¦nobody, regions: [eu-central-1], kms_key: x}]",
            "[{account: home, regions: ¦[], kms_key: x}]",
            "[{account: home, regions: [¦x], kms_key: x}]",
            "[{account: home, regions: [eu-central-1], kms_key: ¦1}]",
            '[{account: home, regions: [eu-central-1], kms_key: ¦""}]',
            "[{account: home, regions: [eu-central-1], kms_key: x, mode: ¦move}]",
            f"[{{account: home, regions: [{'eu-central-1, ' * 1000}], kms_key: x}}]",
        ),
        "network": (
            "{source_cidr: ¦everybody}",
            "{source_cidr: ¦999.0.0.0/8}",
            "{source_cidr: ¦1.2.3/24}",
            "{source_cidr: ¦10.0.0.0/33}",
            '{source_cidr: ¦"::/129"}',
            '{source_cidr: ¦"fe80::1%eth0/64"}',
            '{source_cidr: ¦":::/0"}',
            "{source_cidr: ¦10.0.0.0}",
            "{subnet: ¦x}",
            "{subnet: {id: ¦x}}",
            "{transport: ¦smoke}",
            "{transport: {¦bastion: {}}}",
            "{transport: {bastion: {host: ¦''}}}",
            "{transport: {bastion: {host: x, port: ¦70000}}}",
            "{transport: {bastion: {host: x, port: ¦true}}}",
            "{transport: {bastion: {host: x, ¦timeout: 0s}}}",
            '{transport: {command: {run: [¦"a\\0b"]}}}',
            "{address: ¦nowhere}",
        ),
        "catalog": ("¦1", "¦''", "¦s3://UPPER/x", "¦s3://", '¦"a\\0b"', "¦s3:/x", "¦https://x/y"),
        "builds": ("¦1", "¦''", "¦s3://a_b/x", "¦s3://x/a b"),
        "bucket_owner": ("¦1", "¦'1'", "¦111111111111"),
        "parameter_prefix": ("¦golden", "¦''", "¦/a b", f"¦/{'x' * 2000}", "¦'/{{ x }}'", "¦/aws/x", "¦/ssm/x"),
        "image_name": ("¦''", "¦x", "¦'{{ recipe.name }}'", "¦'{{ 9**(9**9) }}'", "¦'{{ recipe.name'", f"¦{'x' * 500}"),
        "lifetime": ("¦0s", "¦20s", "¦31d", "¦1", "¦forever", f"¦{'9' * 5000}d", "¦-1d", "¦'1 d'"),
        "tags": ('{¦"aws:x": y}'.replace(MARK, ""), "¦[]", "{¦x: null}", f"{{¦{'x' * 200}: y}}", '{x: ¦"a\\e[0m"}'),
        "accounts": ("¦[]", "{x: ¦y}", "{x: {id: ¦'1'}}", "{¦'a b': {id: '111111111111'}}"),
        "consumers": (
            "¦{}",
            "[¦x]",
            "[{account: ¦nobody, services: [eks]}]",
            "[{services: [¦x]}]",
            "[{principals: [¦x]}]",
        ),
        "builder": ("¦x", "{instance_profile: ¦'a b'}"),
        "schedules": ("¦[]", "{x: ¦y}", "{¦'a b': {}}"),
    }.items():
        for number, value in enumerate(values):
            yield environment(f"{key}-{number}", says="goldenami.yaml", **{key: value})


# --- controls, profiles and agents ------------------------------------------------------------------------------------

CONTROL = """controls:
  - id: one
    title: One
    why: Because.
    operations: [package: x]
    check: {reads: "true", expected: ""}
"""


def hardening_cases() -> Iterator[Case]:
    for number, (old, new) in enumerate(
        (
            ("controls:", "control¦s: ".replace(MARK, "") + "¦x\nxcontrols:"),
            ("id: one", "id: ¦1"),
            ("id: one", 'id: ¦"a b"'),
            ("id: one", f"id: ¦{'x' * 100}"),
            ("title: One", "title: ¦''"),
            ("why: Because.", "level: ¦3\n    why: x"),
            ("why: Because.", "why: ¦!x y"),
            ("why: Because.", "os: [¦plan9]\n    why: x"),
            ("why: Because.", "excludes: [{packages: ¦x, because: y}]\n    why: x"),
            ("why: Because.", "excludes: [{packages: [x], because: ¦''}]\n    why: x"),
            ("why: Because.", "excludes: [{packages: '{{ ¦site.nothing }}', because: y}]\n    why: x"),
            ("[package: x]", "¦x"),
            ("[package: x]", "[¦pakage: x]"),
            ("[package: x]", '[command: {run: [¦"a\\0b"]}]'),
            ("[package: x]", "[package: ¦'{{ 9**(9**9) }}']"),
            ("[package: x]", "[package: '{{ ¦site.nothing }}']"),
            ('expected: ""', "matches: ¦'('".replace(MARK, "")),
            ('expected: ""', f"matches: '{'(' * 900}{')' * 900}'"),
            ('expected: ""', f"matches: '{'a' * 5000}'"),
            ('expected: ""', "matches: 'a{99999999999}'"),
            ('expected: ""', "at_least: ¦x"),
            ('expected: ""', f"at_least: ¦{'9' * 5000}"),
            ('expected: ""', "contains: ¦[]"),
            ('reads: "true"', "reads: ¦''"),
            ('reads: "true"', 'reads: ¦"a\\0b"'),
        )
    ):
        assert old in CONTROL
        files = {"recipes/web.yaml": HEAD, "hardening/controls/x.yaml": CONTROL.replace(old, new)}
        files["hardening/profiles/x.yaml"] = "name: x\ntitle: x\nos: debian\nlevel: 1\nfiles: [x]\n"
        yield case(f"control-{number}", files, says="hardening/controls/x.yaml")
    for number, text in enumerate(
        (
            "",
            "name: ¦y\ntitle: x\nos: debian\nlevel: 1",
            "name: x\ntitle: x\nos: ¦plan9\nlevel: 1",
            "name: x\ntitle: x\nos: debian\nlevel: ¦3",
            "name: x\ntitle: x\nos: debian\nlevel: 1\nextends: ¦x".replace(MARK, ""),
            "name: x\ntitle: x\nos: debian\nlevel: 1\nfiles: [¦nothing]",
            "name: x\ntitle: x\nos: debian\nlevel: 1\nfiles: [¦../../../etc/passwd]",
            "name: x\ntitle: x\nos: debian\nlevel: 1\nwithout: [¦nothing]".replace(MARK, ""),
            "name: x\ntitle: x\nos: debian\nlevel: 1\n¦nothing: 1",
        )
    ):
        files = {"recipes/web.yaml": HEAD, "hardening/profiles/x.yaml": text}
        yield case(f"profile-{number}", files, says="hardening/profiles/x.yaml")
    for number, (params, value, mark) in enumerate(
        (
            ('{type: string, description: x, pattern: "(a+)+"}', f"'{'a' * 40}!'", "recipes/web.yaml:"),
            ('{type: string, description: x, pattern: "(a|a)*b"}', f"{'a' * 40}", "recipes/web.yaml:"),
            ('{type: string, description: x, pattern: "(.*)*x(.*)*y"}', f"{'a' * 4000}", "recipes/web.yaml:"),
            ('{type: string, description: x, pattern: "["}', "a", "recipes/agents/a/agent.yaml:4:"),
            (f"{{type: string, description: x, pattern: '{'(' * 900}{')' * 900}'}}", "a", "agent.yaml:4:"),
            ("{type: string, description: x, pattern: 'a{99999999999}'}", "a", "agent.yaml:4:"),
            ("{type: integer, description: x, minimum: x}", "1", "agent.yaml:4:"),
            ("{type: integer, description: x}", "true", "recipes/web.yaml:"),
            ("{type: integer, description: x}", "0o7", "recipes/web.yaml:"),
            ("{type: nothing, description: x}", "1", "agent.yaml:4:"),
            ("{type: json, description: x}", "/dev/zero", "recipes/web.yaml:"),
            ("{type: json, description: x}", "'a\\nb'", "recipes/web.yaml:"),
            ("{type: source, description: x}", "{url: x, sha256: y}", "recipes/web.yaml:"),
            ("{type: list, description: x}", "x", "recipes/web.yaml:"),
        )
    ):
        agent = f"name: a\noperations: {{debian: []}}\nparams:\n  p: {params}\n"
        use = f"agents: [{{name: a, params: {{p: {value}}}}}]\n"
        files = {"recipes/web.yaml": HEAD + use, "recipes/agents/a/agent.yaml": agent}
        yield case(f"agent-{number}", files, says=mark)


# --- arguments and variables ------------------------------------------------------------------------------------------


def argument_cases() -> Iterator[Case]:
    good = {
        "goldenami.yaml": _project({**PRODUCTION, "builds": "builds"}),
        "recipes/web.yaml": HEAD + "vars: {a: 1, b: [1], c: true, d: {e: 1}, f: 1.5, g: x}\n",
    }
    huge = "9" * 5000
    for number, (status, arguments) in enumerate(
        (
            (3, ["validate", "nothing"]),
            (3, ["validate", "x" * 300]),
            (3, ["validate", "x" * 100_000]),
            (3, ["validate", "x/" * 3000 + "y.yaml"]),
            (3, ["validate", "\x1b[31mred"]),
            (3, ["validate", "\udcff\udcfe"]),
            (3, ["validate", "\udcff/x.yaml"]),
            (3, ["validate", ""]),
            (2, ["validate", "/etc/passwd"]),
            (3, ["validate", "recipes"]),
            (3, ["validate", "./recipes/"]),
            (3, ["validate", "."]),
            (2, ["validate", "--nothing"]),
            (2, ["validate", "--\x1b[31m"]),
            (2, ["\x1b[31m"]),
            (2, ["x" * 100_000]),
            (2, ["\udcff"]),
            (2, ["validate", "--var"]),
            (2, ["validate", "--var", "x"]),
            (2, ["validate", "--var", "=x"]),
            (2, ["validate", "--var", "\x1b[0m"]),
            (2, ["validate", "--var", "nothing=1"]),
            (2, ["validate", "--var", "a=1", "--var", "a=2"]),
            (2, ["validate", "--var", f"a={huge}"]),
            (2, ["validate", "--var", "a=x"]),
            (2, ["validate", "--var", "b=" + "[" * 100_000]),
            (2, ["validate", "--var", "b={}"]),
            (2, ["validate", "--var", f"b=[{huge}]"]),
            (2, ["validate", "--var", "c=maybe"]),
            (2, ["validate", "--var", "d=" + '{"a":' * 50_000]),
            (2, ["validate", "--var", "f=nan"]),
            (2, ["validate", "--var", "f=1e999"]),
            (2, ["validate", "--var", "g=\udcff"]),
            (3, ["validate", "-e", "nothing"]),
            (3, ["validate", "-e", ""]),
            (3, ["validate", "-e", "x" * 100_000]),
            (2, ["-C", "nothing", "validate"]),
            (2, ["-C", "x" * 5000, "validate"]),
            (2, ["-C", "goldenami.yaml", "validate"]),
            (2, ["schema", "nothing"]),
            (3, ["build", "nothing"]),
            (3, ["plan", "x" * 5000]),
            (2, ["build", "web", "--wait=1y"]),
            (2, ["build", "web", f"--wait={huge}s"]),
            (3, ["recipes", "copy", "nothing"]),
            (3, ["recipes", "copy", "../../x"]),
            (3, ["recipes", "copy", "x" * 5000]),
            (3, ["agents", "show", "nothing"]),
            (3, ["agents", "show", "../../../x"]),
            (3, ["agents", "show", "x" * 5000]),
            (3, ["harden", "coverage", "nothing"]),
            (2, ["harden", "nothing"]),
            (3, ["builds", "show", "nothing"]),
            (3, ["builds", "show", "../../../x"]),
            (3, ["builds", "show", "x" * 5000]),
            (3, ["resume", "nothing"]),
            (3, ["clean", "../../x"]),
            (3, ["clean", "x" * 5000]),
            (3, ["images", "show", "nothing"]),
            (2, ["images", "show", "x" * 5000]),
            (3, ["resolve", "nothing@stable", "--region", "eu-central-1"]),
            (2, ["resolve", "@", "--region", "x"]),
            (2, ["resolve", "web@" + huge, "--region", "eu-central-1"]),
            (2, ["retire", "--older-than", "999999999d"]),
            (2, ["pin", "web@1.0"]),
            (1, ["init", "x" * 5000]),
            (2, ["init", "/proc/x"]),
            (2, ["build", "web", "--events", "."]),
        )
    ):
        yield case(f"arguments-{number}", good, arguments=arguments, status=status)


def variable_cases() -> Iterator[Case]:
    good = {"recipes/web.yaml": HEAD}
    bad = {"recipes/web.yaml": HEAD + "¦x: 1\n"}
    for number, variables in enumerate(
        (
            {"COLUMNS": "0"},
            {"COLUMNS": "-5"},
            {"COLUMNS": "x"},
            {"COLUMNS": "1"},
            {"COLUMNS": "99999999999"},
            {"LINES": "x"},
            {"TERM": "\x1b"},
            {"TERM": ""},
            {"NO_COLOR": "x"},
            {"FORCE_COLOR": "1"},
            {"HOME": "/nothing"},
            {"HOME": ""},
            {"HOME": "x" * 5000},
            {"TMPDIR": "/nothing"},
            {"PATH": ""},
            {"TZ": "x" * 1000},
            {"LANG": "xx_YY.KOI8-R"},
            {"LC_ALL": "nothing"},
            {"XDG_STATE_HOME": "relative"},
            {"AWS_PROFILE": "nothing"},
            {"AWS_REGION": "\x1b[0m"},
            {"AWS_CONFIG_FILE": "/nothing"},
            {"AWS_CONFIG_FILE": "/dev/zero"},
            {"AWS_ENDPOINT_URL": "not a url"},
        )
    ):
        yield case(f"variables-good-{number}", good, variables=variables, status=0)
        yield case(f"variables-{number}", bad, variables=variables)
    for number, (variables, config) in enumerate(
        (
            ({"AWS_PROFILE": "nothing"}, ""),
            ({"AWS_PROFILE": "\x1b[0m"}, ""),
            ({"AWS_PROFILE": "x"}, "[profile x]\nregion = nowhere\nrole_arn = x\nsource_profile = x\n"),
            ({"AWS_PROFILE": "x"}, "[profile x]\ncredential_process = false\n"),
            ({"AWS_PROFILE": "x"}, "[profile x]\nsso_session = nothing\n"),
            ({}, "[profile"),
            ({}, "no section = 1\n"),
            ({}, "[default]\n[default]\n"),
            ({}, "[default]\nretry_mode = nothing\nmax_attempts = x\n"),
            ({"AWS_CONFIG_FILE": "/"}, ""),
            ({"AWS_MAX_ATTEMPTS": "x"}, ""),
        )
    ):
        files = {"goldenami.yaml": _project(PRODUCTION), "recipes/web.yaml": HEAD, "config": config}
        given = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "none", **variables}
        yield case(f"aws-{number}", files, arguments=("plan", "web"), variables=given, status=4)
    for number, (status, variables) in enumerate(
        (
            (3, {"GOLDENAMI_VALIDATE_ENVIRONMENT_NAME": "nothing"}),
            (2, {"GOLDENAMI_ALLOW_PROJECT_CODE": "maybe"}),
            (2, {"GOLDENAMI_ALLOW_PROJECT_CODE": "\x1b[0m"}),
            (2, {"GOLDENAMI_DIRECTORY": "/nothing"}),
            (2, {"GOLDENAMI_DEBUG": "x"}),
            (2, {"GOLDENAMI_DIRECTORY": "x" * 5000}),
        )
    ):
        yield case(f"variables-of-options-{number}", good, variables=variables, status=status)


def cases() -> list[Case]:
    """Return all cases. Their names differ."""
    makers = (
        yaml_cases,
        recipe_cases,
        operation_cases,
        rendering_cases,
        environment_cases,
        hardening_cases,
        argument_cases,
        variable_cases,
    )
    return [one for maker in makers for one in maker()]

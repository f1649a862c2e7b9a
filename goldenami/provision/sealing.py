"""Sealing: removes keys, logs and identity of the builder before capture. It is the last work over a connection. At its
end, the builder is frozen (``freeze``).

``TRACES`` lists the traces as data: each one has the code that finds it and the code that removes it. Sealing is a
stage like any other: it finds, removes, and finds again. So a successful seal proves that no trace is left, and a test
after the first boot can use the same ``find``.

The session of the seal stays open: sshd reads host keys when it starts, and authorized keys at each login. No new
connection is possible afterwards. The configuration of systemd does not change: /etc/machine-id is emptied. If it were
missing or "uninitialized", the next boot would be a "first boot" that sets all services to their presets
(machine-id(5), "First Boot Semantics").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ConfigDict

from goldenami import lifetime
from goldenami.events import Emit, ignore_events
from goldenami.masking import forms
from goldenami.model import Mark
from goldenami.os import MANAGERS, SYSTEMS
from goldenami.os.homes import HOMES
from goldenami.os.sshd import KEY_FILES
from goldenami.provision import freeze as freezing
from goldenami.provision.operation import BoundOperation, Operation, Stage
from goldenami.provision.program import Beside, Collect, Fact, Guard, Item
from goldenami.provision.progress import OnFact, Within
from goldenami.provision.results import OperationResult
from goldenami.provision.runner import GOING_DOWN, run_program
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

if TYPE_CHECKING:  # paramiko takes a while to load, and recipes are validated without it
    from goldenami.ssh import Connection


class Trace(Operation):
    """Data of one machine that must not be in an image.

    ``find``: shell code that prints the places of the trace, and nothing if there is none. ``remove``: code that
    removes it, and succeeds if there is none. Both run as root. ``first``: code that sets variables for both.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    what: str
    find: Script
    remove: Script
    first: Script = Script("")

    def title(self) -> str:
        return f"remove {self.what}"

    def compile(self, to: Compilation) -> Steps:
        # Nearly always there is nothing, and then this starts no program of its own.
        check = sh(
            """@first
_found=$({ @find
} 2>/dev/null)
[ -z "$_found" ] || {
_found=$(printf '%s\\n' "$_found" | head -n 3 | tr '\\n' ' ')
detail="in ${_found% }"
return 1
}""",
            first=self.first,
            find=self.find,
        )
        return Steps(check, self.remove)


@dataclass(frozen=True, slots=True)
class SealReport:
    """The result of sealing. ``removed``: names of the traces that were found and removed. ``facts``: the texts that
    were read, by name. ``not_frozen``: why the host is not frozen; empty if it is, or if that was not asked for.
    ``begun``: False if nothing was done, because the host rebooted.
    """

    removed: tuple[str, ...]
    operations: tuple[OperationResult, ...]
    seconds: float
    facts: Mapping[str, str] = field(default_factory=dict)
    not_frozen: str = ""
    begun: bool = True


def seal(
    connection: Connection,
    *,
    login_key: str,
    secrets: Mapping[str, str] | None = None,
    masked: Iterable[str] = (),
    emit: Emit = ignore_events,
    facts: Iterable[Fact] = (),
    facts_meanwhile: Iterable[Fact] = (),
    facts_after: Iterable[Fact] = (),
    facts_before_stop: Iterable[Fact] = (),
    freeze: bool = False,
    within: Within = nullcontext,
    on_fact: OnFact | None = None,
    since: str = "",
) -> SealReport:
    """Remove every trace of the builder, and trim free space.

    ``login_key``: the public halves of goldenami's temporary SSH keys, one in a line. ``secrets``: values that must not
    be on the disk, by the name of the variable. ``masked``: values that are masked in events and errors. ``facts`` are
    read before the removal, all at the same time; ``facts_meanwhile`` beside it; ``facts_after`` after it, beside what
    comes before the freezing; ``facts_before_stop`` after it, but before services are stopped. ``on_fact``: as in
    ``run_program``. ``since``: a boot id; a host that has booted since, or goes down, is left as it is (``begun`` is
    False). ``freeze``: at last, stop the services and freeze the file systems of the host; nobody can use it
    afterwards. That, and each fact that it waits for, takes ``freezing.DEADLINE`` at most. A second call removes
    nothing. Raises OperationFailed, also if a secret is found, and the other errors of ``run_program``.
    """
    operations: list[Operation] = [*traces_of(login_key)]
    if secrets:  # after the files that sealing removes, and while the host has its machine-id
        at = next(i for i, one in enumerate(operations) if isinstance(one, Trace) and one.name == "machine-id")
        operations.insert(at, SecretSearch(values=dict(secrets)))
    if not freeze:
        operations.append(_Trim())
    place = Mark("", 0, 0)
    stage = Stage("seal", tuple(BoundOperation(o, place) for o in operations))
    before = [*facts, _KEY_PLACES, *([_GOING_DOWN] if since else [])]
    items: list[Item] = [Beside((fact,)) for fact in before]
    # ``before`` ends before the first removal: a package manager that is asked may write a cache or a log. What is read
    # meanwhile writes to the working directory only, but for the files beside a database that it has open.
    items += [Beside(tuple(facts_meanwhile)), Collect(tuple(fact.name for fact in before))]
    if since:
        code = """[ "$boot" = @since ] && [ "$(cat "$work/fact."@going)" != yes ]"""
        items.append(Guard(sh(code, since=since, going=_GOING_DOWN.name)))
    items.append(stage)
    still = tuple(facts_before_stop)
    items += [Beside((fact,)) for fact in (*still, *facts_after)]
    if still:
        items.append(Collect(tuple(fact.name for fact in still)))
    if freeze:
        again = [trace for trace in (*TRACES, _PRIVATE) if trace.name in _WRITTEN_AT_THE_END]
        last = freezing.steps(again, [_Trim()])
        items += [Stage(freezing.STAGE, tuple(BoundOperation(o, place) for o in last)), freezing.FROZEN]
    limits = {freezing.STAGE: freezing.DEADLINE}
    run = run_program(
        connection,
        items,
        emit,
        secrets=masked,
        within=within,
        log_on_disk=False,
        limits=limits,
        fact_limits=limits,  # there, services are stopped while a fact is waited for
        on_fact=on_fact,
    )
    if run.refused:
        return SealReport((), (), run.seconds, run.facts, begun=False)
    done = run.stages[0].operations
    changed = (operations[o.index] for o in done if o.status == "changed")
    removed = tuple(one.name for one in changed if isinstance(one, Trace))
    why = freezing.not_frozen(run.facts.get(freezing.FROZEN.name)) if freeze else ""
    return SealReport(removed, done, run.seconds, run.facts, why)


class SecretSearch(Operation):
    """Looks for the values of secrets on the disk, as they are and encoded, and fails if it finds one.

    ``values``: by the name of the variable. Only files that changed since the day before the first boot are read: the
    machine-id is written at that boot. Texts of fewer than ``SHORTEST`` characters are left out, because they are part
    of many ordinary files: see ``unsearched``.
    """

    values: dict[str, str]

    def title(self) -> str:
        return "look for the recipe's secrets on the disk"

    def compile(self, to: Compilation) -> Steps:
        wanted = {name: patterns for name, value in self.values.items() if (patterns := _patterns(value))}
        every = to.place("".join(wanted.values()).encode())
        named = [
            sh(
                """grep -qF -f @patterns -- "$_path" && echo 'the value of the secret '@name" is in $_path\"""",
                patterns=to.place(patterns.encode()),
                name=name,
            )
            for name, patterns in wanted.items()
        ]
        search = sh(
            """_first=$(stat -c %Y /etc/machine-id 2>/dev/null) || _first=86400
touch -d "@$((_first - 86400))" "$work/since" || return 2
_mounts=$(awk '$1 ~ "^/dev/" && $2 != "/" { print $2 }' /proc/mounts)
_found=$(find / $_mounts -xdev -type f -cnewer "$work/since" -size +0 ! -path "$work/*" \\
-exec env LC_ALL=C grep -lF -f @every -- {} + 2>/dev/null | sort -u)
[ -n "$_found" ] || return 0
printf '%s\\n' "$_found" | while read -r _path; do
@named
done
return 2""",
            every=every,
            named=lines(*named),
        )
        return Steps(search if wanted else Script("return 0"), Script(":"), Script(":"))


SHORTEST = 8  # characters of a secret, or of one of its forms


def unsearched(secrets: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of secrets that the search may miss: no line of the value is long enough to look for it as it
    is. Longer forms of it, such as base64, are looked for."""
    return tuple(name for name, value in secrets.items() if max(map(len, value.splitlines()), default=0) < SHORTEST)


def _patterns(secret: str) -> str:
    """Returns the patterns for grep, one in each line."""
    found = sorted(form for form in forms(secret) if len(form) >= SHORTEST and "\n" not in form)
    return "".join(f"{form}\n" for form in found)


class _Trim(Operation):
    """Discards free blocks, so that the snapshot does not contain deleted data."""

    def title(self) -> str:
        return "trim free space"

    def compile(self, to: Compilation) -> Steps:
        # Some disks, and containers, do not support it. The image is then correct, but its snapshot is larger.
        # The blocks of files that were removed are free once their removal is on the disk.
        apply = Script("sync\nfstrim --all --quiet-unsupported || fstrim / || note 'not possible here'")
        return Steps(Script("return 1"), apply, Script(":"))


def traces_of(login_key: str) -> tuple[Trace, ...]:
    """Return all traces in the order of their removal. Logs come late, since removing other traces writes logs."""
    return (_login_key("\n".join(line.split()[1] for line in login_key.splitlines())), *TRACES)


_GOING_DOWN = Fact("going-down", Script(f"({GOING_DOWN})\n:"))
# Where sshd looks for keys does not change while they are removed, and it takes sshd a while to tell.
_KEY_PLACES = Fact("key-files", Script(KEY_FILES))
_KEY_FILES = "printf '%s\\n' \"$_key_files\""


def _login_key(material: str) -> Trace:
    """Returns the trace of the login keys. Their base64 fields identify them: cloud-init adds options and a comment.

    ``material``: these fields, one in a line, which grep takes as alternatives.
    """
    files = sh(
        """@files | while read -r _keys; do
[ ! -f "$_keys" ] || ! grep -qF -e @material -- "$_keys" || printf '%s\\n' "$_keys"
done""",
        files=Script(_KEY_FILES),
        material=material,
    )
    return Trace(
        name="login-key",
        what="the temporary login key",
        first=sh(
            """[ -n "${_key_files-}" ] || _key_files=$(cat "$work/fact."@read 2>/dev/null)
[ -n "$_key_files" ] || _key_files=$(@find)""",
            read=_KEY_PLACES.name,
            find=_KEY_PLACES.script,
        ),
        find=files,
        remove=_without_lines(files, sh("-F -e @material", material=material)),
    )


def _without_lines(files: Script, pattern: Script) -> Script:
    """Returns code that removes the lines that grep finds by a pattern, and files that are empty then. ``files``: code
    that prints their paths.
    """
    return sh(
        """@files | while read -r _file; do
beside "$_file"
cp --attributes-only --preserve=all -- "$_file" "$new"
grep -v @pattern -- "$_file" >"$new" || :
if [ -s "$new" ]; then replace "$_file"; else rm -f -- "$new" "$_file"; fi
done""",
        files=files,
        pattern=pattern,
    )


# The home directories are the same for all traces: one search serves them.
_HOMES_KEPT = Script(f"""[ -n "${{_homes-}}" ] || _homes=$({HOMES}
)""")


def _in_homes(expression: str, *more: str) -> str:
    """Returns code that finds files in all home directories, and in ``more``, by one ``find``: there are many homes."""
    return f"""(set -f
IFS='
'
set -- {" ".join(more)} $({HOMES})
[ $# -eq 0 ] || find "$@" -xdev -maxdepth 1 -type f {expression})"""


def _files(name: str, what: str, *patterns: str, before: str = "") -> Trace:
    """Returns a trace of files and directories, given by shell patterns. ``before`` is code that runs before the
    removal.
    """
    words = Script(" ".join(patterns))
    find = sh(
        'for _path in @words; do [ ! -e "$_path" ] && [ ! -L "$_path" ] || printf \'%s\\n\' "$_path"; done', words=words
    )
    return Trace(name=name, what=what, find=find, remove=lines(Script(before), sh("rm -rf -- @words", words=words)))


# Files in a home directory that programs write at a login, and that have nothing but the login.
_LOGINS = """.netrc .git-credentials .pypirc .aws/credentials .config/gh/hosts.yml .gem/credentials
.cargo/credentials .cargo/credentials.toml .config/containers/auth.json"""
_LOGIN_FILES = Script(
    f"""{HOMES} | while read -r _home; do
for _file in {" ".join(_LOGINS.split())}; do
[ ! -f "$_home/$_file" ] || printf '%s\\n' "$_home/$_file"
done
_file=$_home/.docker/config.json
[ ! -f "$_file" ] || ! grep -q '"auth"\\|"identitytoken"' "$_file" || printf '%s\\n' "$_file"
done"""
)
# Lines of settings that are kept otherwise.
_LOGIN_LINES = Script("""-e '_authToken *=' -e '_auth *=' -e '_password *=' -e 'npmAuthToken:' -e 'npmAuthIdent:'""")
_NPM_FILES = sh(
    """@homes | while read -r _home; do
for _file in "$_home/.npmrc" "$_home/.yarnrc.yml"; do
[ ! -f "$_file" ] || ! grep -q @lines -- "$_file" || printf '%s\\n' "$_file"
done
done""",
    homes=Script(HOMES),
    lines=_LOGIN_LINES,
)
_CORES = _in_homes("\\( -name core -o -name 'core.[0-9]*' \\)", "/")
_DUMPS = Script(
    f"""for _path in /var/lib/systemd/coredump/* /var/crash/* /var/core/*; do
[ ! -f "$_path" ] || printf '%s\\n' "$_path"
done
{_CORES} | while read -r _path; do
[ "$(head -c 4 -- "$_path" | tail -c 3)" != ELF ] || printf '%s\\n' "$_path"
done"""
)
# Mailboxes, and what the mail programs have not sent yet.
_MAILBOXES = _in_homes("\\( -name mbox -o -name dead.letter \\) -size +0")
_MAIL = Script(
    f"""find /var/mail/ /var/spool/mail/ -xdev -type f -size +0
find /var/spool/postfix/deferred /var/spool/postfix/defer /var/spool/postfix/active /var/spool/postfix/incoming \\
/var/spool/postfix/maildrop /var/spool/postfix/hold /var/spool/postfix/corrupt /var/spool/postfix/bounce -xdev -type f
find /var/spool/exim4/input /var/spool/exim4/msglog /var/spool/mqueue /var/spool/clientmqueue -xdev -type f
{_MAILBOXES}"""
)


def _listed(name: str, what: str, find: Script) -> Trace:
    """Returns a trace of the files that code prints."""
    # set +e: a directory that is missing must not end the search.
    remove = sh('{ set +e\n@find\n} 2>/dev/null | while read -r _path; do rm -f -- "$_path"; done', find=find)
    return Trace(name=name, what=what, find=find, remove=remove, first=_HOMES_KEPT)


_HISTORY = "\\( -name '.*history' -o -name .viminfo -o -name .lesshst -o -name .wget-hsts \\)"
# The private directories of services are in use, and systemd removes them when they stop. Sockets (.X11-unix and
# others) are in use as well.
_TEMPORARY = Script(
    """find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix'"""
)

TRACES: tuple[Trace, ...] = (
    # The running timer is not a file of the disk: it ends a builder whose capture is never begun.
    _files("lifetime", "the service that ends the builder after its lifetime", *lifetime.FILES),
    _files("ssh-host-keys", "SSH host keys", "/etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_*_key.pub"),
    _files(
        "cloud-init",
        "cloud-init's state",
        *(f"/var/lib/cloud/{name}" for name in ("instance", "instances/*", "data/*", "sem/*", "handlers/*")),
        "/var/log/cloud-init*.log",
        # cloud-init writes them for the builder's network card, and again for each instance.
        *(pattern for system in SYSTEMS.values() for pattern in system.network_files),
    ),
    _files(
        "ssm-agent",
        "the registration of Amazon's SSM agent",
        "/var/lib/amazon/ssm/*",
        "/var/log/amazon/ssm/*",
        # The sessions of the agent outlive it, but perhaps not those of its snap: one may carry this connection.
        before="""! systemctl is-active --quiet amazon-ssm-agent || systemctl stop amazon-ssm-agent
_snap=snap.amazon-ssm-agent.amazon-ssm-agent.service
! systemctl is-active --quiet $_snap || grep -qsxF ssm-session-wor /proc/[0-9]*/comm || systemctl stop $_snap""",
    ),
    _files(
        "dhcp-leases",
        "DHCP leases",
        "/var/lib/dhcp/*.leases",
        "/var/lib/dhclient/*.leases",
        "/var/lib/NetworkManager/*.lease",
        "/var/lib/NetworkManager/secret_key",
    ),
    _files(
        "random-seed",
        "the random seed",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        "/boot/efi/loader/random-seed",
        "/var/lib/urandom/random-seed",
        # The service saves a seed when it stops. So it stops before the removal, and not at the later shutdown.
        before="! systemctl is-active --quiet systemd-random-seed || systemctl stop systemd-random-seed",
    ),
    _files(
        "package-cache",
        "package lists and archives",
        *(pattern for manager in MANAGERS.values() for pattern in manager.caches),
    ),
    *(
        _files(trace.name, trace.what, *trace.patterns, before=trace.before)
        for system in SYSTEMS.values()
        for trace in system.traces
    ),
    Trace(
        name="shell-history",
        what="shell history",
        first=_HOMES_KEPT,
        find=Script(_in_homes(_HISTORY)),
        # A home that cannot be searched, as over NFS, or a file that vanishes is no error: what is left is found again.
        remove=Script(_in_homes(f"{_HISTORY} -delete || :")),
    ),
    _listed("logins", "logins of programs (registries, repositories)", _LOGIN_FILES),
    Trace(
        name="npm-logins",
        what="logins of npm and yarn",
        first=_HOMES_KEPT,
        find=_NPM_FILES,
        remove=_without_lines(_NPM_FILES, _LOGIN_LINES),
    ),
    _listed("memory-dumps", "memory dumps", _DUMPS),
    _listed("mail", "mail", _MAIL),
    Trace(
        name="temporary-files",
        what="temporary files",
        find=_TEMPORARY,
        remove=sh("@find -exec rm -rf -- {} +", find=_TEMPORARY),
    ),
    Trace(
        name="logs",
        what="logs",
        find=Script("""find /var/log -xdev -type f -size +0 ! -path '/var/log/journal/*'
find /var/log/journal -mindepth 1 -maxdepth 1"""),
        # journald continues in memory. Files of other programs are truncated, because they are open, and because their
        # owners and modes must be kept.
        remove=Script("""! systemctl is-active --quiet rsyslog || systemctl stop syslog.socket rsyslog
[ ! -d /run/systemd/system ] || journalctl --relinquish-var
[ ! -d /var/log/journal ] || find /var/log/journal -mindepth 1 -delete
find /var/log -xdev -type f \\( -name '*.gz' -o -name '*.xz' -o -name '*.old' -o -name '*.[0-9]' \\) -delete -o \\
-type f -size +0 -exec truncate -s 0 -- {} +"""),
    ),
    Trace(
        name="machine-id",
        what="the machine-id",
        find=Script("""[ ! -s /etc/machine-id ] || echo /etc/machine-id
[ -L /var/lib/dbus/machine-id ] || [ ! -e /var/lib/dbus/machine-id ] || echo /var/lib/dbus/machine-id"""),
        remove=Script(""": >/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id"""),
    ),
    # cloud-init writes the sudo rules of each instance. This is the last trace, because goldenami itself needs the rule
    # to be root on the builder.
    _files("sudo-rules", "cloud-init's sudo rules of the builder", "/etc/sudoers.d/90-cloud-init-users"),
)
"""All traces except the login key, which only its build knows."""

# Before a host is frozen, only services run that stay until its end, so that systemd does not remove their directories.
# These have the id of the boot in their names. Removed ones would be left as inodes without a name, since they are
# mounted. Under any name that begins so, the first boot of an instance removes them (tmpfiles.d/tmp.conf of systemd).
_PRIVATE_TEMPORARY = Script(
    """find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 -name 'systemd-private-*' ! -name 'systemd-private-left-*'"""
)
_PRIVATE = Trace(
    name="private-temporary-files",
    what="temporary directories of services",
    find=_PRIVATE_TEMPORARY,
    remove=sh(
        """_count=0
@find | while read -r _path; do
find "$_path" -xdev -mindepth 2 -delete
while _count=$((_count + 1)); [ -e "${_path%/*}/systemd-private-left-$_count" ]; do :; done
mv -T -- "$_path" "${_path%/*}/systemd-private-left-$_count"
done""",
        find=_PRIVATE_TEMPORARY,
    ),
)
# Names of traces that services leave as they end, or that a frozen host would keep.
_WRITTEN_AT_THE_END = ("ssm-agent", "memory-dumps", "temporary-files", "logs", _PRIVATE.name)

"""Users, groups, authorized SSH keys, and rules for sudo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from goldenami.provision.fields import LARGEST_ID, AbsolutePath, Account, OneLine
from goldenami.provision.operation import Operation, Payload
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh
from goldenami.provision.writing import write


def _public_key(value: str) -> str:
    if not re.search(
        r"(^|\s)(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,}={0,3}(\s|$)", value
    ):
        raise ValueError("expected a line of an authorized_keys file: ssh-ed25519 AAAA… comment")
    return value.strip()


PublicKey = Annotated[OneLine, AfterValidator(_public_key)]


class Group(Operation):
    """Creates, changes or removes a group."""

    kind: ClassVar[str] = "group"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: Account = Field(description="Name of the group.")
    gid: int | None = Field(
        None, ge=0, le=LARGEST_ID, description="Number of the group. Default: the next free number."
    )
    system: bool = Field(False, description="Whether a new group gets a number from the range of system groups.")
    state: Literal["present", "absent"] = Field("present", description="Whether the group exists.")

    def title(self) -> str:
        return f"group {self.name}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {f"the group {self.name}": self.state}

    def compile(self, to: Compilation) -> Steps:
        entry = sh("_entry=$(getent group @name)", name=self.name)
        if self.state == "absent":
            return Steps(sh("! @entry", entry=entry), sh("groupdel -- @name", name=self.name))
        check = [sh("@entry || { detail='does not exist'; return 1; }", entry=entry)]
        options = ["--system"] if self.system else []
        if self.gid is not None:
            gid = str(self.gid)
            options += ["--gid", gid]
            check.append(
                sh(
                    """_gid=$(printf '%s' "$_entry" | cut -d: -f3)
[ "$_gid" = @gid ] || { detail="gid is $_gid"; return 1; }""",
                    gid=gid,
                )
            )
            apply = sh(
                "if @entry; then groupmod --gid @gid -- @name; else groupadd @options -- @name; fi",
                entry=entry,
                gid=gid,
                name=self.name,
                options=options,
            )
        else:
            apply = sh("groupadd @options -- @name", options=options, name=self.name)
        return Steps(lines(*check), apply)


class User(Operation):
    """Creates, changes or removes a user account. Fields without a value are not changed; a new account gets the
    system's defaults, and no password.
    """

    kind: ClassVar[str] = "user"
    brings_units: ClassVar[bool] = False
    shorthand: ClassVar[str | None] = "name"

    name: Account = Field(description="Name of the user.")
    uid: int | None = Field(None, ge=0, le=LARGEST_ID, description="Number of the user. Default: the next free number.")
    group: Account | None = Field(
        None, description="Primary group, which must exist. Default: a new group with the user's name."
    )
    groups: tuple[Account, ...] = Field((), description="More groups. The user stays in its other groups.")
    home: AbsolutePath | None = Field(None, description="Home directory.")
    create_home: bool | None = Field(
        None, description="Whether the home directory of a new account is created. Default: true unless system."
    )
    shell: AbsolutePath | None = Field(None, description="Login shell.")
    comment: OneLine | None = Field(None, description="The full name, or another comment (GECOS).")
    system: bool = Field(False, description="Whether a new account is a system account (number range, no ageing).")
    locked: bool | None = Field(None, description="Whether the password is locked. Logins by key stay possible.")
    password_hash: OneLine | None = Field(
        None, pattern=r"^\$[A-Za-z0-9$./=,+-]+$", description='Hash of the password, as in crypt(5): "$y$j9T$…".'
    )
    expires: str | None = Field(
        None,
        pattern=r"^(never|[0-9]{4}-[0-9]{2}-[0-9]{2})$",
        description='Day on which the account expires: "2027-01-31", or never.',
    )
    authorized_keys: tuple[PublicKey, ...] | None = Field(
        None,
        description="The complete list of public keys for logins; other keys in the account's authorized_keys are "
        "removed. To add a single key, use authorized_key.",
    )
    state: Literal["present", "absent"] = Field(
        "present", description="Whether the account exists. Absent removes it with its home directory."
    )

    @model_validator(mode="after")
    def _plain(self) -> User:
        if self.comment is not None and ":" in self.comment:
            raise ValueError("the comment contains a colon, which /etc/passwd does not permit")
        if self.state == "absent" and self.name == "root":
            raise ValueError("root cannot be removed: the system needs it")
        if self.expires not in (None, "never"):
            date.fromisoformat(self.expires or "")
        return self

    def title(self) -> str:
        return f"user {self.name}" + (" absent" if self.state == "absent" else "")

    def claims(self, payloads: Mapping[str, Payload]) -> Mapping[str, str]:
        return {f"the user {self.name}": self.state}

    def compile(self, to: Compilation) -> Steps:
        entry = sh("_entry=$(getent passwd @name)", name=self.name)
        if self.state == "absent":
            # userdel ends with 12 if the home directory or the mail spool is missing.
            return Steps(
                sh("! @entry", entry=entry),
                sh("userdel --remove -- @name || { _s=$?; [ $_s -eq 12 ] || exit $_s; }", name=self.name),
            )
        keys = self._keys_text()
        contents = to.place(keys.encode()) if keys is not None else Script("")
        # Not as an argument, because all users can read the arguments of a running command.
        password = to.place(f"{self.name}:{self.password_hash}\n".encode()) if self.password_hash else Script("")
        check = lines(
            sh("@entry || { detail='does not exist'; return 1; }", entry=entry),
            self._check(),
            self._check_shadow(password),
            self._check_keys(contents),
        )
        apply = lines(
            sh("if @entry; then", entry=entry),
            sh("usermod @options -- @name", options=self._modify(), name=self.name) if self._modify() else Script(":"),
            sh("else\nuseradd @options -- @name\nfi", options=self._add(), name=self.name),
            sh("chpasswd --encrypted <@password", password=password) if password else password,
            self._lock(),
            self._write_keys(contents),
        )
        return Steps(check, apply)

    def _keys_text(self) -> str | None:
        return None if self.authorized_keys is None else "".join(f"{key}\n" for key in self.authorized_keys)

    def _check(self) -> Script:
        parts = [Script("IFS=: read -r _name _password _uid _gid _comment _home _shell <<_\n$_entry\n_")]
        for variable, value in (
            ("uid", self.uid),
            ("comment", self.comment),
            ("home", self.home),
            ("shell", self.shell),
        ):
            if value is not None:
                parts.append(
                    sh(
                        '[ "$_@v" = @value ] || { detail="@v is $_@v"; return 1; }',
                        v=Script(variable),
                        value=str(value),
                    )
                )
        if self.group is not None:
            parts.append(
                sh(
                    """_group=$(id -gn -- @name)
[ "$_group" = @group ] || [ "$_gid" = @group ] || { detail="group is $_group"; return 1; }""",
                    name=self.name,
                    group=self.group,
                )
            )
        if self.groups:
            parts.append(sh('_groups=" $(id -nG -- @name) "', name=self.name))
            parts += [
                sh(
                    "case $_groups in *@group*) ;; *) detail=@detail; return 1 ;; esac",
                    group=f" {g} ",
                    detail=f"not in group {g}",
                )
                for g in self.groups
            ]
        if self.locked is not None:
            code = "passwd -S -- @name | grep -qE '^[^ ]+ L' @else"
            wrong = Script(
                "|| { detail='is not locked'; return 1; }" if self.locked else "&& { detail='is locked'; return 1; }"
            )
            parts.append(sh(code, name=self.name, **{"else": wrong}))
            if not self.locked:
                parts.append(Script(":"))
        return lines(*parts)

    def _check_shadow(self, password: Script) -> Script:
        parts = []
        if password:
            parts.append(
                sh(
                    """_have=$(getent shadow @name | cut -d: -f1,2 | sed 's/:!/:/')
[ "$_have" = "$(cat @password)" ] || { detail='the password differs'; return 1; }""",
                    name=self.name,
                    password=password,
                )
            )
        if self.expires is not None:
            wanted = "" if self.expires == "never" else str((date.fromisoformat(self.expires) - date(1970, 1, 1)).days)
            parts.append(
                sh(
                    """_expires=$(getent shadow @name | cut -d: -f8)
[ "$_expires" = @wanted ] || { detail="expires on day ${_expires:-never}"; return 1; }""",
                    name=self.name,
                    wanted=wanted,
                )
            )
        return lines(*parts)

    def _options(self) -> list[str]:
        options = []
        if self.expires is not None:
            options += ["--expiredate", "" if self.expires == "never" else self.expires]
        for option, value in (
            ("--uid", self.uid),
            ("--gid", self.group),
            ("--shell", self.shell),
            ("--comment", self.comment),
        ):
            if value is not None:
                options += [option, str(value)]
        return options

    def _modify(self) -> list[str]:
        options = self._options()
        if self.groups:
            options += ["--append", "--groups", ",".join(self.groups)]
        return options + (["--home", self.home] if self.home is not None else [])

    def _add(self) -> list[str]:
        options = self._options()
        if self.groups:
            options += ["--groups", ",".join(self.groups)]
        if self.home is not None:
            options += ["--home-dir", self.home]
        if self.system:
            options.append("--system")
        made = not self.system if self.create_home is None else self.create_home
        options.append("--create-home" if made else "--no-create-home")
        return [*options, "--user-group"] if self.group is None else options

    def _lock(self) -> Script:
        if self.locked is None:
            return Script("")
        return sh("usermod @option -- @name", option="--lock" if self.locked else "--unlock", name=self.name)

    def _check_keys(self, contents: Script) -> Script:
        if not contents:
            return Script("")
        return sh(
            'cmp -s -- @contents "$_home/.ssh/authorized_keys" || { detail="authorized keys differ"; return 1; }',
            contents=contents,
        )

    def _write_keys(self, contents: Script) -> Script:
        if not contents:
            return Script("")
        return sh(
            """_home=$(getent passwd @name | cut -d: -f6) _group=$(id -gn -- @name)
[ -d "$_home/.ssh" ] || install -d -m 0700 -o @name -g "$_group" -- "$_home/.ssh"
beside "$_home/.ssh/authorized_keys"
cat @contents >"$new"
set_attributes "$new" 0600 @name "$_group"
replace "$_home/.ssh/authorized_keys\"""",
            name=self.name,
            contents=contents,
        )


class AuthorizedKey(Operation):
    """Adds or removes one public key for logins of a user; other keys are kept. The base64 part identifies the key, not
    its options or comment.
    """

    kind: ClassVar[str] = "authorized_key"
    brings_units: ClassVar[bool] = False

    user: Account = Field(description="Name of the user, which must exist.")
    key: PublicKey = Field(description="The line for authorized_keys, optionally with options.")
    state: Literal["present", "absent"] = Field("present", description="Whether the user can log in with the key.")

    @property
    def material(self) -> str:
        match = re.search(r"[A-Za-z0-9+/]{40,}={0,3}", self.key)
        assert match is not None
        return match[0]

    def title(self) -> str:
        ending = " absent" if self.state == "absent" else ""
        return f"authorized_key of {self.user}: {self.key.split()[-1][-24:]}{ending}"

    def compile(self, to: Compilation) -> Steps:
        home = sh("_home=$(getent passwd @user | cut -d: -f6)\n_keys=$_home/.ssh/authorized_keys", user=self.user)
        found = sh('_found=$(grep -F -e @material -- "$_keys" 2>/dev/null) || :', material=self.material)
        test = (
            sh(
                "[ \"$_found\" = @key ] || { detail=${_found:+'has other options or comment'}; return 1; }",
                key=self.key,
            )
            if self.state == "present"
            else Script("[ -z \"$_found\" ] || { detail='is authorized'; return 1; }")
        )
        exists = sh('[ -n "$_home" ] || { detail=@why; return 1; }', why=f"no user {self.user}")
        others = sh('if [ -e "$_keys" ]; then grep -vF -e @material -- "$_keys" || :; fi', material=self.material)
        added = sh("printf '%s\\n' @key", key=self.key) if self.state == "present" else Script(":")
        apply = lines(
            home,
            sh(
                """[ -n "$_home" ] || die @why
_group=$(id -gn -- @user)
[ -d "$_home/.ssh" ] || install -d -m 0700 -o @user -g "$_group" -- "$_home/.ssh\"""",
                user=self.user,
                why=f"there is no user {self.user}",
            ),
            write(
                Script('"$_keys"'),
                sh("{ @others; @added; }", others=others, added=added),
                sh('set_attributes "$new" 0600 @user "$_group"', user=self.user),
            ),
        )
        return Steps(lines(home, exists, found, test), apply)


class Sudoers(Operation):
    """Creates a file with sudo rules in /etc/sudoers.d. visudo checks the rules first."""

    kind: ClassVar[str] = "sudoers"
    brings_units: ClassVar[bool] = False
    sources: ClassVar = {"src": "template"}

    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]+$", description="Name of the file. sudo ignores names with a dot or a tilde."
    )
    content: str | None = Field(None, description="The rules, as in sudoers(5). Either this or src.")
    src: str | None = Field(None, description="A template beside the recipe for the rules.")
    state: Literal["present", "absent"] = Field("present", description="Whether the file exists.")

    @model_validator(mode="after")
    def _contents(self) -> Sudoers:
        given = sum(x is not None for x in (self.content, self.src))
        if given != (1 if self.state == "present" else 0):
            raise ValueError(
                "expected either content or src" if self.state == "present" else "an absent file has no content"
            )
        return self

    def title(self) -> str:
        return f"sudoers {self.name}" + (" absent" if self.state == "absent" else "")

    def compile(self, to: Compilation) -> Steps:
        path = f"/etc/sudoers.d/{self.name}"
        if self.state == "absent":
            return Steps(sh("[ ! -e @path ]", path=path), sh("rm -f -- @path", path=path))
        text = (self.content or "").rstrip("\n") + "\n"
        contents = to.payload("src") if self.src is not None else to.place(text.encode())
        return Steps(
            sh(
                """cmp -s -- @contents @path || { detail='contents differ'; return 1; }
attributes @path 0440 root root""",
                path=path,
                contents=contents,
            ),
            sh(
                """command -v visudo >/dev/null || die 'sudo is not installed: add the package sudo before this'
visudo -c -q -f @contents || { visudo -c -f @contents || :; die 'visudo refused these rules; nothing was changed'; }
beside @path
cat @contents >"$new"
set_attributes "$new" 0440 root root
replace @path""",
                path=path,
                contents=contents,
            ),
        )

"""KMS with permissions, key states and regions. moto does the rest.

A key's policy and grants decide about calls, also of other accounts (which name the key by its ARN). Keys belong to one
region. EC2 gets data keys through ``generate`` and ``decrypt``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from goldenami_sandbox import organizations
from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.ec2.hooks import DataKeyPair, KeyInfo, KeyRefused
from goldenami_sandbox.http import Response
from goldenami_sandbox.policy import (
    Access,
    Caller,
    Decision,
    Facts,
    decide_resource,
    names_account,
    names_principal,
)
from goldenami_sandbox.protocol import Call, json_response, replace_body
from goldenami_sandbox.services import Service, World, service

# The answer to a request with DryRun that would succeed ("Testing your permissions", KMS developer guide).
_DRY_RUN = KeyRefused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
_CONTEXT = {"aws:ebs:purpose": "volume data key"}

_CRYPTOGRAPHY = frozenset(
    {
        "Encrypt",
        "Decrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateMac",
        "VerifyMac",
        "ReEncrypt",
        "Sign",
        "Verify",
        "GetPublicKey",
    }
)
# Only symmetric encryption keys make data keys (GenerateDataKey, KMS API reference).
_DATA_KEYS = frozenset({"GenerateDataKey", "GenerateDataKeyWithoutPlaintext"})
# Actions that a disabled key refuses (KMS developer guide, "Key states of AWS KMS keys").
_NEEDS_ENABLED = _CRYPTOGRAPHY | {"CreateGrant"}
# Actions that a key in the state pending deletion still allows.
_WHILE_PENDING = frozenset(
    {
        "CancelKeyDeletion",
        "DescribeKey",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "ListAliases",
        "ListGrants",
        "ListKeyPolicies",
        "ListResourceTags",
        "PutKeyPolicy",
        "RevokeGrant",
        "RetireGrant",
        "TagResource",
        "UntagResource",
        "DeleteAlias",
    }
)
# Actions that accept an alias for a key.
_TAKES_ALIAS = _CRYPTOGRAPHY | {"DescribeKey"}
# Operations of grants that only keys of other kinds have ("Grant operations", KMS developer guide).
_OF_ASYMMETRIC_KEYS = frozenset({"Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret"})
_PRINCIPAL = re.compile(
    r"arn:aws[\w-]*:(?:iam|sts)::(?P<account>\d{12}):"
    r"(?:(?P<kind>user|role|assumed-role|federated-user)/(?P<name>[\w+=,.@/-]+)|root)"
)
_KEY_FIELD = {"CreateAlias": "TargetKeyId", "UpdateAlias": "TargetKeyId", "ReEncrypt": "DestinationKeyId"}


@service("kms")
class Kms(Service):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._surface = world.surface
        with world.surface.active():
            _spare_private_keys()

    # --- the API ------------------------------------------------------------------------------------------------------

    def serve(self, call: Call, identity: Identity) -> Response:
        with self.world.visibility.hide_new(call):
            return self._serve(call, identity)

    def _serve(self, call: Call, identity: Identity) -> Response:
        field = _KEY_FIELD.get(call.action, "KeyId")
        reference = call.json.get(field)
        facts = _facts(call)
        session = identity.session_policies
        with self._surface.active():
            try:
                if call.action in ("Decrypt", "ReEncrypt"):
                    source = self._key_of_ciphertext(call)
                    action = "ReEncryptFrom" if call.action == "ReEncrypt" else "Decrypt"
                    named = call.json.get("SourceKeyId" if call.action == "ReEncrypt" else "KeyId")
                    if isinstance(named, str) and self._require_key(call, named) is not source:
                        raise KeyRefused(
                            "IncorrectKeyException",
                            "The key ID in the request does not identify a CMK that can perform this operation.",
                        )
                    self._check(source, call.action, f"kms:{action}", identity.caller, facts, session)
                    if call.action == "Decrypt":
                        if call.json.get("DryRun"):
                            raise _DRY_RUN
                        return self._forward(call, source, {"KeyId": source.id})
                if not isinstance(reference, str):
                    return self._surface.serve(call)
                key = self._require_key(call, reference)
                action = "ReEncryptTo" if call.action == "ReEncrypt" else call.action
                self._check(key, call.action, f"kms:{action}", identity.caller, facts, session)
                if call.action in _DATA_KEYS and key.key_spec != "SYMMETRIC_DEFAULT":
                    text = f"{key.arn} with the key spec {key.key_spec} is not valid for {call.action}."
                    raise KeyRefused("InvalidKeyUsageException", text)
                if call.action == "CreateGrant":
                    _check_passed_on(key, call, identity.caller, {**self._organization(identity.caller), **facts})
                    self._check_grant(key, call.json)
                if call.json.get("DryRun"):
                    raise _DRY_RUN
                if call.action == "CreateGrant" and (grant := _granted_before(key, call.json)) is not None:
                    return json_response({"GrantId": grant.id, "GrantToken": grant.token})
                if call.action in _OF_SIGNATURES:
                    return json_response(_OF_SIGNATURES[call.action](key, call.json))
                return self.world.visibility.register(call, self._forward(call, key, {field: key.id}))
            except KeyRefused as refusal:
                return call.error(refusal.code, refusal.message, 400)

    def _check_grant(self, key: Any, request: Mapping[str, Any]) -> None:
        """Check the principals and the operations of a new grant. Raises KeyRefused."""
        grantee, of_service = request.get("GranteePrincipal"), request.get("GranteeServicePrincipal")
        if (grantee is None) == (of_service is None):
            raise KeyRefused(
                "ValidationException", "Specify either GranteePrincipal or GranteeServicePrincipal, and not both."
            )
        for principal in (grantee, request.get("RetiringPrincipal")):
            if principal is not None and not self._is_principal(str(principal)):
                raise KeyRefused("InvalidArnException", f"ARN does not refer to a valid principal: {principal}")
        unsupported = [name for name in request["Operations"] if name in _OF_ASYMMETRIC_KEYS]
        if unsupported and key.key_spec == "SYMMETRIC_DEFAULT":
            raise KeyRefused(
                "ValidationException", f"The operations {', '.join(unsupported)} are not supported by this key."
            )

    def _is_principal(self, arn: str) -> bool:
        """Return whether a principal exists. Service-linked roles, and principals of accounts that the sandbox does not
        have, need only the form.
        """
        found = _PRINCIPAL.fullmatch(arn)
        if found is None:
            return False
        account, kind, name = found["account"], found["kind"], found["name"]
        credentials = self.world.credentials
        if account not in credentials.account_ids or arn in credentials.admins or kind in (None, "federated-user"):
            return True
        if kind == "role" and name.startswith("aws-service-role/"):
            return True
        iam = self._surface.backend("iam", account, "aws")
        if kind == "assumed-role":
            name = name.partition("/")[0]
            return any(role.name == name for role in iam.roles.values())
        table = iam.roles if kind == "role" else iam.users
        return any(one.arn == arn for one in table.values())

    def _forward(self, call: Call, key: Any, change: Mapping[str, Any]) -> Response:
        """Let moto answer in the account that owns the key. The key's id replaces its ARN or alias."""
        body = json.dumps({**call.json, **change}).encode()
        return self._surface.serve(replace_body(call, body), account=key.account_id)

    def _require_key(self, call: Call, reference: str) -> Any:
        is_alias = reference.startswith("alias/") or ":alias/" in reference
        if is_alias and call.action not in _TAKES_ALIAS:
            raise KeyRefused("NotFoundException", f"Invalid keyId '{reference}'")
        key = self._find(call.account, call.region, reference)
        if key is None:
            raise _not_found(call.account, call.region, reference)
        return key

    def _key_of_ciphertext(self, call: Call) -> Any:
        """Return the key of a ciphertext, which may belong to another account. moto writes the key's id at its
        beginning.
        """
        try:
            blob = base64.b64decode(call.json.get("CiphertextBlob", ""), validate=True)
            key_id = blob[:36].decode("ascii")
        except (binascii.Error, UnicodeDecodeError, TypeError):
            raise KeyRefused("InvalidCiphertextException", "") from None
        for backend in self._backends(call.region):
            if key_id in backend.keys:
                return backend.keys[key_id]
        raise KeyRefused("InvalidCiphertextException", "")

    def _check(
        self,
        key: Any,
        operation: str,
        action: str,
        caller: Caller,
        context: Facts,
        session: Sequence[str] | None = None,
    ) -> None:
        """Raise an error unless the caller may do this with the key and the key's state allows it. ``session``: as for
        ``Authorization.decide``.
        """
        facts = {
            "kms:CallerAccount": caller.account,
            "kms:ResourceAliases": sorted(key.aliases),
            **self._organization(caller),
            **context,
        }
        lacking = self._lacking(key, action, caller, facts, session)
        if lacking is not None:
            who = caller.arn or f"arn:aws:iam::{caller.account}:root"
            raise KeyRefused(
                "AccessDeniedException",
                f"User: {who} is not authorized to perform: {action} on resource: {key.arn} because no {lacking} "
                f"policy allows the {action} action",
            )
        if key.key_state == "PendingDeletion" and operation not in _WHILE_PENDING:
            raise KeyRefused("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        if operation == "CancelKeyDeletion" and key.key_state != "PendingDeletion":
            raise KeyRefused("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
        if key.key_state == "Disabled" and operation in _NEEDS_ENABLED:
            raise KeyRefused("DisabledException", f"{key.arn} is disabled.")

    def _organization(self, caller: Caller) -> dict[str, str | Sequence[str]]:
        return organizations.facts(self.world.settings().organizations, caller.account)

    def _lacking(
        self, key: Any, action: str, caller: Caller, facts: Facts, session: Sequence[str] | None
    ) -> str | None:
        """Return the kind of policy that does not allow an action, or None if it is allowed.

        A grant, or a key policy that names the caller itself, is enough. A key policy or a grant for an account leaves
        the decision to the identity policies of the account. A principal of another account needs both. (KMS developer
        guide, "Key access and permissions", "Allowing users in other accounts to use a KMS key".) A service-linked role
        has no identity policy about keys, so a policy or a grant must name it ("Required AWS KMS key policy for use
        with encrypted volumes", EC2 Auto Scaling user guide).
        """
        decision, itself = decide_resource(key.policy, action, caller, facts)
        if decision is Decision.DENIED:
            return "resource-based"
        grants = self._granting(key, action, caller, facts)
        if caller.is_service_linked:
            named = decision is Decision.ALLOWED and itself
            return None if named or any(not names_account(one) for one in grants) else "resource-based"
        shared = decision is Decision.ALLOWED or bool(grants)
        if not self.world.authorization.enforcing:
            return None if shared else "resource-based"
        access = Access(action, key.arn, {name.lower(): value for name, value in facts.items()})
        own = self.world.authorization.decide(caller, access, session)
        if own is Decision.DENIED:
            return "identity-based"
        if (itself and key.account_id == caller.account) or any(not names_account(one) for one in grants):
            return None
        if not shared:
            return "resource-based"
        return None if own is Decision.ALLOWED else "identity-based"

    def _granting(self, key: Any, action: str, caller: Caller, context: Facts) -> list[str]:
        """Return the grantees of the grants that allow an action to the caller, and have an effect already."""
        operation = action.removeprefix("kms:")
        return [
            str(grant.grantee_principal)
            for grant in key.grants.values()
            if operation in grant.operations
            and names_principal(grant.grantee_principal, caller)
            and _constraints_hold(grant.constraints or {}, context)
            and self.world.visibility.is_effective(key.region, grant.id)
        ]

    # --- what EC2 asks ------------------------------------------------------------------------------------------------

    def resolve(self, account: str, region: str, reference: str) -> KeyInfo | None:
        """Implements ``Hooks.kms_resolve``."""
        with self._surface.active():
            key = self._find(account, region, reference)
            return None if key is None else _info(key)

    def default_key(self, account: str, region: str) -> KeyInfo:
        with self._surface.active():
            backend = self._surface.backend("kms", account, region)
            key = backend.keys[backend.any_id_to_key_id("alias/aws/ebs")]
            key.key_manager = "AWS"
            key.description = "Default key that protects my EBS volumes when no other key is defined"
            key.policy = _default_key_policy(account, region)
            return _info(key)

    def generate(self, key_arn: str, caller: Caller, source: str | None = None) -> DataKeyPair:
        """Implements ``Hooks.kms_generate``."""
        with self._surface.active():
            key = self._for_ebs(key_arn, caller, "GenerateDataKeyWithoutPlaintext")
            if source is not None and source != key.arn:
                self._for_ebs(source, caller, "ReEncryptFrom", only_enforced=True)
                self._for_ebs(key_arn, caller, "ReEncryptTo", only_enforced=True)
            backend = self._surface.backend("kms", key.account_id, key.region)
            plain, wrapped, _ = backend.generate_data_key(key.id, _CONTEXT, 32, "AES_256")
            return DataKeyPair(plain, wrapped)

    def decrypt(self, wrapped: bytes, key_arn: str, caller: Caller) -> bytes:
        """Implements ``Hooks.kms_decrypt``."""
        with self._surface.active():
            key = self._for_ebs(key_arn, caller, "Decrypt")
            backend = self._surface.backend("kms", key.account_id, key.region)
            plain: bytes = backend.decrypt(wrapped, _CONTEXT)[0]
            return plain

    def serves_role(self, key_arn: str, role: Caller) -> bool:
        """Implements ``Hooks.kms_serves_spot``. A service-linked role has only the permissions that its service needs,
        so the policies of the account do not help.
        """
        with self._surface.active():
            key = self._find(role.account, key_arn.split(":")[3], key_arn)
            if key is None or key.key_manager == "AWS":
                return key is not None
            facts = {"kms:CallerAccount": role.account}
            for action in ("kms:Decrypt", "kms:CreateGrant"):
                decision, itself = decide_resource(key.policy, action, role, facts)
                granted = any(not names_account(one) for one in self._granting(key, action, role, facts))
                if decision is Decision.DENIED or not ((decision is Decision.ALLOWED and itself) or granted):
                    return False
            return True

    def _for_ebs(self, key_arn: str, caller: Caller, operation: str, *, only_enforced: bool = False) -> Any:
        """Return a key that EBS may use for a caller. A principal also needs kms:DescribeKey, and kms:CreateGrant for
        the grant that EBS makes ("Permissions for Amazon EBS encryption", EBS user guide); these are checked only if
        policies are enforced, or for a service-linked role, as is an operation with ``only_enforced``.
        """
        region = key_arn.split(":")[3] if key_arn.startswith("arn:") else ""
        key = self._find(caller.account, region, key_arn)
        if key is None:
            raise _not_found(caller.account, region, key_arn)
        via: dict[str, str | Sequence[str]] = {"kms:ViaService": f"ec2.{region}.amazonaws.com"}
        enforced = (self.world.authorization.enforcing and caller.arn is not None) or caller.is_service_linked
        if not only_enforced or enforced:
            self._check(key, operation, f"kms:{operation}", caller, via)
        if enforced:
            self._check(key, "DescribeKey", "kms:DescribeKey", caller, via)
            operations = ["Decrypt", "GenerateDataKeyWithoutPlaintext"]
            grant = {"kms:GrantIsForAWSResource": "true", "kms:GrantOperations": operations}
            self._check(key, "CreateGrant", "kms:CreateGrant", caller, {**via, **grant})
        return key

    # --- finding keys -------------------------------------------------------------------------------------------------

    def _find(self, account: str, region: str, reference: str) -> Any:
        """Return moto's key object for an id, ARN, alias or alias's ARN, seen from an account and region, or None."""
        if reference.startswith("arn:"):
            parts = reference.split(":", 5)
            if len(parts) != 6 or parts[2] != "kms" or parts[3] != region:
                return None
            account, reference = parts[4], parts[5].removeprefix("key/")
        backend = self._surface.backend("kms", account, region)
        if reference.startswith("alias/"):
            if reference == "alias/aws/ebs":
                self.default_key(account, region)
            key_id = backend.get_key_id_from_alias(reference)
            return None if key_id is None else backend.keys.get(key_id)
        return backend.keys.get(reference)

    def _backends(self, region: str) -> list[Any]:
        from moto.kms.models import kms_backends

        return [regions[region] for regions in list(kms_backends.values()) if region in regions.keys()]  # noqa: SIM118


def _spare_private_keys() -> None:
    """Stop moto from making an RSA key pair for symmetric keys, where it is not used and takes 0.1 seconds."""
    from moto.kms import models
    from moto.kms.utils import KeySpec, generate_private_key

    def only_for_asymmetric(key_spec: str) -> Any:
        return generate_private_key(key_spec) if key_spec in KeySpec.rsa_key_specs() + KeySpec.ecc_key_specs() else None

    module: Any = models
    module.generate_private_key = only_for_asymmetric


def _info(key: Any) -> KeyInfo:
    return KeyInfo(
        arn=key.arn,
        account=key.account_id,
        region=key.region,
        enabled=key.key_state == "Enabled",
        spec=key.key_spec,
        usage=key.key_usage or "ENCRYPT_DECRYPT",  # moto keeps the value of the request, which had none
        aws_managed=key.key_manager == "AWS",
    )


def _default_key_policy(account: str, region: str) -> str:
    """Return the policy of the key aws/ebs: every principal of the account may use it, but only through EC2."""
    use = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey"]
    through = {"kms:CallerAccount": account, "kms:ViaService": f"ec2.{region}.amazonaws.com"}
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    read = ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"]
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": use,
            "Resource": "*",
            "Condition": {"StringEquals": through},
        },
        {"Effect": "Allow", "Principal": root, "Action": read, "Resource": "*"},
    ]
    return json.dumps({"Version": "2012-10-17", "Id": "auto-ebs-2", "Statement": statements})


def _check_passed_on(key: Any, call: Call, caller: Caller, facts: Facts) -> None:
    """Refuse a grant with more operations than the caller's own, if the caller may create grants only by a grant (KMS
    developer guide, "Granting CreateGrant permission").
    """
    context = {"kms:CallerAccount": caller.account, **facts}
    if decide_resource(key.policy, "kms:CreateGrant", caller, context)[0] is Decision.ALLOWED:
        return
    wanted = set(call.json.get("Operations") or ())
    own = [
        set(grant.operations)
        for grant in key.grants.values()
        if "CreateGrant" in grant.operations and names_principal(grant.grantee_principal, caller)
    ]
    if not any(wanted <= operations for operations in own):
        raise KeyRefused(
            "AccessDeniedException",
            f"User: {caller.arn} is not authorized to perform: kms:CreateGrant on resource: {key.arn} because the "
            "operations are not a subset of those of the grant that allows it",
        )


def _granted_before(key: Any, request: Mapping[str, Any]) -> Any:
    """Return the grant that a repeated CreateGrant returns: same name and parameters (KMS API reference)."""
    wanted = (
        request.get("Name"),
        request.get("GranteePrincipal"),
        request.get("RetiringPrincipal"),
        sorted(request.get("Operations") or ()),
        request.get("Constraints") or {},
    )
    return next(
        (
            grant
            for grant in key.grants.values()
            if grant.name
            and wanted
            == (
                grant.name,
                grant.grantee_principal,
                grant.retiring_principal,
                sorted(grant.operations),
                grant.constraints or {},
            )
        ),
        None,
    )


def _constraints_hold(constraints: Mapping[str, Any], context: Facts) -> bool:
    """Return whether the encryption context satisfies a grant's constraints.

    Users cannot constrain the context that EBS sets, so for EBS no constraint holds.
    """
    actual = {
        name.removeprefix("kms:EncryptionContext:"): value
        for name, value in context.items()
        if name.startswith("kms:EncryptionContext:")
    }
    equals, subset = constraints.get("EncryptionContextEquals"), constraints.get("EncryptionContextSubset")
    if equals is not None and equals != actual:
        return False
    return subset is None or subset.items() <= actual.items()


def _facts(call: Call) -> dict[str, str | Sequence[str]]:
    """Return the condition keys of a call: the encryption context, and what a new grant would be."""
    context = call.json.get("EncryptionContext") or call.json.get("SourceEncryptionContext") or {}
    facts: dict[str, str | Sequence[str]] = {
        f"kms:EncryptionContext:{name}": str(value) for name, value in context.items()
    }
    if call.action == "CreateGrant":
        facts["kms:GrantIsForAWSResource"] = "false"
        facts["kms:GrantOperations"] = [str(one) for one in call.json.get("Operations") or ()]
        facts["kms:GranteePrincipal"] = str(call.json.get("GranteePrincipal", ""))
    return {"aws:RequestedRegion": call.region, **facts}


# --- signatures -------------------------------------------------------------------------------------------------------

# moto signs the base64 text of a message, hashes a digest once more, and answers GetPublicKey for symmetric keys.


def _public_key(key: Any, _: Mapping[str, Any]) -> dict[str, object]:
    if key.private_key is None:
        raise KeyRefused("UnsupportedOperationException", f"{key.arn} is not an asymmetric key.")
    algorithms = "SigningAlgorithms" if key.key_usage == "SIGN_VERIFY" else "EncryptionAlgorithms"
    found = key.signing_algorithms if key.key_usage == "SIGN_VERIFY" else key.encryption_algorithms
    return {
        "KeyId": key.arn,
        "PublicKey": base64.b64encode(key.private_key.public_key()).decode(),
        "CustomerMasterKeySpec": key.key_spec,
        "KeySpec": key.key_spec,
        "KeyUsage": key.key_usage,
        algorithms: found,
    }


def _sign(key: Any, request: Mapping[str, Any]) -> dict[str, object]:
    algorithm, message, how, private = _signing(key, request, "Sign")
    signature = private.sign(message, *how)
    return {"KeyId": key.arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": algorithm}


def _verify(key: Any, request: Mapping[str, Any]) -> dict[str, object]:
    algorithm, message, how, private = _signing(key, request, "Verify")
    try:
        private.public_key().verify(base64.b64decode(request["Signature"]), message, *how)
    except InvalidSignature:
        raise KeyRefused("KMSInvalidSignatureException", "") from None
    return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm}


def _signing(key: Any, request: Mapping[str, Any], operation: str) -> tuple[str, bytes, tuple[Any, ...], Any]:
    """Return the algorithm of a signature, the bytes that it is of, how cryptography makes it, and the key (Sign, KMS
    API reference)."""
    algorithm = str(request["SigningAlgorithm"])
    if key.key_usage != "SIGN_VERIFY":
        usage = key.key_usage or "ENCRYPT_DECRYPT"
        raise KeyRefused(
            "InvalidKeyUsageException", f"{key.arn} key usage is {usage} which is not valid for {operation}."
        )
    if algorithm not in key.signing_algorithms:
        raise KeyRefused(
            "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.key_spec}."
        )
    digest: Any = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[-3:]]
    message = base64.b64decode(request["Message"])
    is_digest = request.get("MessageType", "RAW") == "DIGEST"
    if is_digest and len(message) != digest.digest_size:
        raise KeyRefused("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    hashed: Any = utils.Prehashed(digest) if is_digest else digest
    if algorithm.startswith("ECDSA"):
        return algorithm, message, (ec.ECDSA(hashed),), key.private_key.private_key
    scheme: Any = padding.PKCS1v15()
    if algorithm.startswith("RSASSA_PSS"):
        scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return algorithm, message, (scheme, hashed), key.private_key.private_key


_OF_SIGNATURES: dict[str, Callable[[Any, Mapping[str, Any]], dict[str, object]]] = {
    "GetPublicKey": _public_key,
    "Sign": _sign,
    "Verify": _verify,
}


def _not_found(account: str, region: str, reference: str) -> KeyRefused:
    if reference.startswith("arn:"):
        where = reference.split(":")[3] if reference.count(":") >= 5 else ""
        if where != region:
            return KeyRefused("NotFoundException", f"Invalid arn {where}")
        arn = reference
    else:
        kind = "" if reference.startswith("alias/") else "key/"
        arn = f"arn:aws:kms:{region}:{account}:{kind}{reference}"
    noun = "Alias" if ":alias/" in arn else "Key"
    return KeyRefused(
        "NotFoundException", f"{noun} {arn} is not found." if noun == "Alias" else f"Key '{arn}' does not exist"
    )

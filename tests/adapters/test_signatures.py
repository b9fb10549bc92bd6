"""Signatures of versions: what they bind, and whose count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from adapters.domain.names import Digest, Unit
from adapters.domain.versions import signed_by
from adapters.errors import InvalidRequest, Rejected
from adapters.settings import Settings
from adapters.signatures import Signer, Statement, TrustedKeys, public_keys, public_pem
from adapters.signing_keys import check_can_sign, find_signer, signature_policy

SHARED = "postgresql://wardrobe@db/wardrobe"
STATEMENT = Statement(
    adapter="hr", unit=Unit("hr"), digest=Digest("a" * 64), base_fingerprint=Digest("b" * 64)
)


def refusal(trusted: TrustedKeys, signature: str | None, statement: Statement) -> str:
    with pytest.raises(Rejected) as raised:
        trusted.check(signature, statement)
    return raised.value.reason


def test_a_signature_counts_where_its_key_is_trusted_and_names_that_key() -> None:
    signer = Signer.made()
    signature = signer.sign(STATEMENT)
    assert signed_by(signature) == signer.key_id
    TrustedKeys([Signer.made().public, signer.public]).check(signature, STATEMENT)


@pytest.mark.parametrize(
    "changed",
    [
        {"adapter": "sales"},
        {"unit": Unit("sales")},
        {"digest": Digest("c" * 64)},
        {"base_fingerprint": Digest("c" * 64)},
    ],
    ids=str,
)
def test_a_signature_is_of_one_units_adapter_with_its_bytes_and_base(
    changed: dict[str, Any],
) -> None:
    signer = Signer.made()
    trusted = TrustedKeys([signer.public])
    signature = signer.sign(STATEMENT)
    assert refusal(trusted, signature, replace(STATEMENT, **changed)) == "signature_invalid"


def test_each_way_of_not_being_signed_has_its_own_reason() -> None:
    ours, theirs = Signer.made(), Signer.made()
    trusted = TrustedKeys([ours.public])
    signature = ours.sign(STATEMENT)
    forged = f"{ours.key_id}:{theirs.sign(STATEMENT).partition(':')[2]}"
    assert refusal(trusted, None, STATEMENT) == "signature_missing"
    assert refusal(trusted, theirs.sign(STATEMENT), STATEMENT) == "signature_untrusted"
    assert refusal(trusted, forged, STATEMENT) == "signature_invalid"
    for wrong in ("", "x", signature[:-1], f"{signature} ", signature.replace(":", ";")):
        assert refusal(trusted, wrong, STATEMENT) == "signature_invalid"


def test_keys_come_back_from_their_files() -> None:
    signer, other = Signer.made(), Signer.made()
    again = Signer.from_pem(signer.to_pem())
    assert again.sign(STATEMENT) == signer.sign(STATEMENT)
    both = public_keys(public_pem(signer.public) + b"# the next one\n" + public_pem(other.public))
    assert TrustedKeys(both).ids == sorted([signer.key_id, other.key_id])


def test_what_is_no_ed25519_key_is_refused_and_not_quoted() -> None:
    rsa = generate_private_key(public_exponent=65537, key_size=2048)
    private = rsa.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = rsa.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for content in (b"", b"secret words", private, public):
        with pytest.raises(InvalidRequest) as raised:
            Signer.from_pem(content)
        assert "secret" not in raised.value.message
    for content in (b"", b"secret words", private, public, Signer.made().to_pem()):
        with pytest.raises(InvalidRequest):
            public_keys(content)


# -- from settings


def bring(folder: Path, signer: Signer) -> Path:
    path = folder / f"{signer.key_id}.pem"
    path.write_bytes(signer.to_pem())
    return path


def test_a_brought_key_signs_and_counts(tmp_path: Path) -> None:
    signer = Signer.made()
    settings = Settings(
        state=tmp_path, signing_key_file=bring(tmp_path, signer), database_url=SHARED
    )
    found = find_signer(settings)
    assert found is not None
    assert found.key_id == signer.key_id
    policy = signature_policy(settings)
    assert (policy.mode, policy.trusted.ids) == ("require", [signer.key_id])


def test_a_replica_that_only_serves_needs_public_keys_alone_and_several_may_count(
    tmp_path: Path,
) -> None:
    old, new = Signer.made(), Signer.made()
    folder = tmp_path / "trusted"
    (folder / "..data").mkdir(parents=True)  # as a mounted ConfigMap has it
    for signer in (old, new):
        (folder / f"{signer.key_id}.pem").write_bytes(public_pem(signer.public))
    settings = Settings(state=tmp_path, trusted_keys=folder, database_url=SHARED)
    assert find_signer(settings) is None
    policy = signature_policy(settings)
    assert (policy.mode, policy.trusted.ids) == ("require", sorted([old.key_id, new.key_id]))
    one = settings.model_copy(update={"trusted_keys": folder / f"{old.key_id}.pem"})
    assert signature_policy(one).trusted.ids == [old.key_id]


def test_an_installation_without_any_key_asks_for_no_signature_unless_it_says_so(
    tmp_path: Path,
) -> None:
    settings = Settings(state=tmp_path, database_url=SHARED)
    assert signature_policy(settings).mode == "off"
    with pytest.raises(InvalidRequest, match="WARDROBE_SIGNING_KEY_FILE"):
        signature_policy(settings.model_copy(update={"signatures": "require"}))


def test_the_state_folders_key_is_not_that_of_a_registry_which_others_share(
    tmp_path: Path,
) -> None:
    settings = Settings(state=tmp_path)
    settings.state_folder.signing_key.write_bytes(Signer.made().to_pem())
    assert find_signer(settings) is not None
    assert find_signer(Settings(state=tmp_path, database_url=SHARED)) is None


def test_whoever_publishes_needs_a_key_where_signatures_are_required(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    signer = Signer.made()
    trusted.write_bytes(public_pem(signer.public))
    settings = Settings(state=tmp_path, trusted_keys=trusted, database_url=SHARED)
    with pytest.raises(InvalidRequest, match="no key to sign with"):
        check_can_sign(settings)
    check_can_sign(settings.model_copy(update={"signatures": "warn"}))
    check_can_sign(settings.model_copy(update={"signing_key_file": bring(tmp_path, signer)}))
    check_can_sign(Settings(state=tmp_path, signatures="require"))  # its service makes one
    wrong = settings.model_copy(update={"signing_key_file": trusted})
    with pytest.raises(InvalidRequest, match="WARDROBE_SIGNING_KEY_FILE"):
        check_can_sign(wrong)


def test_what_is_required_is_told_by_the_ids_of_keys(tmp_path: Path) -> None:
    signer = Signer.made()
    settings = Settings(state=tmp_path, signing_key_file=bring(tmp_path, signer))
    assert signature_policy(settings).required == [signer.key_id]
    warned = settings.model_copy(update={"signatures": "warn"})
    assert signature_policy(warned).required is None


def test_a_file_that_holds_no_key_is_named_by_its_setting(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("no key")
    for name in ("signing_key_file", "trusted_keys"):
        for path in (wrong, tmp_path / "missing"):
            settings = Settings(state=tmp_path, **{name: path})  # type: ignore[arg-type]
            with pytest.raises(InvalidRequest, match=f"WARDROBE_{name.upper()}"):
                signature_policy(settings)

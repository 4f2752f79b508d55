"""Detached signatures of a dataset, in minisign's format. They vouch for the manifest, and so for every shard in it.

The manifest holds the sha256 of each shard; whoever signs it signs them all. ``minisign -V`` reads these signatures as they
are, without this package:

    minisign -Vm manifest.json -x manifest.json.minisig.md -P RWQ...

(The name ends in .md since a dataset folder holds no other kinds of files; see docs/format.md.) The work is done by
py-minisign, of which minisign's author is a maintainer, on top of cryptography's Ed25519.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import DatasetError
from genrep.extras import install
from genrep.files import faults_named, fsync_folder, write_atomic
from genrep.settings import config
from genrep.untrusted import read_bounded, shown

from .manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, parse_manifest

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey, Signature

SIGNATURE_NAME = "manifest.json.minisig.md"
MAX_TEXT_BYTES = 20_000  # of a key or signature: minisign's own limit on comments is 8192
TRUSTED = "genrep dataset "  # what the signed comment begins with; the manifest's digest follows


@config
class SignConfig:
    """What to sign, and with which key."""

    folder: Path
    key: Path  # a secret key of minisign or ``new_key``
    force: bool = False  # replace a signature by another key


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key pair that was made."""

    secret: Path
    public: Path
    text: str  # the public key as it is passed around: RW...


def new_key(path: Path, password: str | None = None) -> NewKey:
    """Make a key pair: the secret key at ``path`` (mode 0600), the public one at ``path`` + ".pub".

    The secret key is written last, whole or not at all: where it is, the pair is.

    Raises DatasetError if either is there already, or if ``path`` lies in a dataset folder, which is made to be published.
    """
    minisign = _library()
    public = path.with_name(path.name + ".pub")
    if (path.parent / MANIFEST_NAME).exists():
        raise DatasetError.naming("{new_key} {}: is in a dataset folder, which is meant to be published", path)
    if os.path.lexists(path):
        raise DatasetError.naming("{new_key} {}: exists; wanted a new FILE", path)
    if os.path.lexists(public):
        raise DatasetError.naming(
            "{new_key} {}: exists, without the secret key {}; remove it if a {new_key} was "
            "interrupted here, otherwise give another FILE",
            public,
            path.name,
        )
    pair = minisign.KeyPair.generate()
    with pair.secret_key as secret:
        if password:
            secret.encrypt(password)
        _write_new(public, bytes(pair.public_key) + b"\n", 0o644)  # which one process alone can make
        try:
            _write_secret(path, bytes(secret) + b"\n")
        except OSError:
            public.unlink(missing_ok=True)
            raise
    return NewKey(secret=path, public=public, text=pair.public_key.to_base64().decode())


def sign(config: SignConfig, ask: Callable[[], str] | None = None) -> str:
    """Sign the manifest of a finished dataset; returns the public key. The same key gives the same bytes again.

    ``ask`` is called for the password of a protected key. Only the manifest is looked at: verify the shards first.

    Raises:
        DatasetError: no finished dataset, a key that cannot be read or opened, or somebody else's signature is there.
    """
    minisign = _library()
    data, manifest = _manifest(config.folder)
    with _secret_key(config.key, ask) as secret:
        public = secret.get_public_key()
        path = config.folder / SIGNATURE_NAME
        if os.path.lexists(path) and not config.force and not _same_key(_signature(path), public):
            raise DatasetError.naming("{}: not a signature by this key; {force} replaces it", path)
        try:
            signature = secret.sign(data, trusted_comment=f"{TRUSTED}{manifest.digest}")
        except minisign.Error as error:
            raise DatasetError(f"{config.key}: {error}") from None
    write_atomic(path, bytes(signature) + b"\n")
    return public.to_base64().decode()


def verify_signature(folder: Path, public_key: str | Path) -> str:
    """Check that the holder of ``public_key``'s secret half signed the folder's manifest as it is; returns its digest.

    ``public_key``: its text (RW...), or a file (minisign.pub). The shards are not read: ``verify`` compares them
    with the manifest.

    Raises:
        DatasetError: no signature, one by another key, one of another manifest, or something that is not a key; one line.
    """
    minisign = _library()
    public = read_public_key(public_key)
    data, manifest = _manifest(folder)
    path = folder / SIGNATURE_NAME
    if not os.path.lexists(path):
        raise DatasetError(f"{path}: missing: the dataset is not signed")
    signature = _signature(path)
    try:
        public.verify(data, signature)
    except minisign.Error as error:
        reason = "by another key" if "key identifiers" in str(error) else "does not match the manifest"
        raise DatasetError(f"{path}: {reason}; wanted one by {public.to_base64().decode()}") from None
    return manifest.digest


def read_public_key(text: str | Path) -> PublicKey:
    """A public key given as its text or as a file. Raises DatasetError."""
    minisign = _library()
    path = Path(text)
    try:
        if isinstance(text, str) and text.startswith("RW") and not os.path.exists(path):
            return minisign.PublicKey.from_base64(text)
        return minisign.PublicKey.from_bytes(read_bounded(path, MAX_TEXT_BYTES))
    except minisign.Error as error:
        raise DatasetError(f"{shown(str(text), 100)}: not a minisign public key: {error}") from None


def _library() -> Any:
    try:
        import minisign
    except ImportError:
        raise DatasetError(f"signatures need py-minisign; {install('sign')}") from None
    return minisign


def _manifest(folder: Path) -> tuple[bytes, Manifest]:
    """The manifest's bytes, and what they say: of one reading, so that what was signed is what was checked."""
    path = folder / MANIFEST_NAME
    data = read_bounded(path, MAX_MANIFEST_BYTES)
    return data, parse_manifest(data, str(path))


def _secret_key(path: Path, ask: Callable[[], str] | None) -> SecretKey:
    minisign = _library()
    try:
        secret = minisign.SecretKey.from_bytes(read_bounded(path, MAX_TEXT_BYTES))
        if secret.is_encrypted():
            if ask is None:
                raise DatasetError.naming("{key} {}: protected by a password", path)
            secret.decrypt(ask())
    except minisign.Error as error:
        raise DatasetError.naming(
            "{key} {}: not a minisign secret key, or it cannot be opened: {}", path, error
        ) from None
    return secret


def _signature(path: Path) -> Signature:
    minisign = _library()
    try:
        return minisign.Signature.from_bytes(read_bounded(path, MAX_TEXT_BYTES))
    except minisign.Error as error:
        raise DatasetError(f"{path}: not a minisign signature: {error}") from None


def _same_key(signature: Signature, public: PublicKey) -> bool:
    """Whether a signature names this key; ``b"Ed"`` or ``b"ED"`` and eight bytes of the key's number begin both."""
    number = slice(2, 10)
    lines = bytes(signature).splitlines()
    return base64.b64decode(lines[1])[number] == base64.b64decode(public.to_base64())[number]


def _write_secret(path: Path, data: bytes) -> None:
    """Create a file that nobody else may read from its first byte on; a crash leaves no part of it under its name."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # of a call that was killed
    _write_new(temporary, data, 0o600)
    os.replace(temporary, path)
    fsync_folder(path.parent)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Create a file that has its mode from its first byte on, or leave none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with faults_named(path), open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)

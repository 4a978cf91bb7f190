"""The instance key and what is derived from it: sealed upstream credentials and the pepper of API keys.

One 32-byte instance key belongs to one database. HKDF-SHA-256 derives from it four unrelated
values: the pepper of API key digests, the AES-256-GCM key that seals credentials, the key that
names channel accounts without revealing them, and a fingerprint that is stored so that a database
is never opened with another instance's key. A sealed value is
`version byte | 96-bit random nonce | ciphertext and tag`; the table, row and field it belongs to
are authenticated with it, so that a sealed value moved to another row does not open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
from pathlib import Path
from typing import Final, NoReturn

from tollway.config import Settings

FILE_NAME: Final = "instance.key"
KEY_LENGTH: Final = 32
NONCE_LENGTH: Final = 12
VERSION: Final = 1
MASK: Final = "********"
SEALABLE_MAX: Final = 64 * 1024


class BadInstanceKey(Exception):
    """The instance key is missing, malformed or another database's; the message says how to fix it."""


class SealBroken(Exception):
    """A sealed value was written with another key, for another row, or altered since."""


class Secret:
    """A credential in memory. Only `reveal` gives it away: printing, logging and pickling do not."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The credential itself, to be put into a request and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a mapping: hashes leak into dumps

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


class Vault:
    """Seals and opens credentials, and holds the pepper, for one instance key of 32 bytes."""

    __slots__ = ("_cipher", "_scopes", "fingerprint", "pepper")

    def __init__(self, instance_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 40 ms most commands never need

        if len(instance_key) != KEY_LENGTH:
            raise BadInstanceKey(f"an instance key is {KEY_LENGTH} bytes, not {len(instance_key)}")
        self.pepper: Final = _derive(instance_key, b"tollway/1/api-key-pepper")
        """Keys the digests of API keys: 32 bytes."""
        self.fingerprint: Final = _derive(instance_key, b"tollway/1/fingerprint")[:16].hex()
        """Recognises the instance key without revealing it: 32 hexadecimal characters."""
        self._cipher = AESGCM(_derive(instance_key, b"tollway/1/credential-sealing"))
        self._scopes = _derive(instance_key, b"tollway/1/seal-scopes")

    def seal(self, secret: Secret, table: str, row: str, field: str) -> bytes:
        """The credential encrypted for one field of one row. Raises ValueError beyond 64 KiB."""
        plain = secret.reveal().encode()
        if len(plain) > SEALABLE_MAX:
            raise ValueError(f"a credential is at most {SEALABLE_MAX} bytes")
        nonce = os.urandom(NONCE_LENGTH)
        return bytes([VERSION]) + nonce + self._cipher.encrypt(nonce, plain, _place(table, row, field))

    def open(self, sealed: bytes, table: str, row: str, field: str) -> Secret:
        """The credential back. Raises SealBroken."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see above

        if len(sealed) <= 1 + NONCE_LENGTH or sealed[0] != VERSION:
            raise SealBroken(f"{table} {row}: {field} is not sealed in a way this version knows")
        nonce, body = sealed[1 : 1 + NONCE_LENGTH], sealed[1 + NONCE_LENGTH :]
        try:
            return Secret(self._cipher.decrypt(nonce, body, _place(table, row, field)).decode())
        except (InvalidTag, UnicodeDecodeError):
            raise SealBroken(f"{table} {row}: {field} was sealed with another key or altered") from None

    def scope(self, text: str) -> str:
        """A short name for what `text` describes that gives nothing of it away: 16 hexadecimal characters."""
        return hmac.digest(self._scopes, text.encode(), "sha256")[:8].hex()

    def __repr__(self) -> str:
        return f"Vault({self.fingerprint})"


def find_instance_key(settings: Settings) -> bytes | None:
    """The key of the setting, else of the file in the data folder, else None. Raises BadInstanceKey."""
    if settings.instance_key:
        return _decoded(settings.instance_key, "the setting TOLLWAY_INSTANCE_KEY")
    path = key_file(settings)
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInstanceKey(f"cannot read {path}: {error.strerror}") from None
    return _decoded(text.strip(), str(path))


def make_instance_key(settings: Settings) -> bytes:
    """Make DATA/instance.key (mode 0600) unless another process just did; returns the file's key.

    The file is written whole under a name of its own and then linked into place, so that nobody
    ever reads half a key and no existing key is ever replaced.
    """
    path = key_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_LENGTH)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _link(draft, path)
    finally:
        draft.unlink()
    found = find_instance_key(settings)
    if found is None:
        raise BadInstanceKey(f"{path} vanished while it was being made")
    return found


def key_file(settings: Settings) -> Path:
    """Where the instance key is kept when no setting holds it."""
    return Path(settings.data) / FILE_NAME


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_LENGTH:
        raise BadInstanceKey(f"{where} is not a key: it must be {KEY_LENGTH} bytes in base64 (44 characters)")
    return key


def _derive(key: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415 - see above

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)


def _place(table: str, row: str, field: str) -> bytes:
    return f"{table}|{row}|{field}".encode()

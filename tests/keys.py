"""Ed25519 keys for tests, made on the spot."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def pair() -> tuple[bytes, bytes]:
    """A private and its public key, PEM."""
    return _pem(ed25519.Ed25519PrivateKey.generate())


def rsa_pair() -> tuple[bytes, bytes]:
    """Keys of a kind that is not asked for."""
    return _pem(rsa.generate_private_key(65537, 2048))


def _pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> tuple[bytes, bytes]:
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public

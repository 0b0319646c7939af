//! What can be measured: the operations by name, the same for AWS-LC and for every token.

/// A kind of key pair or secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA over P-256.
    P256,
    /// ECDSA over P-384.
    P384,
    /// RSA with so many bits of modulus.
    Rsa(u16),
    /// ML-DSA-65.
    MlDsa65,
    /// AES with 256 bits.
    Aes256,
    /// A generic secret of 32 bytes.
    Secret,
}

impl KeyKind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "p256" => Self::P256,
            "p384" => Self::P384,
            "rsa2048" => Self::Rsa(2048),
            "rsa3072" => Self::Rsa(3072),
            "rsa4096" => Self::Rsa(4096),
            "mldsa65" => Self::MlDsa65,
            "aes256" => Self::Aes256,
            _ => return None,
        })
    }
}

/// One operation, begun and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A signature: ECDSA over a digest, RSA PKCS #1 v1.5 over a SHA-256 DigestInfo, ML-DSA over
    /// 32 bytes.
    Sign(KeyKind),
    /// AES-256-GCM with a new IV of 12 bytes each time, a tag of 16, no associated data.
    Encrypt,
    /// HMAC-SHA-256.
    Mac,
    /// SHA-256.
    Digest,
    /// Random bytes.
    Random,
    /// The cheapest standard call that a token in another process must pass on: C_GetSessionInfo,
    /// whose state the token alone knows.
    RoundTrip,
    /// A new key.
    Generate(KeyKind),
}

impl Operation {
    /// The operation of a name such as `sign-p256`.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(key) = name.strip_prefix("sign-") {
            return match KeyKind::named(key)? {
                KeyKind::Aes256 | KeyKind::Secret => None,
                kind => Some(Self::Sign(kind)),
            };
        }
        if let Some(key) = name.strip_prefix("generate-") {
            return KeyKind::named(key).map(Self::Generate);
        }
        Some(match name {
            "encrypt-aes256gcm" => Self::Encrypt,
            "mac-hmacsha256" => Self::Mac,
            "digest-sha256" => Self::Digest,
            "random" => Self::Random,
            "round-trip" => Self::RoundTrip,
            _ => return None,
        })
    }

    /// The key that it uses.
    pub fn key(self) -> Option<KeyKind> {
        match self {
            Self::Sign(kind) => Some(kind),
            Self::Encrypt => Some(KeyKind::Aes256),
            Self::Mac => Some(KeyKind::Secret),
            Self::Digest | Self::Random | Self::RoundTrip | Self::Generate(_) => None,
        }
    }
}

/// What is measured: an operation with its size, the kind of its objects, and how many are begun
/// before the first is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The operation.
    pub operation: Operation,
    /// Bytes of payload, where the operation has one.
    pub bytes: usize,
    /// Token objects (on disk), not session objects.
    pub token_objects: bool,
    /// Operations in flight in each thread.
    pub in_flight: usize,
}

//! Hash functions by name: their sizes, and AWS-LC's names of them.

use aws_lc_sys::{
    EVP_MD, EVP_sha1, EVP_sha3_224, EVP_sha3_256, EVP_sha3_384, EVP_sha3_512, EVP_sha224,
    EVP_sha256, EVP_sha384, EVP_sha512, EVP_sha512_224, EVP_sha512_256, NID_sha1, NID_sha3_224,
    NID_sha3_256, NID_sha3_384, NID_sha3_512, NID_sha224, NID_sha256, NID_sha384, NID_sha512,
    NID_sha512_224, NID_sha512_256,
};

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1, only where a mechanism's standard needs it.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SHA-512/224.
    Sha512_224,
    /// SHA-512/256.
    Sha512_256,
    /// SHA3-224.
    Sha3_224,
    /// SHA3-256.
    Sha3_256,
    /// SHA3-384.
    Sha3_384,
    /// SHA3-512.
    Sha3_512,
}

impl Hash {
    /// All of them.
    pub const ALL: [Hash; 11] = [
        Hash::Sha1,
        Hash::Sha224,
        Hash::Sha256,
        Hash::Sha384,
        Hash::Sha512,
        Hash::Sha512_224,
        Hash::Sha512_256,
        Hash::Sha3_224,
        Hash::Sha3_256,
        Hash::Sha3_384,
        Hash::Sha3_512,
    ];

    /// Bytes of the digest.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 | Self::Sha512_224 | Self::Sha3_224 => 28,
            Self::Sha256 | Self::Sha512_256 | Self::Sha3_256 => 32,
            Self::Sha384 | Self::Sha3_384 => 48,
            Self::Sha512 | Self::Sha3_512 => 64,
        }
    }

    /// Bytes of a block (the rate, for SHA-3): the HMAC key size that needs no hashing.
    pub const fn block(self) -> usize {
        match self {
            Self::Sha1 | Self::Sha224 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 | Self::Sha512_224 | Self::Sha512_256 => 128,
            Self::Sha3_224 => 144,
            Self::Sha3_256 => 136,
            Self::Sha3_384 => 104,
            Self::Sha3_512 => 72,
        }
    }

    /// The object identifier, DER-encoded with tag and length.
    pub const fn oid(self) -> &'static [u8] {
        const fn nist(last: u8) -> [u8; 11] {
            [
                0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last,
            ]
        }
        match self {
            Self::Sha1 => &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => const { &nist(1) },
            Self::Sha384 => const { &nist(2) },
            Self::Sha512 => const { &nist(3) },
            Self::Sha224 => const { &nist(4) },
            Self::Sha512_224 => const { &nist(5) },
            Self::Sha512_256 => const { &nist(6) },
            Self::Sha3_224 => const { &nist(7) },
            Self::Sha3_256 => const { &nist(8) },
            Self::Sha3_384 => const { &nist(9) },
            Self::Sha3_512 => const { &nist(10) },
        }
    }

    /// AWS-LC's table of the function.
    pub(super) fn md(self) -> *const EVP_MD {
        // SAFETY: these return static tables.
        unsafe {
            match self {
                Self::Sha1 => EVP_sha1(),
                Self::Sha224 => EVP_sha224(),
                Self::Sha256 => EVP_sha256(),
                Self::Sha384 => EVP_sha384(),
                Self::Sha512 => EVP_sha512(),
                Self::Sha512_224 => EVP_sha512_224(),
                Self::Sha512_256 => EVP_sha512_256(),
                Self::Sha3_224 => EVP_sha3_224(),
                Self::Sha3_256 => EVP_sha3_256(),
                Self::Sha3_384 => EVP_sha3_384(),
                Self::Sha3_512 => EVP_sha3_512(),
            }
        }
    }

    /// AWS-LC's number of the function.
    pub(super) const fn nid(self) -> i32 {
        match self {
            Self::Sha1 => NID_sha1,
            Self::Sha224 => NID_sha224,
            Self::Sha256 => NID_sha256,
            Self::Sha384 => NID_sha384,
            Self::Sha512 => NID_sha512,
            Self::Sha512_224 => NID_sha512_224,
            Self::Sha512_256 => NID_sha512_256,
            Self::Sha3_224 => NID_sha3_224,
            Self::Sha3_256 => NID_sha3_256,
            Self::Sha3_384 => NID_sha3_384,
            Self::Sha3_512 => NID_sha3_512,
        }
    }
}

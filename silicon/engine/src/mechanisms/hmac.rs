//! HMAC, whole and truncated, and its keys (PKCS#11 3.2, sections 6.20 to 6.32).

use cryptoki_sys::*;

use super::Mechanism;
use super::mac::{Mac, MacAlgorithm, MacState};
use super::secret::{self, Generation};
use crate::failure::Failure;
use crate::keys::secret::SECRET_MAX;
use crate::keys::{Key, SecretKey};
use crate::lc::digest::{Hash, Value};
use crate::lc::{self, Input, hmac};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Generation {
        kind: CKM_GENERIC_SECRET_KEY_GEN,
        makes: CKK_GENERIC_SECRET,
        usual: None,
        sizes: SIZES,
    },
    &mac(CKM_SHA_1_HMAC, Hash::Sha1, CKK_SHA_1_HMAC),
    &general(CKM_SHA_1_HMAC_GENERAL, Hash::Sha1, CKK_SHA_1_HMAC),
    &generation(CKM_SHA_1_KEY_GEN, Hash::Sha1, CKK_SHA_1_HMAC),
    &mac(CKM_SHA224_HMAC, Hash::Sha224, CKK_SHA224_HMAC),
    &general(CKM_SHA224_HMAC_GENERAL, Hash::Sha224, CKK_SHA224_HMAC),
    &generation(CKM_SHA224_KEY_GEN, Hash::Sha224, CKK_SHA224_HMAC),
    &mac(CKM_SHA256_HMAC, Hash::Sha256, CKK_SHA256_HMAC),
    &general(CKM_SHA256_HMAC_GENERAL, Hash::Sha256, CKK_SHA256_HMAC),
    &generation(CKM_SHA256_KEY_GEN, Hash::Sha256, CKK_SHA256_HMAC),
    &mac(CKM_SHA384_HMAC, Hash::Sha384, CKK_SHA384_HMAC),
    &general(CKM_SHA384_HMAC_GENERAL, Hash::Sha384, CKK_SHA384_HMAC),
    &generation(CKM_SHA384_KEY_GEN, Hash::Sha384, CKK_SHA384_HMAC),
    &mac(CKM_SHA512_HMAC, Hash::Sha512, CKK_SHA512_HMAC),
    &general(CKM_SHA512_HMAC_GENERAL, Hash::Sha512, CKK_SHA512_HMAC),
    &generation(CKM_SHA512_KEY_GEN, Hash::Sha512, CKK_SHA512_HMAC),
    &mac(CKM_SHA512_224_HMAC, Hash::Sha512_224, CKK_SHA512_224_HMAC),
    &general(
        CKM_SHA512_224_HMAC_GENERAL,
        Hash::Sha512_224,
        CKK_SHA512_224_HMAC,
    ),
    &generation(
        CKM_SHA512_224_KEY_GEN,
        Hash::Sha512_224,
        CKK_SHA512_224_HMAC,
    ),
    &mac(CKM_SHA512_256_HMAC, Hash::Sha512_256, CKK_SHA512_256_HMAC),
    &general(
        CKM_SHA512_256_HMAC_GENERAL,
        Hash::Sha512_256,
        CKK_SHA512_256_HMAC,
    ),
    &generation(
        CKM_SHA512_256_KEY_GEN,
        Hash::Sha512_256,
        CKK_SHA512_256_HMAC,
    ),
    &mac(CKM_SHA3_224_HMAC, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &general(CKM_SHA3_224_HMAC_GENERAL, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &generation(CKM_SHA3_224_KEY_GEN, Hash::Sha3_224, CKK_SHA3_224_HMAC),
    &mac(CKM_SHA3_256_HMAC, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &general(CKM_SHA3_256_HMAC_GENERAL, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &generation(CKM_SHA3_256_KEY_GEN, Hash::Sha3_256, CKK_SHA3_256_HMAC),
    &mac(CKM_SHA3_384_HMAC, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &general(CKM_SHA3_384_HMAC_GENERAL, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &generation(CKM_SHA3_384_KEY_GEN, Hash::Sha3_384, CKK_SHA3_384_HMAC),
    &mac(CKM_SHA3_512_HMAC, Hash::Sha3_512, CKK_SHA3_512_HMAC),
    &general(CKM_SHA3_512_HMAC_GENERAL, Hash::Sha3_512, CKK_SHA3_512_HMAC),
    &generation(CKM_SHA3_512_KEY_GEN, Hash::Sha3_512, CKK_SHA3_512_HMAC),
];

/// Bytes of a key.
const SIZES: (u32, u32) = (1, SECRET_MAX as u32);

const fn mac(kind: CK_MECHANISM_TYPE, hash: Hash, key: CK_KEY_TYPE) -> Mac<Hmac> {
    Mac {
        kind,
        algorithm: Hmac { hash, key },
        general: false,
    }
}

const fn general(kind: CK_MECHANISM_TYPE, hash: Hash, key: CK_KEY_TYPE) -> Mac<Hmac> {
    Mac {
        kind,
        algorithm: Hmac { hash, key },
        general: true,
    }
}

const fn generation(kind: CK_MECHANISM_TYPE, hash: Hash, makes: CK_KEY_TYPE) -> Generation {
    Generation {
        kind,
        makes,
        usual: Some(hash.bytes()),
        sizes: SIZES,
    }
}

struct Hmac {
    hash: Hash,
    /// The key type that belongs to the hash; a generic secret fits each.
    key: CK_KEY_TYPE,
}

impl MacAlgorithm for Hmac {
    type Value = Value;
    type State = hmac::Hmac;

    const SIZES: (u32, u32) = SIZES;

    fn bytes(&self) -> usize {
        self.hash.bytes()
    }

    fn key<'a>(&self, key: Option<&'a Key>) -> Result<&'a SecretKey, Failure> {
        secret::of_type(key, &[self.key, CKK_GENERIC_SECRET])
    }

    fn mac(&self, key: &SecretKey, input: Input<'_>) -> Result<Value, lc::Error> {
        key.with_hmac(self.hash, |key| key.mac(input))
    }

    fn begin(&self, key: &SecretKey) -> Result<hmac::Hmac, lc::Error> {
        key.with_hmac(self.hash, |key| Ok(key.begin()))
    }
}

impl MacState for hmac::Hmac {
    type Value = Value;

    fn update(&mut self, input: Input<'_>) -> Result<(), lc::Error> {
        hmac::Hmac::update(self, input)
    }

    fn finish(self) -> Result<Value, lc::Error> {
        hmac::Hmac::finish(self)
    }
}

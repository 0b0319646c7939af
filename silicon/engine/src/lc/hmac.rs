//! HMAC (FIPS 198-1).
//!
//! The key is absorbed once; every operation starts from a copy of that state.

use std::mem::MaybeUninit;

use super::digest::{Hash, Value, wipe};
use super::error::check;
use super::{Error, Input, Secret};
use aws_lc_sys::{
    HMAC_CTX, HMAC_CTX_cleanse, HMAC_CTX_copy_ex, HMAC_CTX_init, HMAC_Final, HMAC_Init_ex,
    HMAC_Update,
};

/// HMAC-SHA-256 of a short message.
pub fn sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    let mut length = 0;
    // SAFETY: every pointer comes with its length; SHA-256 writes 32 bytes. HMAC fails only when it
    // cannot allocate, and then aborts the process.
    unsafe {
        aws_lc_sys::HMAC(
            aws_lc_sys::EVP_sha256(),
            key.as_ptr().cast(),
            key.len(),
            message.as_ptr(),
            message.len(),
            out.as_mut_ptr(),
            &mut length,
        );
    }
    out
}

/// A key, absorbed. Any length, also none.
pub struct HmacKey {
    hash: Hash,
    context: Box<Context>,
}

/// AWS-LC's context: plain data, copied bitwise by its own HMAC_CTX_copy_ex.
struct Context(HMAC_CTX);

// SAFETY: it points to static tables only.
unsafe impl Send for Context {}
// SAFETY: shared references only copy it.
unsafe impl Sync for Context {}

impl Context {
    fn empty() -> Self {
        let mut context = MaybeUninit::<HMAC_CTX>::uninit();
        // SAFETY: HMAC_CTX_init zeroes the whole context.
        Self(unsafe {
            HMAC_CTX_init(context.as_mut_ptr());
            context.assume_init()
        })
    }

    fn finish(&mut self, hash: Hash) -> Result<Value, Error> {
        let mut value = Value::zeroed(hash);
        // SAFETY: the context is keyed; the longest digest fits.
        let done = unsafe { HMAC_Final(&mut self.0, value.as_mut_ptr(), std::ptr::null_mut()) };
        check(done, Error::Internal)?;
        Ok(value)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned plain data; zero is its empty state.
        unsafe {
            HMAC_CTX_cleanse(&mut self.0);
            wipe(&mut self.0);
        }
    }
}

impl HmacKey {
    /// The key for this hash.
    pub fn new(hash: Hash, key: &[u8]) -> Result<Self, Error> {
        let mut context = Box::new(Context::empty());
        // SAFETY: the key is readable for its length; a slice is never null, which would mean "the
        // old key".
        let done = unsafe {
            HMAC_Init_ex(
                &mut context.0,
                key.as_ptr().cast(),
                key.len(),
                hash.md(),
                std::ptr::null_mut(),
            )
        };
        check(done, Error::Internal)?;
        Ok(Self { hash, context })
    }

    /// Its hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The MAC of one input, which may be memory that others change.
    pub fn mac(&self, input: Input<'_>) -> Result<Value, Error> {
        let mut stream = self.begin();
        stream.update(input)?;
        stream.finish()
    }

    /// The MAC of several private pieces.
    pub fn mac_of(&self, pieces: &[&[u8]]) -> Result<Value, Error> {
        let mut stream = self.begin();
        for piece in pieces {
            stream.update(Input::new(piece))?;
        }
        stream.finish()
    }

    /// A MAC in parts.
    pub fn begin(&self) -> Hmac {
        let mut context = MaybeUninit::<HMAC_CTX>::uninit();
        // SAFETY: HMAC_CTX_copy_ex writes the whole context and cannot fail.
        let context = unsafe {
            HMAC_CTX_copy_ex(context.as_mut_ptr(), &self.context.0);
            Context(context.assume_init())
        };
        Hmac {
            hash: self.hash,
            context,
        }
    }
}

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HmacKey({:?})", self.hash)
    }
}

/// A MAC under way.
pub struct Hmac {
    hash: Hash,
    context: Context,
}

impl Hmac {
    /// Takes more input, which may be memory that others change: each byte is read once.
    pub fn update(&mut self, input: Input<'_>) -> Result<(), Error> {
        // SAFETY: the context is keyed; the input is readable for its length.
        let done = unsafe { HMAC_Update(&mut self.context.0, input.as_ptr(), input.len()) };
        check(done, Error::Internal)
    }

    /// The MAC.
    pub fn finish(mut self) -> Result<Value, Error> {
        self.context.finish(self.hash)
    }
}

impl std::fmt::Debug for Hmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hmac({:?})", self.hash)
    }
}

/// A MAC as a secret of its own, for derivations.
pub(super) fn secret_mac(key: &[u8], hash: Hash, pieces: &[&[u8]]) -> Result<Secret, Error> {
    let mut value = HmacKey::new(hash, key)?.mac_of(pieces)?;
    let secret = Secret::copy(&value);
    value.wipe();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    #[test]
    fn rfc_4231_case_2_holds() {
        let (key, data) = (b"Jefe", b"what do ya want for nothing?");
        for (hash, expected) in [
            (
                Hash::Sha224,
                "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44",
            ),
            (
                Hash::Sha256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Hash::Sha384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Hash::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            let key = HmacKey::new(hash, key).unwrap();
            assert_eq!(
                key.mac(Input::new(data)).unwrap().as_slice(),
                hex(expected),
                "{hash:?}"
            );
        }
        assert_eq!(
            sha256(key, data)[..],
            HmacKey::new(Hash::Sha256, key)
                .unwrap()
                .mac(Input::new(data))
                .unwrap()[..]
        );
    }

    proptest! {
        /// HMAC by its definition, from the hash alone.
        #[test]
        fn every_hash_follows_the_definition(
            key in proptest::collection::vec(any::<u8>(), 0..300),
            data in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300,
        ) {
            for hash in Hash::ALL {
                let mut block = if key.len() > hash.block() {
                    crate::lc::digest::digest(hash, Input::new(&key)).unwrap().to_vec()
                } else {
                    key.clone()
                };
                block.resize(hash.block(), 0);
                let pad = |byte: u8| block.iter().map(|k| k ^ byte).collect::<Vec<u8>>();
                let inner = [pad(0x36), data.clone()].concat();
                let inner = crate::lc::digest::digest(hash, Input::new(&inner)).unwrap();
                let outer = [pad(0x5c), inner.to_vec()].concat();
                let expected = crate::lc::digest::digest(hash, Input::new(&outer)).unwrap();
                let absorbed = HmacKey::new(hash, &key).unwrap();
                let cut = cut.min(data.len());
                let mut stream = absorbed.begin();
                stream.update(Input::new(&data[..cut])).unwrap();
                stream.update(Input::new(&data[cut..])).unwrap();
                prop_assert_eq!(stream.finish().unwrap(), expected);
                prop_assert_eq!(absorbed.mac(Input::new(&data)).unwrap(), expected);
            }
        }
    }
}

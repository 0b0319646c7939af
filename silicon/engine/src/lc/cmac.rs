//! CMAC with AES (SP 800-38B).

use super::aes::{BLOCK, Block};
use super::error::{check, failed};
use super::{Error, Input};
use aws_lc_sys::{
    CMAC_CTX, CMAC_CTX_copy, CMAC_CTX_free, CMAC_CTX_new, CMAC_Final, CMAC_Init, CMAC_Update,
    EVP_aes_128_cbc, EVP_aes_192_cbc, EVP_aes_256_cbc,
};

struct Context(*mut CMAC_CTX);

// SAFETY: the context is owned and has no thread affinity.
unsafe impl Send for Context {}
// SAFETY: shared references only copy it, which AWS-LC takes as const.
unsafe impl Sync for Context {}

impl Context {
    fn empty() -> Result<Self, Error> {
        // SAFETY: a new context or null.
        let context = unsafe { CMAC_CTX_new() };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self(context))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC's allocator wipes what it frees.
        unsafe { CMAC_CTX_free(self.0) };
    }
}

/// An AES key with its schedule and subkeys.
pub struct CmacKey(Context);

impl CmacKey {
    /// A key of 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        // SAFETY: these return static tables.
        let cipher = unsafe {
            match key.len() {
                16 => EVP_aes_128_cbc(),
                24 => EVP_aes_192_cbc(),
                32 => EVP_aes_256_cbc(),
                _ => return Err(Error::Size),
            }
        };
        let context = Context::empty()?;
        // SAFETY: the key is readable for its length, which is the cipher's.
        let done = unsafe {
            CMAC_Init(
                context.0,
                key.as_ptr().cast(),
                key.len(),
                cipher,
                std::ptr::null_mut(),
            )
        };
        check(done, Error::Internal)?;
        Ok(Self(context))
    }

    /// The MAC of one input, which may be memory that others change.
    pub fn mac(&self, input: Input<'_>) -> Result<Block, Error> {
        let mut stream = self.begin()?;
        stream.update(input)?;
        stream.finish()
    }

    /// A MAC in parts.
    pub fn begin(&self) -> Result<Cmac, Error> {
        let context = Context::empty()?;
        // SAFETY: both are owned contexts; the source is taken as const.
        let done = unsafe { CMAC_CTX_copy(context.0, self.0.0) };
        check(done, Error::Internal)?;
        Ok(Cmac(context))
    }
}

impl std::fmt::Debug for CmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CmacKey")
    }
}

/// A MAC under way.
pub struct Cmac(Context);

impl Cmac {
    /// Takes more input, which may be memory that others change: each byte is read once.
    pub fn update(&mut self, input: Input<'_>) -> Result<(), Error> {
        // SAFETY: the context is keyed; the input is readable for its length.
        let done = unsafe { CMAC_Update(self.0.0, input.as_ptr(), input.len()) };
        check(done, Error::Internal)
    }

    /// The MAC.
    pub fn finish(self) -> Result<Block, Error> {
        let (mut out, mut length) = ([0; BLOCK], 0);
        // SAFETY: the context is keyed; a block fits.
        let done = unsafe { CMAC_Final(self.0.0, out.as_mut_ptr(), &mut length) };
        check(done, Error::Internal)?;
        Ok(out)
    }
}

impl std::fmt::Debug for Cmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cmac")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    #[test]
    fn rfc_4493_examples_hold() {
        let key = CmacKey::new(&hex("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
        let message =
            hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411");
        for (length, expected) in [
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
        ] {
            let mac = key.mac(Input::new(&message[..length])).unwrap();
            assert_eq!(mac[..], hex(expected));
        }
        assert_eq!(CmacKey::new(&[0; 17]).unwrap_err(), Error::Size);
    }

    proptest! {
        #[test]
        fn parts_give_the_same(
            data in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200,
        ) {
            for length in [16, 24, 32] {
                let key = CmacKey::new(&vec![3; length]).unwrap();
                let cut = cut.min(data.len());
                let mut stream = key.begin().unwrap();
                stream.update(Input::new(&data[..cut])).unwrap();
                stream.update(Input::new(&data[cut..])).unwrap();
                prop_assert_eq!(stream.finish().unwrap(), key.mac(Input::new(&data)).unwrap());
            }
        }
    }
}

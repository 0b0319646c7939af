//! Hash functions: SHA-2 (FIPS 180-4), SHA-3 (FIPS 202), and SHA-1 for what a standard still needs.
//!
//! The SHA-1 and SHA-2 states are plain values: copied without an allocation, and saved and
//! restored as C_GetOperationState needs it. The state of SHA-3 is AWS-LC's own and is only copied.

use std::mem::MaybeUninit;

pub use super::hash::Hash;

use super::error::{check, failed};
use super::{Error, Input};
use aws_lc_sys::{
    EVP_DigestFinal_ex, EVP_DigestInit_ex, EVP_DigestUpdate, EVP_MD_CTX, EVP_MD_CTX_copy_ex,
    EVP_MD_CTX_free, EVP_MD_CTX_new, EVP_shake256, SHA_CTX, SHA1_Final, SHA1_Init, SHA1_Update,
    SHA224_Final, SHA224_Init, SHA256_CTX, SHA256_Final, SHA256_Init, SHA256_Update, SHA384_Final,
    SHA384_Init, SHA512_224_Final, SHA512_224_Init, SHA512_256_Final, SHA512_256_Init, SHA512_CTX,
    SHA512_Final, SHA512_Init, SHA512_Update,
};
use zeroize::Zeroize;

const MALFORMED: Error = Error::Encoding("the saved digest state");
/// Bytes of the longest digest.
pub const DIGEST_MAX: usize = 64;

/// A digest by value: as many bytes as the function gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value {
    bytes: [u8; DIGEST_MAX],
    length: usize,
}

impl Value {
    pub(super) fn zeroed(hash: Hash) -> Self {
        Self {
            bytes: [0; DIGEST_MAX],
            length: hash.bytes(),
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// Wipes it, where it is a secret.
    pub fn wipe(&mut self) {
        self.bytes.zeroize();
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.length)
    }
}

impl std::ops::Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// The digest of one input, which may be memory that others change.
pub fn digest(hash: Hash, input: Input<'_>) -> Result<Value, Error> {
    let mut state = Digest::new(hash)?;
    state.update(input)?;
    state.finish()
}

/// SHAKE256 over several pieces, for the message representatives of ML-DSA.
pub(super) fn shake256<const N: usize>(pieces: &[&[u8]]) -> Result<[u8; N], Error> {
    let mut out = [0; N];
    let context = Sha3(Sha3::empty()?);
    // SAFETY: an owned context; pieces come with their lengths; the output is writable for N bytes.
    unsafe {
        check(
            EVP_DigestInit_ex(context.0, EVP_shake256(), std::ptr::null_mut()),
            Error::Internal,
        )?;
        for piece in pieces {
            check(
                EVP_DigestUpdate(context.0, piece.as_ptr().cast(), piece.len()),
                Error::Internal,
            )?;
        }
        check(
            aws_lc_sys::EVP_DigestFinalXOF(context.0, out.as_mut_ptr(), N),
            Error::Internal,
        )?;
    }
    Ok(out)
}

/// AWS-LC's digest context, owned.
struct Sha3(*mut EVP_MD_CTX);

// SAFETY: the context is owned and has no thread affinity.
unsafe impl Send for Sha3 {}
// SAFETY: shared references only copy it, which AWS-LC takes as const.
unsafe impl Sync for Sha3 {}

impl Sha3 {
    fn empty() -> Result<*mut EVP_MD_CTX, Error> {
        // SAFETY: a new context or null.
        let context = unsafe { EVP_MD_CTX_new() };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(context)
    }
}

impl Drop for Sha3 {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes the state.
        unsafe { EVP_MD_CTX_free(self.0) };
    }
}

enum State {
    Sha1(SHA_CTX),
    Sha256(SHA256_CTX),
    Sha512(SHA512_CTX),
    Sha3(Sha3),
}

/// A digest under way.
pub struct Digest {
    hash: Hash,
    state: State,
}

impl Digest {
    /// An empty digest.
    pub fn new(hash: Hash) -> Result<Self, Error> {
        let state = match hash {
            Hash::Sha1 => {
                let mut context = MaybeUninit::<SHA_CTX>::zeroed();
                // SAFETY: initialises the context, which is plain data.
                State::Sha1(unsafe {
                    SHA1_Init(context.as_mut_ptr());
                    context.assume_init()
                })
            }
            Hash::Sha224 | Hash::Sha256 => {
                let mut context = MaybeUninit::<SHA256_CTX>::zeroed();
                // SAFETY: initialises the context, which is plain data.
                State::Sha256(unsafe {
                    match hash {
                        Hash::Sha224 => SHA224_Init(context.as_mut_ptr()),
                        _ => SHA256_Init(context.as_mut_ptr()),
                    };
                    context.assume_init()
                })
            }
            Hash::Sha384 | Hash::Sha512 | Hash::Sha512_224 | Hash::Sha512_256 => {
                let mut context = MaybeUninit::<SHA512_CTX>::zeroed();
                // SAFETY: initialises the context, which is plain data.
                State::Sha512(unsafe {
                    match hash {
                        Hash::Sha384 => SHA384_Init(context.as_mut_ptr()),
                        Hash::Sha512_224 => SHA512_224_Init(context.as_mut_ptr()),
                        Hash::Sha512_256 => SHA512_256_Init(context.as_mut_ptr()),
                        _ => SHA512_Init(context.as_mut_ptr()),
                    };
                    context.assume_init()
                })
            }
            Hash::Sha3_224 | Hash::Sha3_256 | Hash::Sha3_384 | Hash::Sha3_512 => {
                let context = Sha3(Sha3::empty()?);
                // SAFETY: an owned context and a static table.
                let done = unsafe { EVP_DigestInit_ex(context.0, hash.md(), std::ptr::null_mut()) };
                check(done, Error::Internal)?;
                State::Sha3(context)
            }
        };
        Ok(Self { hash, state })
    }

    /// Its function.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Takes more input, which may be memory that others change: each byte is read once.
    pub fn update(&mut self, input: Input<'_>) -> Result<(), Error> {
        let (data, length) = (input.as_ptr().cast(), input.len());
        // SAFETY: the states are initialised; the input is readable for its length.
        let done = unsafe {
            match &mut self.state {
                State::Sha1(context) => SHA1_Update(context, data, length),
                State::Sha256(context) => SHA256_Update(context, data, length),
                State::Sha512(context) => SHA512_Update(context, data, length),
                State::Sha3(context) => EVP_DigestUpdate(context.0, data, length),
            }
        };
        check(done, Error::Internal)
    }

    /// The digest. The state is of no further use.
    pub fn finish(mut self) -> Result<Value, Error> {
        let mut value = Value::zeroed(self.hash);
        let out = value.as_mut_ptr();
        // SAFETY: the states are initialised; the longest digest fits.
        let done = unsafe {
            match (&mut self.state, self.hash) {
                (State::Sha1(context), _) => SHA1_Final(out, context),
                (State::Sha256(context), Hash::Sha224) => SHA224_Final(out, context),
                (State::Sha256(context), _) => SHA256_Final(out, context),
                (State::Sha512(context), Hash::Sha384) => SHA384_Final(out, context),
                (State::Sha512(context), Hash::Sha512_224) => SHA512_224_Final(out, context),
                (State::Sha512(context), Hash::Sha512_256) => SHA512_256_Final(out, context),
                (State::Sha512(context), _) => SHA512_Final(out, context),
                (State::Sha3(context), _) => {
                    EVP_DigestFinal_ex(context.0, out, std::ptr::null_mut())
                }
            }
        };
        check(done, Error::Internal)?;
        Ok(value)
    }

    /// A copy of the state.
    pub fn duplicate(&self) -> Result<Self, Error> {
        let state = match &self.state {
            State::Sha1(context) => State::Sha1(*context),
            State::Sha256(context) => State::Sha256(*context),
            State::Sha512(context) => State::Sha512(*context),
            State::Sha3(context) => {
                let copy = Sha3(Sha3::empty()?);
                // SAFETY: both are owned contexts; the source is taken as const.
                let done = unsafe { EVP_MD_CTX_copy_ex(copy.0, context.0) };
                check(done, Error::Internal)?;
                State::Sha3(copy)
            }
        };
        Ok(Self {
            hash: self.hash,
            state,
        })
    }

    /// The state in bytes: chaining words, count of bits and buffered input, big-endian. SHA-3 gives
    /// None: AWS-LC does not let its state out.
    pub fn save(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(8 * 8 + 16 + 1 + 128);
        let (count, buffer, used): (u128, &[u8], u32) = match &self.state {
            State::Sha1(context) => {
                out.extend(context.h.iter().flat_map(|word| word.to_be_bytes()));
                let count = u128::from(context.Nh) << 32 | u128::from(context.Nl);
                (count, &context.data, context.num)
            }
            State::Sha256(context) => {
                out.extend(context.h.iter().flat_map(|word| word.to_be_bytes()));
                let count = u128::from(context.Nh) << 32 | u128::from(context.Nl);
                (count, &context.data, context.num)
            }
            State::Sha512(context) => {
                out.extend(context.h.iter().flat_map(|word| word.to_be_bytes()));
                let count = u128::from(context.Nh) << 64 | u128::from(context.Nl);
                (count, &context.p, context.num)
            }
            State::Sha3(_) => return None,
        };
        out.extend(count.to_be_bytes());
        out.extend(buffer.get(..usize::try_from(used).ok()?)?);
        Some(out)
    }

    /// The digest that `save` gave. Bytes that no digest of the function can have are refused.
    pub fn restore(hash: Hash, saved: &[u8]) -> Result<Self, Error> {
        let mut digest = Self::new(hash)?;
        let words = match &digest.state {
            State::Sha1(context) => size_of_val(&context.h),
            State::Sha256(context) => size_of_val(&context.h),
            State::Sha512(context) => size_of_val(&context.h),
            State::Sha3(_) => return Err(Error::Unsupported("a saved state of SHA-3")),
        };
        let (words, rest) = saved.split_at_checked(words).ok_or(MALFORMED)?;
        let (count, buffered) = rest.split_first_chunk().ok_or(MALFORMED)?;
        let count = u128::from_be_bytes(*count);
        let used = count / 8 % hash.block() as u128;
        if count % 8 != 0 || used != buffered.len() as u128 {
            return Err(MALFORMED);
        }
        let used = buffered.len() as u32;
        match &mut digest.state {
            State::Sha1(context) => {
                fill_words(&mut context.h, words, u32::from_be_bytes);
                (context.Nl, context.Nh) = halves(count)?;
                fill(&mut context.data, buffered);
                context.num = used;
            }
            State::Sha256(context) => {
                fill_words(&mut context.h, words, u32::from_be_bytes);
                (context.Nl, context.Nh) = halves(count)?;
                fill(&mut context.data, buffered);
                context.num = used;
            }
            State::Sha512(context) => {
                fill_words(&mut context.h, words, u64::from_be_bytes);
                context.Nl = count as u64;
                context.Nh = (count >> 64) as u64;
                fill(&mut context.p, buffered);
                context.num = used;
            }
            State::Sha3(_) => {}
        }
        Ok(digest)
    }
}

fn fill_words<T, const N: usize>(words: &mut [T], bytes: &[u8], read: fn([u8; N]) -> T) {
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = read(*bytes);
    }
}

fn halves(count: u128) -> Result<(u32, u32), Error> {
    let count = u64::try_from(count).map_err(|_| MALFORMED)?;
    Ok((count as u32, (count >> 32) as u32))
}

fn fill(buffer: &mut [u8], bytes: &[u8]) {
    for (place, byte) in buffer.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

impl Drop for Digest {
    fn drop(&mut self) {
        // SAFETY: plain data of known size: what was hashed may be secret.
        unsafe {
            match &mut self.state {
                State::Sha1(context) => wipe(context),
                State::Sha256(context) => wipe(context),
                State::Sha512(context) => wipe(context),
                State::Sha3(_) => {}
            }
        }
    }
}

/// Wipes plain data.
///
/// # Safety
/// All zero bytes must be a valid value of the type.
pub(super) unsafe fn wipe<T>(value: &mut T) {
    // SAFETY: the reference covers `size_of::<T>()` writable bytes.
    unsafe { aws_lc_sys::OPENSSL_cleanse(std::ptr::from_mut(value).cast(), size_of::<T>()) };
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({:?})", self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    /// FIPS 180 and FIPS 202 examples: the digests of "abc".
    const ABC: [(Hash, &str); 11] = [
        (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            Hash::Sha224,
            "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        ),
        (
            Hash::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            Hash::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            Hash::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            Hash::Sha512_224,
            "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa",
        ),
        (
            Hash::Sha512_256,
            "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
        ),
        (
            Hash::Sha3_224,
            "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
        ),
        (
            Hash::Sha3_256,
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
        ),
        (
            Hash::Sha3_384,
            "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
        ),
        (
            Hash::Sha3_512,
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
        ),
    ];

    #[test]
    fn known_answers_hold() {
        for (hash, expected) in ABC {
            let value = digest(hash, Input::new(b"abc")).unwrap();
            assert_eq!(value.as_slice(), hex(expected), "{hash:?}");
            assert_eq!(value.len(), hash.bytes());
        }
    }

    proptest! {
        #[test]
        fn parts_copies_and_saved_states_give_the_same(
            data in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600,
        ) {
            let cut = cut.min(data.len());
            for hash in Hash::ALL {
                let whole = digest(hash, Input::new(&data)).unwrap();
                let mut first = Digest::new(hash).unwrap();
                first.update(Input::new(&data[..cut])).unwrap();
                let mut copy = first.duplicate().unwrap();
                copy.update(Input::new(&data[cut..])).unwrap();
                prop_assert_eq!(copy.finish().unwrap(), whole);
                if let Some(saved) = first.save() {
                    let mut again = Digest::restore(hash, &saved).unwrap();
                    again.update(Input::new(&data[cut..])).unwrap();
                    prop_assert_eq!(again.finish().unwrap(), whole);
                    prop_assert!(Digest::restore(hash, &[&saved[..], &[0]].concat()).is_err());
                }
            }
        }

        #[test]
        fn no_saved_state_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for hash in Hash::ALL {
                if let Ok(mut digest) = Digest::restore(hash, &bytes) {
                    digest.update(Input::new(b"abc")).unwrap();
                    digest.finish().unwrap();
                }
            }
        }
    }
}

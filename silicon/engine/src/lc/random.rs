//! Randomness: AWS-LC's own for the vault itself, a CTR_DRBG (SP 800-90A, AES-256, no derivation
//! function) for each partition, seeded by the operating system.

use super::{Error, Secret};
use aws_lc_sys::{
    CTR_DRBG_STATE, CTR_DRBG_free, CTR_DRBG_generate, CTR_DRBG_new, CTR_DRBG_reseed, RAND_bytes,
};

/// Bytes of entropy that a CTR_DRBG takes.
const ENTROPY: usize = 48;
/// Most bytes of one generate call (CTR_DRBG_MAX_GENERATE_LENGTH).
const GENERATE_MAX: usize = 65536;
/// Generate calls between reseeds; SP 800-90A allows 2^48.
const RESEED_INTERVAL: u64 = 4096;

/// Fills with AWS-LC's random bytes.
pub fn fill(out: &mut [u8]) -> Result<(), Error> {
    // SAFETY: the buffer is writable for its length.
    if unsafe { RAND_bytes(out.as_mut_ptr(), out.len()) } == 1 {
        Ok(())
    } else {
        Err(Error::Internal)
    }
}

fn entropy() -> Result<Secret, Error> {
    let mut seed = Secret::zeroed(ENTROPY);
    let bytes = seed.expose_mut();
    // SAFETY: the buffer is writable for its length; at most 256 bytes come whole or not at all.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(count) == Ok(ENTROPY) {
        Ok(seed)
    } else {
        Err(Error::Internal)
    }
}

/// A deterministic random bit generator of its own.
#[derive(Debug)]
pub struct Drbg {
    state: *mut CTR_DRBG_STATE,
    calls: u64,
}

// SAFETY: the state is owned and has no thread affinity.
unsafe impl Send for Drbg {}

impl Drbg {
    /// A generator with fresh entropy and this personalization (at most 48 bytes).
    pub fn new(personalization: &[u8]) -> Result<Self, Error> {
        let seed = entropy()?;
        // SAFETY: 48 bytes of entropy, and the personalization with its length.
        let state = unsafe {
            CTR_DRBG_new(
                seed.expose().as_ptr(),
                personalization.as_ptr(),
                personalization.len().min(ENTROPY),
            )
        };
        if state.is_null() {
            Err(Error::Internal)
        } else {
            Ok(Self { state, calls: 0 })
        }
    }

    /// Fills with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        for piece in out.chunks_mut(GENERATE_MAX) {
            self.calls += 1;
            if self.calls > RESEED_INTERVAL {
                self.mix(&[])?;
            }
            // SAFETY: the state is valid; the piece is writable for its length.
            let done = unsafe {
                CTR_DRBG_generate(
                    self.state,
                    piece.as_mut_ptr(),
                    piece.len(),
                    std::ptr::null(),
                    0,
                )
            };
            if done != 1 {
                return Err(Error::Internal);
            }
        }
        Ok(())
    }

    /// Reseeds from the operating system, with further bytes mixed in (48 at a time).
    pub fn mix(&mut self, additional: &[u8]) -> Result<(), Error> {
        let pieces = additional
            .chunks(ENTROPY)
            .chain(additional.is_empty().then_some(&[][..]));
        for piece in pieces {
            let seed = entropy()?;
            // SAFETY: the state is valid; 48 bytes of entropy; the piece with its length.
            let done = unsafe {
                CTR_DRBG_reseed(
                    self.state,
                    seed.expose().as_ptr(),
                    piece.as_ptr(),
                    piece.len(),
                )
            };
            if done != 1 {
                return Err(Error::Internal);
            }
        }
        self.calls = 0;
        Ok(())
    }
}

impl Drop for Drbg {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes it.
        unsafe { CTR_DRBG_free(self.state) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_differ_and_go_on() {
        let mut one = Drbg::new(b"one").unwrap();
        let mut two = Drbg::new(b"one").unwrap();
        let (mut a, mut b, mut c) = (vec![0; 70_000], vec![0; 70_000], vec![0; 70_000]);
        one.fill(&mut a).unwrap();
        two.fill(&mut b).unwrap();
        one.mix(&[7; 100]).unwrap();
        one.fill(&mut c).unwrap();
        assert!(a != b && a != c && a.iter().any(|byte| *byte != 0));
    }
}

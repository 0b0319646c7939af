//! CTR in parts, with a counter of any width.

use std::borrow::Borrow;

use super::{AesKey, BLOCK, Block};
use crate::lc::{Error, Input, Output};
use aws_lc_sys::AES_ctr128_encrypt;
use zeroize::Zeroize;

/// CTR under way. `K` is how the key is held.
pub struct Ctr<K: Borrow<AesKey>> {
    key: K,
    counter: Block,
    prefix: u128,
    bits: u32,
    keystream: Block,
    used: u32,
    /// Bytes until a counter block would come back.
    left: u128,
}

impl<K: Borrow<AesKey>> Ctr<K> {
    /// From this first counter block, whose low `bits` (1 to 128) count.
    pub fn new(key: K, counter: &Block, bits: u32) -> Result<Self, Error> {
        if !(1..=128).contains(&bits) {
            return Err(Error::Parameter);
        }
        Ok(Self {
            key,
            counter: *counter,
            prefix: u128::from_be_bytes(*counter) & !low(bits),
            bits,
            keystream: [0; BLOCK],
            used: 0,
            left: 1u128
                .checked_shl(bits)
                .and_then(|blocks| blocks.checked_mul(BLOCK as u128))
                .unwrap_or(u128::MAX),
        })
    }

    /// Encrypts or decrypts more.
    pub fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let total = input.len();
        output.reserve(total)?;
        let left = self
            .left
            .checked_sub(total as u128)
            .ok_or(Error::DataLength)?;
        let copy =
            (input.overlaps(output, total) && !input.in_place(output)).then(|| input.to_secret());
        let input = copy
            .as_ref()
            .map_or(input, |copy| Input::new(copy.expose()));
        let mut offset = 0;
        while offset < total {
            let piece = input.part(offset, self.until_wrap());
            let target = output.reserve(piece.len())?;
            // SAFETY: readable and writable for the length, apart or the same; counter and
            // keystream are blocks and `used` is below 16, as the last call left it.
            unsafe {
                AES_ctr128_encrypt(
                    piece.as_ptr(),
                    target,
                    piece.len(),
                    self.key.borrow().encrypt.0.as_ref(),
                    self.counter.as_mut_ptr(),
                    self.keystream.as_mut_ptr(),
                    &mut self.used,
                );
            }
            output.advance(piece.len());
            offset += piece.len();
            // AWS-LC counts in all 128 bits: undo a carry out of the counting ones.
            let counter = u128::from_be_bytes(self.counter);
            self.counter = (self.prefix | (counter & low(self.bits))).to_be_bytes();
        }
        self.left = left;
        Ok(())
    }

    /// Bytes that can be processed before the counting bits wrap.
    fn until_wrap(&self) -> usize {
        let ready = (BLOCK as u128 - u128::from(self.used)) % BLOCK as u128;
        let value = u128::from_be_bytes(self.counter) & low(self.bits);
        let blocks = (low(self.bits) - value).saturating_add(1);
        let bytes = blocks.saturating_mul(BLOCK as u128).saturating_add(ready);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl<K: Borrow<AesKey>> Drop for Ctr<K> {
    fn drop(&mut self) {
        self.keystream.zeroize();
    }
}

impl<K: Borrow<AesKey>> std::fmt::Debug for Ctr<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ctr({} bits)", self.bits)
    }
}

pub(super) fn low(bits: u32) -> u128 {
    u128::MAX >> (128 - bits.clamp(1, 128))
}

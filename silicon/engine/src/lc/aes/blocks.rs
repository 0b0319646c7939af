//! ECB and CBC in parts, with and without the padding of PKCS #7.

use std::borrow::Borrow;

use super::{AesKey, BLOCK, Block, Direction, xor};
use crate::lc::error::check;
use crate::lc::{Error, Input, Output};
use aws_lc_sys::{AES_DECRYPT, AES_ENCRYPT, AES_cbc_encrypt, EVP_Cipher};
use zeroize::Zeroize;

enum Mode {
    Ecb,
    Cbc(Block),
}

/// ECB or CBC under way. `K` is how the key is held: `&AesKey` or `Arc<AesKey>`.
pub struct Blocks<K: Borrow<AesKey>> {
    key: K,
    pub(super) direction: Direction,
    mode: Mode,
    pub(super) padding: bool,
    held: Block,
    count: usize,
}

impl<K: Borrow<AesKey>> Blocks<K> {
    /// ECB.
    pub fn ecb(key: K, direction: Direction) -> Self {
        Self::new(key, direction, Mode::Ecb, false)
    }

    /// CBC.
    pub fn cbc(key: K, direction: Direction, iv: &Block) -> Self {
        Self::new(key, direction, Mode::Cbc(*iv), false)
    }

    /// CBC with the padding of PKCS #7.
    pub fn cbc_padded(key: K, direction: Direction, iv: &Block) -> Self {
        Self::new(key, direction, Mode::Cbc(*iv), true)
    }

    fn new(key: K, direction: Direction, mode: Mode, padding: bool) -> Self {
        Self {
            key,
            direction,
            mode,
            padding,
            held: [0; BLOCK],
            count: 0,
        }
    }

    /// Bytes that `update` with this many would write; for `finish` (None) the most.
    pub fn output_length(&self, input: Option<usize>) -> usize {
        match input {
            Some(length) => self.ready(self.count + length),
            None if self.padding => BLOCK,
            None => 0,
        }
    }

    /// Of so many bytes, how many can be processed now: the last block of a padded ciphertext waits.
    fn ready(&self, total: usize) -> usize {
        if self.padding && self.direction == Direction::Decrypt {
            total.saturating_sub(1) / BLOCK * BLOCK
        } else {
            total / BLOCK * BLOCK
        }
    }

    /// Takes more and writes the blocks that are complete.
    pub fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let ready = self.ready(self.count + input.len());
        if ready == 0 {
            self.hold(input);
            return Ok(());
        }
        output.reserve(ready)?;
        let shifted = input.overlaps(output, ready) && (self.count > 0 || !input.in_place(output));
        let copy = shifted.then(|| input.to_secret());
        let input = copy
            .as_ref()
            .map_or(input, |copy| Input::new(copy.expose()));
        let (mut taken, mut rest) = (0, ready);
        if self.count > 0 {
            rest = ready - BLOCK;
            taken = BLOCK - self.count;
            self.hold(input.part(0, taken));
            let mut block = self.held;
            self.one(&mut block);
            output.write(&block)?;
            block.zeroize();
            self.count = 0;
        }
        let target = output.reserve(rest)?;
        self.many(input.part(taken, rest), target)?;
        output.advance(rest);
        self.hold(input.part(taken + rest, BLOCK));
        Ok(())
    }

    /// Ends it: what is left must be whole, or is padded, or is the padded last block.
    pub fn finish(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        let count = std::mem::take(&mut self.count);
        let mut block = self.held;
        let result = match (self.padding, self.direction) {
            (false, _) if count == 0 => Ok(()),
            (true, Direction::Encrypt) => {
                let pad = BLOCK - count;
                if let Some(tail) = block.get_mut(count..) {
                    tail.fill(pad as u8);
                }
                self.one(&mut block);
                output.write(&block)
            }
            (true, Direction::Decrypt) if count == BLOCK => {
                self.one(&mut block);
                match unpadded(&block) {
                    Some(length) => output.write(block.get(..length).unwrap_or(&[])),
                    None => Err(Error::Decrypt),
                }
            }
            _ => Err(Error::DataLength),
        };
        block.zeroize();
        result
    }

    fn hold(&mut self, input: Input<'_>) {
        if let Some(place) = self.held.get_mut(self.count..) {
            input.copy_to(place);
        }
        self.count = BLOCK.min(self.count + input.len());
    }

    fn one(&mut self, block: &mut Block) {
        let key = self.key.borrow();
        match &mut self.mode {
            Mode::Ecb => key.block(self.direction, block),
            Mode::Cbc(iv) if self.direction == Direction::Encrypt => {
                xor(block, iv);
                key.encrypt.encrypt(block);
                *iv = *block;
            }
            Mode::Cbc(iv) => {
                let ciphertext = *block;
                key.decrypt.decrypt(block);
                xor(block, iv);
                *iv = ciphertext;
            }
        }
    }

    /// Whole blocks; the target is reserved for as many bytes.
    fn many(&mut self, input: Input<'_>, target: *mut u8) -> Result<(), Error> {
        if input.is_empty() {
            return Ok(());
        }
        let key = self.key.borrow();
        match &mut self.mode {
            Mode::Ecb => {
                let cipher = key.ecb_cipher(self.direction)?;
                // SAFETY: whole blocks, readable and writable for the length, apart or the same.
                let done = unsafe { EVP_Cipher(cipher.0, target, input.as_ptr(), input.len()) };
                check(done, Error::Internal)
            }
            Mode::Cbc(iv) => {
                let (schedule, way) = match self.direction {
                    Direction::Encrypt => (&key.encrypt, AES_ENCRYPT),
                    Direction::Decrypt => (&key.decrypt, AES_DECRYPT),
                };
                // SAFETY: whole blocks, readable and writable for the length, apart or the same.
                unsafe {
                    AES_cbc_encrypt(
                        input.as_ptr(),
                        target,
                        input.len(),
                        schedule.0.as_ref(),
                        iv.as_mut_ptr(),
                        way,
                    );
                }
                Ok(())
            }
        }
    }
}

impl<K: Borrow<AesKey>> Drop for Blocks<K> {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl<K: Borrow<AesKey>> std::fmt::Debug for Blocks<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blocks({:?})", self.direction)
    }
}

/// Bytes before the padding of PKCS #7, found without a branch on the bytes.
fn unpadded(block: &Block) -> Option<usize> {
    let pad = u32::from(*block.last()?);
    // 1 where pad is in 1..=16.
    let mut good = (pad.wrapping_sub(1) >> 31 ^ 1) & (16u32.wrapping_sub(pad) >> 31 ^ 1);
    for (back, byte) in (1u32..).zip(block.iter().rev()) {
        let inside = back.wrapping_sub(pad + 1) >> 31;
        let differs = (u32::from(*byte) ^ pad).wrapping_neg() >> 31;
        good &= 1 ^ (inside & differs);
    }
    (std::hint::black_box(good) == 1).then(|| BLOCK - pad as usize)
}

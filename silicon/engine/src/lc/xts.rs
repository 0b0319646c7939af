//! AES-256-XTS (IEEE 1619, SP 800-38E). AWS-LC has no AES-128-XTS.
//!
//! It may run on memory that others change. One call is one data unit; a data unit in parts goes on
//! with the tweak that the standard gives its next block, by handing AWS-LC that tweak decrypted.

use std::borrow::Borrow;

use super::aes::{BLOCK, Block, Cipher, Direction, Schedule};
use super::error::check;
use super::{Error, Input, Output, Secret};
use aws_lc_sys::{EVP_Cipher, EVP_CipherInit_ex, EVP_aes_256_xts};
use zeroize::Zeroize;

/// Bytes of a key: two of 32.
pub const KEY: usize = 64;
/// Most bytes of a data unit: 2^20 blocks.
pub const UNIT_MAX: usize = (1 << 20) * BLOCK;

/// A key with its schedules. The two halves must differ.
pub struct XtsKey {
    encrypt: Cipher,
    decrypt: Cipher,
    tweak: Schedule,
    untweak: Schedule,
}

impl XtsKey {
    /// A key of 64 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        let Some((first, second)) = key.split_at_checked(KEY / 2).filter(|_| key.len() == KEY)
        else {
            return Err(Error::Size);
        };
        if super::secret::constant_time_equal(first, second) {
            return Err(Error::Key);
        }
        // SAFETY: returns a static table.
        let cipher = unsafe { EVP_aes_256_xts() };
        Ok(Self {
            encrypt: Cipher::new(cipher, key, Direction::Encrypt)?,
            decrypt: Cipher::new(cipher, key, Direction::Decrypt)?,
            tweak: Schedule::new(second, Direction::Encrypt)?,
            untweak: Schedule::new(second, Direction::Decrypt)?,
        })
    }

    /// One data unit: 16 bytes to 16 MiB.
    pub fn unit(
        &self,
        direction: Direction,
        tweak: &Block,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let length = input.len();
        if !(BLOCK..=UNIT_MAX).contains(&length) {
            return Err(Error::DataLength);
        }
        let target = output.reserve(length)?;
        let copy =
            (input.overlaps(output, length) && !input.in_place(output)).then(|| input.to_secret());
        let input = copy
            .as_ref()
            .map_or(input, |copy| Input::new(copy.expose()));
        let cipher = match direction {
            Direction::Encrypt => &self.encrypt,
            Direction::Decrypt => &self.decrypt,
        }
        .duplicate()?;
        // SAFETY: the context is ours; the tweak is a block; the data is readable and writable for
        // the length, apart or the same.
        unsafe {
            check(
                EVP_CipherInit_ex(
                    cipher.0,
                    std::ptr::null(),
                    std::ptr::null_mut(),
                    std::ptr::null(),
                    tweak.as_ptr(),
                    -1,
                ),
                Error::Internal,
            )?;
            check(
                EVP_Cipher(cipher.0, target, input.as_ptr(), length),
                Error::Internal,
            )?;
        }
        output.advance(length);
        Ok(())
    }
}

impl std::fmt::Debug for XtsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("XtsKey")
    }
}

/// A data unit under way. `K` is how the key is held.
pub struct Xts<K: Borrow<XtsKey>> {
    key: K,
    direction: Direction,
    /// The encrypted tweak of the next block.
    mask: u128,
    held: Vec<u8>,
    total: usize,
}

impl<K: Borrow<XtsKey>> Xts<K> {
    /// A data unit with this tweak.
    pub fn new(key: K, direction: Direction, tweak: &Block) -> Self {
        let mut mask = *tweak;
        key.borrow().tweak.encrypt(&mut mask);
        Self {
            key,
            direction,
            mask: u128::from_le_bytes(mask),
            held: Vec::with_capacity(2 * BLOCK),
            total: 0,
        }
    }

    /// Bytes that `update` with this many would write; for `finish` (None) the most.
    pub fn output_length(&self, input: Option<usize>) -> usize {
        match input {
            Some(length) => ready(self.held.len() + length),
            None => self.held.len(),
        }
    }

    /// Takes more, and writes what cannot be touched by ciphertext stealing any more.
    pub fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
        let total = self.total + input.len();
        if total > UNIT_MAX {
            return Err(Error::DataLength);
        }
        let ready = ready(self.held.len() + input.len());
        output.reserve(ready)?;
        let mut all = Secret::zeroed(self.held.len() + input.len());
        let (held, fresh) = all.expose_mut().split_at_mut(self.held.len());
        held.copy_from_slice(&self.held);
        input.copy_to(fresh);
        let (now, later) = all.expose().split_at(ready);
        if ready > 0 {
            self.run(now, output)?;
            for _ in 0..ready / BLOCK {
                self.mask = (self.mask << 1) ^ ((self.mask >> 127) * 0x87);
            }
        }
        self.held.zeroize();
        self.held.extend_from_slice(later);
        self.total = total;
        Ok(())
    }

    /// Writes the rest.
    pub fn finish(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        if self.held.len() < BLOCK {
            return Err(Error::DataLength);
        }
        let rest = Secret::copy(&self.held);
        self.held.zeroize();
        self.run(rest.expose(), output)
    }

    fn run(&self, data: &[u8], output: &mut Output<'_>) -> Result<(), Error> {
        let mut tweak = self.mask.to_le_bytes();
        let key = self.key.borrow();
        key.untweak.decrypt(&mut tweak);
        key.unit(self.direction, &tweak, Input::new(data), output)
    }
}

/// Of so many bytes, the whole blocks that leave at least one block, at most 31 bytes, behind.
fn ready(total: usize) -> usize {
    total.saturating_sub(BLOCK) / BLOCK * BLOCK
}

impl<K: Borrow<XtsKey>> Drop for Xts<K> {
    fn drop(&mut self) {
        self.held.zeroize();
        self.mask.zeroize();
    }
}

impl<K: Borrow<XtsKey>> std::fmt::Debug for Xts<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Xts({:?})", self.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::aes::xor;
    use proptest::prelude::*;

    fn key() -> Vec<u8> {
        (0..64).collect()
    }

    fn unit(direction: Direction, data: &[u8]) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; data.len()];
        XtsKey::new(&key())?.unit(
            direction,
            &[5; 16],
            Input::new(data),
            &mut Output::new(&mut out),
        )?;
        Ok(out)
    }

    #[test]
    fn the_definition_holds_for_whole_blocks() {
        let data: Vec<u8> = (0..160).collect();
        let sealed = unit(Direction::Encrypt, &data).unwrap();
        let bytes = key();
        let first = Schedule::new(&bytes[..32], Direction::Encrypt).unwrap();
        let second = Schedule::new(&bytes[32..], Direction::Encrypt).unwrap();
        let mut mask = [5; 16];
        second.encrypt(&mut mask);
        for (plain, got) in data.chunks(16).zip(sealed.chunks(16)) {
            let mut block: Block = plain.try_into().unwrap();
            xor(&mut block, &mask);
            first.encrypt(&mut block);
            xor(&mut block, &mask);
            assert_eq!(block, got);
            let value = u128::from_le_bytes(mask);
            mask = ((value << 1) ^ ((value >> 127) * 0x87)).to_le_bytes();
        }
        assert_eq!(unit(Direction::Decrypt, &sealed).unwrap(), data);
    }

    #[test]
    fn bad_keys_and_lengths_are_refused() {
        assert_eq!(XtsKey::new(&[1; 64]).unwrap_err(), Error::Key);
        assert_eq!(XtsKey::new(&[1; 32]).unwrap_err(), Error::Size);
        assert_eq!(XtsKey::new(&[1; 65]).unwrap_err(), Error::Size);
        assert_eq!(unit(Direction::Encrypt, &[0; 15]), Err(Error::DataLength));
        let mut stream = Xts::new(XtsKey::new(&key()).unwrap(), Direction::Encrypt, &[0; 16]);
        assert_eq!(
            stream.finish(&mut Output::new(&mut [0; 16])),
            Err(Error::DataLength)
        );
    }

    proptest! {
        #[test]
        fn parts_give_the_same(
            data in proptest::collection::vec(any::<u8>(), 16..300),
            cuts in proptest::collection::vec(0usize..70, 0..8),
        ) {
            let sealed = unit(Direction::Encrypt, &data).unwrap();
            prop_assert_eq!(&unit(Direction::Decrypt, &sealed).unwrap(), &data);
            for (direction, from, to) in
                [(Direction::Encrypt, &data, &sealed), (Direction::Decrypt, &sealed, &data)]
            {
                let mut stream = Xts::new(XtsKey::new(&key()).unwrap(), direction, &[5; 16]);
                let mut out = vec![0; from.len()];
                let mut output = Output::new(&mut out);
                let mut offset = 0;
                for cut in cuts.iter().chain([&from.len()]) {
                    let end = (offset + cut).min(from.len());
                    let before = output.written();
                    let expected = stream.output_length(Some(end - offset));
                    stream.update(Input::new(&from[offset..end]), &mut output).unwrap();
                    prop_assert_eq!(output.written() - before, expected);
                    offset = end;
                }
                stream.finish(&mut output).unwrap();
                prop_assert_eq!(&out, to);
            }
        }
    }
}

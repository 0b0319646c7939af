//! AES (FIPS 197) in ECB, CBC (with and without the padding of PKCS #7) and CTR (SP 800-38A).
//!
//! All of it may run on memory that others change: each input byte is read once. Output may stand
//! exactly where the input stands, or apart from it; where a stream's held-back bytes would shift
//! the two against each other, the input is copied first.

use std::borrow::Borrow;

use super::error::check;
use super::{Error, Input, Output, Secret};
use aws_lc_sys::{
    AES_DECRYPT, AES_ENCRYPT, AES_KEY, AES_cbc_encrypt, AES_ctr128_encrypt, AES_decrypt,
    AES_encrypt, AES_set_decrypt_key, AES_set_encrypt_key, EVP_CIPHER, EVP_CIPHER_CTX,
    EVP_CIPHER_CTX_copy, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_Cipher, EVP_CipherInit_ex,
    EVP_aes_128_ecb, EVP_aes_192_ecb, EVP_aes_256_ecb,
};
use zeroize::Zeroize;

/// Bytes of a block.
pub const BLOCK: usize = 16;

/// A block.
pub type Block = [u8; BLOCK];

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plaintext to ciphertext.
    Encrypt,
    /// Ciphertext to plaintext.
    Decrypt,
}

/// An expanded key, wiped when dropped.
pub(super) struct Schedule(Box<AES_KEY>);

impl Schedule {
    /// The schedule of a key of 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8], direction: Direction) -> Result<Self, Error> {
        let bits = match key.len() {
            16 => 128,
            24 => 192,
            32 => 256,
            _ => return Err(Error::Size),
        };
        let mut schedule = Self(Box::new(AES_KEY {
            rd_key: [0; 60],
            rounds: 0,
        }));
        // SAFETY: the key is readable for `bits`; the schedule is writable.
        let answer = unsafe {
            match direction {
                Direction::Encrypt => AES_set_encrypt_key(key.as_ptr(), bits, schedule.0.as_mut()),
                Direction::Decrypt => AES_set_decrypt_key(key.as_ptr(), bits, schedule.0.as_mut()),
            }
        };
        if answer == 0 {
            Ok(schedule)
        } else {
            Err(Error::Internal)
        }
    }

    /// Encrypts one block under an encryption schedule.
    pub(super) fn encrypt(&self, block: &mut Block) {
        // SAFETY: one block in place is allowed.
        unsafe { AES_encrypt(block.as_ptr(), block.as_mut_ptr(), self.0.as_ref()) };
    }

    /// Decrypts one block under a decryption schedule.
    pub(super) fn decrypt(&self, block: &mut Block) {
        // SAFETY: one block in place is allowed.
        unsafe { AES_decrypt(block.as_ptr(), block.as_mut_ptr(), self.0.as_ref()) };
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.0.rd_key.zeroize();
    }
}

/// AWS-LC's cipher context, owned.
pub(super) struct Cipher(pub(super) *mut EVP_CIPHER_CTX);

// SAFETY: the context is owned and has no thread affinity.
unsafe impl Send for Cipher {}
// SAFETY: shared references only copy it, which AWS-LC takes as const.
unsafe impl Sync for Cipher {}

impl Cipher {
    pub(super) fn new(
        cipher: *const EVP_CIPHER,
        key: &[u8],
        direction: Direction,
    ) -> Result<Self, Error> {
        // SAFETY: a new context; the key has the cipher's length, as every caller checks.
        unsafe {
            let context = Self(EVP_CIPHER_CTX_new());
            check(i32::from(!context.0.is_null()), Error::Internal)?;
            let encrypt = i32::from(direction == Direction::Encrypt);
            check(
                EVP_CipherInit_ex(
                    context.0,
                    cipher,
                    std::ptr::null_mut(),
                    key.as_ptr(),
                    std::ptr::null(),
                    encrypt,
                ),
                Error::Key,
            )?;
            Ok(context)
        }
    }

    pub(super) fn duplicate(&self) -> Result<Self, Error> {
        // SAFETY: a new context; the source is taken as const.
        unsafe {
            let context = Self(EVP_CIPHER_CTX_new());
            check(i32::from(!context.0.is_null()), Error::Internal)?;
            check(EVP_CIPHER_CTX_copy(context.0, self.0), Error::Internal)?;
            Ok(context)
        }
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes its data.
        unsafe { EVP_CIPHER_CTX_free(self.0) };
    }
}

/// A key of 16, 24 or 32 bytes with its schedules.
pub struct AesKey {
    value: Secret,
    encrypt: Schedule,
    decrypt: Schedule,
}

impl AesKey {
    /// The key.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            encrypt: Schedule::new(key, Direction::Encrypt)?,
            decrypt: Schedule::new(key, Direction::Decrypt)?,
            value: Secret::copy(key),
        })
    }

    /// Bytes of the key.
    pub fn bytes(&self) -> usize {
        self.value.len()
    }

    /// One block.
    pub fn block(&self, direction: Direction, block: &mut Block) {
        match direction {
            Direction::Encrypt => self.encrypt.encrypt(block),
            Direction::Decrypt => self.decrypt.decrypt(block),
        }
    }

    /// ECB of whole blocks.
    pub fn ecb(
        &self,
        direction: Direction,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::ecb(self, direction), input, output)
    }

    /// CBC of whole blocks.
    pub fn cbc(
        &self,
        direction: Direction,
        iv: &Block,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::cbc(self, direction, iv), input, output)
    }

    /// CBC with the padding of PKCS #7: 1 to 16 bytes more when encrypting. Wrong padding is
    /// `Error::Decrypt`.
    pub fn cbc_padded(
        &self,
        direction: Direction,
        iv: &Block,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::cbc_padded(self, direction, iv), input, output)
    }

    /// CTR: the low `bits` of the counter block count, modulo 2^bits (1 to 128). Data for which a
    /// counter block would come back is refused.
    pub fn ctr(
        &self,
        counter: &Block,
        bits: u32,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        output.reserve(input.len())?;
        Ctr::new(self, counter, bits)?.update(input, output)
    }

    fn ecb_cipher(&self, direction: Direction) -> Result<Cipher, Error> {
        // SAFETY: these return static tables.
        let cipher = unsafe {
            match self.value.len() {
                16 => EVP_aes_128_ecb(),
                24 => EVP_aes_192_ecb(),
                _ => EVP_aes_256_ecb(),
            }
        };
        Cipher::new(cipher, self.value.expose(), direction)
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AesKey({} bits)", self.value.len() * 8)
    }
}

fn whole<K: Borrow<AesKey>>(
    mut blocks: Blocks<K>,
    input: Input<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let padded = blocks.padding && blocks.direction == Direction::Encrypt;
    if !padded && !input.len().is_multiple_of(BLOCK) {
        return Err(Error::DataLength);
    }
    // Padded plaintext may be up to a block shorter; how much, only the decryption tells.
    let needed = match (blocks.padding, blocks.direction) {
        (true, Direction::Encrypt) => input.len() / BLOCK * BLOCK + BLOCK,
        (true, Direction::Decrypt) => input.len().saturating_sub(BLOCK),
        (false, _) => input.len(),
    };
    output.reserve(needed)?;
    blocks.update(input, output)?;
    blocks.finish(output)
}

enum Mode {
    Ecb,
    Cbc(Block),
}

/// ECB or CBC under way. `K` is how the key is held: `&AesKey` or `Arc<AesKey>`.
pub struct Blocks<K: Borrow<AesKey>> {
    key: K,
    direction: Direction,
    mode: Mode,
    padding: bool,
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

pub(super) fn xor(block: &mut Block, other: &Block) {
    for (byte, other) in block.iter_mut().zip(other) {
        *byte ^= other;
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

fn low(bits: u32) -> u128 {
    u128::MAX >> (128 - bits.clamp(1, 128))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;
    use proptest::prelude::*;

    const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";

    fn run(
        length: usize,
        body: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
    ) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; length];
        let mut output = Output::new(&mut buffer);
        body(&mut output)?;
        let written = output.written();
        buffer.truncate(written);
        Ok(buffer)
    }

    #[test]
    fn sp_800_38a_examples_hold() {
        let key = AesKey::new(&hex("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
        let plain = hex(PLAIN);
        let iv: Block = std::array::from_fn(|i| i as u8);
        let counter: Block = std::array::from_fn(|i| 0xf0 + i as u8);
        let ecb = run(32, |out| {
            key.ecb(Direction::Encrypt, Input::new(&plain), out)
        })
        .unwrap();
        assert_eq!(
            ecb,
            hex("3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf")
        );
        let cbc = run(32, |out| {
            key.cbc(Direction::Encrypt, &iv, Input::new(&plain), out)
        })
        .unwrap();
        assert_eq!(
            cbc,
            hex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2")
        );
        let ctr = run(32, |out| key.ctr(&counter, 128, Input::new(&plain), out)).unwrap();
        assert_eq!(
            ctr,
            hex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff")
        );
    }

    #[test]
    fn wrong_lengths_and_padding_are_refused() {
        assert_eq!(AesKey::new(&[0; 20]).unwrap_err(), Error::Size);
        let key = AesKey::new(&[1; 32]).unwrap();
        let iv = [2; BLOCK];
        let fails = |direction, length| {
            run(64, |out| {
                key.cbc(direction, &iv, Input::new(&vec![0; length]), out)
            })
            .unwrap_err()
        };
        assert_eq!(fails(Direction::Encrypt, 15), Error::DataLength);
        assert_eq!(fails(Direction::Decrypt, 17), Error::DataLength);
        let padded = |data: &[u8]| {
            run(64, |out| {
                key.cbc_padded(Direction::Decrypt, &iv, Input::new(data), out)
            })
        };
        assert_eq!(padded(&[]).unwrap_err(), Error::DataLength);
        for pad in 0..=255u8 {
            for wrong in 0..16usize {
                let mut block = [pad; BLOCK];
                block[wrong] ^= 0x80;
                let sealed = run(16, |out| {
                    key.cbc(Direction::Encrypt, &iv, Input::new(&block), out)
                })
                .unwrap();
                let last = usize::from(block[15]);
                let good = (1..=16).contains(&last)
                    && block[16 - last..]
                        .iter()
                        .all(|byte| usize::from(*byte) == last);
                assert_eq!(padded(&sealed).is_ok(), good, "{block:?}");
            }
        }
        let tight = run(31, |out| {
            key.cbc_padded(Direction::Encrypt, &iv, Input::new(&[0; 16]), out)
        });
        assert_eq!(tight.unwrap_err(), Error::TooSmall(32));
    }

    #[test]
    fn a_counter_of_few_bits_wraps_in_them_and_never_comes_back() {
        let key = AesKey::new(&[1; 16]).unwrap();
        for bits in [1, 2, 3, 8, 9, 12] {
            let start: u128 = (0xabcd << 112) | (low(bits) - 1).max(1);
            let blocks = 1usize << bits;
            let plain = vec![0; blocks * BLOCK];
            let stream = run(plain.len(), |out| {
                key.ctr(&start.to_be_bytes(), bits, Input::new(&plain), out)
            })
            .unwrap();
            for (i, got) in stream.chunks(BLOCK).enumerate() {
                let value = (start & low(bits)).wrapping_add(i as u128) & low(bits);
                let mut block = ((start & !low(bits)) | value).to_be_bytes();
                key.block(Direction::Encrypt, &mut block);
                assert_eq!(got, block, "{bits} bits, block {i}");
            }
            let longer = vec![0; blocks * BLOCK + 1];
            let refused = run(longer.len(), |out| {
                key.ctr(&start.to_be_bytes(), bits, Input::new(&longer), out)
            });
            assert_eq!(refused.unwrap_err(), Error::DataLength);
        }
        assert_eq!(Ctr::new(&key, &[0; 16], 0).unwrap_err(), Error::Parameter);
        assert_eq!(Ctr::new(&key, &[0; 16], 129).unwrap_err(), Error::Parameter);
    }

    /// Runs a stream over cuts of the data, out of place and in place.
    fn streamed(
        data: &[u8],
        cuts: &[usize],
        in_place: bool,
        mut update: impl FnMut(Input<'_>, &mut Output<'_>),
        finish: impl FnOnce(&mut Output<'_>),
    ) -> Vec<u8> {
        let mut memory = data.to_vec();
        memory.resize(data.len() + 32, 0);
        let mut apart = vec![0; data.len() + 32];
        let base = memory.as_mut_ptr();
        let source = if in_place {
            base.cast_const()
        } else {
            data.as_ptr()
        };
        let target = if in_place { base } else { apart.as_mut_ptr() };
        let mut output = unsafe { Output::from_raw(target, data.len() + 32) };
        let mut offset = 0;
        for cut in cuts.iter().chain([&data.len()]) {
            let end = (offset + cut).min(data.len());
            update(
                unsafe { Input::from_raw(source.add(offset), end - offset) },
                &mut output,
            );
            offset = end;
        }
        finish(&mut output);
        let written = output.written();
        let mut out = if in_place { memory } else { apart };
        out.truncate(written);
        out
    }

    proptest! {
        #[test]
        fn streams_agree_with_one_call(
            key in proptest::sample::select(vec![16usize, 24, 32]),
            data in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(0usize..70, 0..8),
            in_place in any::<bool>(), bits in 20u32..=128,
        ) {
            let key = AesKey::new(&vec![7; key]).unwrap();
            let iv = [9; BLOCK];
            let sealed = run(432, |out| key.cbc_padded(Direction::Encrypt, &iv, Input::new(&data), out)).unwrap();
            let mut stream = Blocks::cbc_padded(&key, Direction::Encrypt, &iv);
            // A stream's output never overtakes its input, so in place works with any cuts.
            let parts = std::cell::RefCell::new(&mut stream);
            let got = streamed(&data, &cuts, in_place,
                |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
            prop_assert_eq!(&got, &sealed);
            let mut stream = Blocks::cbc_padded(&key, Direction::Decrypt, &iv);
            let parts = std::cell::RefCell::new(&mut stream);
            let got = streamed(&sealed, &cuts, in_place,
                |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
            prop_assert_eq!(&got, &data);

            let even = &data[..data.len() / BLOCK * BLOCK];
            for direction in [Direction::Encrypt, Direction::Decrypt] {
                let expected = run(400, |out| key.ecb(direction, Input::new(even), out)).unwrap();
                let mut stream = Blocks::ecb(&key, direction);
                let parts = std::cell::RefCell::new(&mut stream);
                let got = streamed(even, &cuts, in_place,
                    |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
                prop_assert_eq!(&got, &expected);
                let each: Vec<u8> = even.chunks(BLOCK).flat_map(|chunk| {
                    let mut block: Block = chunk.try_into().unwrap();
                    key.block(direction, &mut block);
                    block
                }).collect();
                prop_assert_eq!(&each, &expected);
            }

            let counter = [0xff; BLOCK];
            let expected = run(400, |out| key.ctr(&counter, bits, Input::new(&data), out)).unwrap();
            let mut stream = Ctr::new(&key, &counter, bits).unwrap();
            let got = streamed(&data, &cuts, in_place, |i, o| stream.update(i, o).unwrap(), |_| ());
            prop_assert_eq!(&got, &expected);
            let back = run(400, |out| key.ctr(&counter, bits, Input::new(&expected), out)).unwrap();
            prop_assert_eq!(&back, &data);
        }
    }
}

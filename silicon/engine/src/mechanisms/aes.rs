//! AES: key generation, ECB, CBC with and without padding, CTR (PKCS#11 3.2, sections 6.9 to 6.11).
//!
//! All of them run where the client's data stands: each input byte is read once.

use std::sync::Arc;

use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::{
    CK_MECHANISM_TYPE, CKF_DECRYPT, CKF_ENCRYPT, CKF_UNWRAP, CKF_WRAP, CKK_AES, CKM_AES_CBC,
    CKM_AES_CBC_PAD, CKM_AES_CTR, CKM_AES_ECB, CKM_AES_KEY_GEN, CKR_MECHANISM_INVALID,
    CKR_MECHANISM_PARAM_INVALID,
};

use super::secret::{self, Generation, cipher_failure};
use super::{Environment, Info, Mechanism, Stream};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::aes::{AesKey, BLOCK, Block, Blocks, Ctr, Direction};
use crate::lc::{Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Generation {
        kind: CKM_AES_KEY_GEN,
        makes: CKK_AES,
        usual: None,
        sizes: (16, 32),
    },
    &Cipher(Mode::Ecb),
    &Cipher(Mode::Cbc),
    &Cipher(Mode::CbcPad),
    &Cipher(Mode::Ctr),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ecb,
    Cbc,
    CbcPad,
    Ctr,
}

struct Cipher(Mode);

/// A mode with its parameters.
enum Prepared {
    Ecb,
    Cbc(Block),
    CbcPad(Block),
    Ctr(Block, u32),
}

impl Cipher {
    fn prepare(&self, parameters: &[u8]) -> Result<Prepared, Failure> {
        Ok(match self.0 {
            Mode::Ecb => {
                secret::none(parameters)?;
                Prepared::Ecb
            }
            Mode::Cbc => Prepared::Cbc(secret::block(parameters)?),
            Mode::CbcPad => Prepared::CbcPad(secret::block(parameters)?),
            Mode::Ctr => match secret::decode(parameters)? {
                Parameters::Counter { bits, block } if (1..=128).contains(&bits) => {
                    Prepared::Ctr(block, bits)
                }
                _ => return Err(CKR_MECHANISM_PARAM_INVALID.into()),
            },
        })
    }

    fn run(
        &self,
        direction: Direction,
        key: &Key,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let prepared = self.prepare(parameters)?;
        let key: &AesKey = secret::of_type(Some(key), &[CKK_AES])?.aes()?;
        match prepared {
            Prepared::Ecb => key.ecb(direction, input, output),
            Prepared::Cbc(iv) => key.cbc(direction, &iv, input, output),
            Prepared::CbcPad(iv) => key.cbc_padded(direction, &iv, input, output),
            Prepared::Ctr(counter, bits) => key.ctr(&counter, bits, input, output),
        }
        .map_err(cipher_failure(direction))
    }

    /// Whether whole blocks come out, padded ones where the mode pads.
    fn output_of(&self, direction: Direction, input: usize) -> usize {
        match (self.0, direction) {
            (Mode::CbcPad, Direction::Encrypt) => input / BLOCK * BLOCK + BLOCK,
            _ => input,
        }
    }
}

impl Mechanism for Cipher {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        match self.0 {
            Mode::Ecb => CKM_AES_ECB,
            Mode::Cbc => CKM_AES_CBC,
            Mode::CbcPad => CKM_AES_CBC_PAD,
            Mode::Ctr => CKM_AES_CTR,
        }
    }

    fn info(&self) -> Info {
        let wraps = match self.0 {
            Mode::Ctr => 0,
            _ => CKF_WRAP | CKF_UNWRAP,
        };
        Info {
            min: 16,
            max: 32,
            flags: CKF_ENCRYPT | CKF_DECRYPT | wraps,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        secret::direction(usage)?;
        if self.0 == Mode::Ctr && matches!(usage, Usage::Wrap | Usage::Unwrap) {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        self.prepare(parameters)?;
        secret::of_type(key, &[CKK_AES]).map(|_| ())
    }

    fn output_length(
        &self,
        usage: Usage,
        _: Option<&Key>,
        _: &[u8],
        input: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((self.output_of(secret::direction(usage)?, input), false))
    }

    fn encrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.run(Direction::Encrypt, key, parameters, input, output)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.run(Direction::Decrypt, key, parameters, input, output)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        let key = key.map(Arc::as_ref);
        self.check(usage, key, parameters)?;
        let direction = secret::direction(usage)?;
        let prepared = self.prepare(parameters)?;
        let key = secret::of_type(key, &[CKK_AES])?.aes()?.clone();
        let state = match prepared {
            Prepared::Ecb => State::Blocks(Blocks::ecb(key, direction)),
            Prepared::Cbc(iv) => State::Blocks(Blocks::cbc(key, direction, &iv)),
            Prepared::CbcPad(iv) => State::Blocks(Blocks::cbc_padded(key, direction, &iv)),
            Prepared::Ctr(counter, bits) => State::Counter(Ctr::new(key, &counter, bits)?),
        };
        Ok(Box::new(Running { direction, state }))
    }

    /// The value, in ECB and CBC filled up with zeros: who unwraps it must say how long it was.
    fn wrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        material: &Secret,
        _: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        self.check(Usage::Wrap, Some(key), parameters)?;
        let mut padded = Secret::zeroed(match self.0 {
            Mode::CbcPad => material.len(),
            _ => material.len().next_multiple_of(BLOCK),
        });
        for (place, byte) in padded.expose_mut().iter_mut().zip(material.expose()) {
            *place = *byte;
        }
        let mut wrapped = vec![0; self.output_of(Direction::Encrypt, padded.len())];
        let mut output = Output::new(&mut wrapped);
        let input = Input::new(padded.expose());
        self.run(Direction::Encrypt, key, parameters, input, &mut output)?;
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        _: &[u8],
    ) -> Result<Secret, Failure> {
        self.check(Usage::Unwrap, Some(key), parameters)?;
        let prepared = self.prepare(parameters)?;
        let key: &AesKey = secret::of_type(Some(key), &[CKK_AES])?.aes()?;
        let mut opened = Secret::zeroed(wrapped.len());
        let mut output = Output::new(opened.expose_mut());
        let input = Input::new(wrapped);
        match prepared {
            Prepared::Ecb => key.ecb(Direction::Decrypt, input, &mut output),
            Prepared::Cbc(iv) => key.cbc(Direction::Decrypt, &iv, input, &mut output),
            Prepared::CbcPad(iv) => key.cbc_padded(Direction::Decrypt, &iv, input, &mut output),
            Prepared::Ctr(..) => return Err(CKR_MECHANISM_INVALID.into()),
        }
        .map_err(secret::unwrap_failure)?;
        let length = output.written();
        Ok(Secret::copy(opened.expose().get(..length).unwrap_or(&[])))
    }
}

enum State {
    Blocks(Blocks<Arc<AesKey>>),
    Counter(Ctr<Arc<AesKey>>),
}

struct Running {
    direction: Direction,
    state: State,
}

impl Stream for Running {
    fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
        match &mut self.state {
            State::Blocks(blocks) => blocks.update(input, output),
            State::Counter(counter) => counter.update(input, output),
        }
        .map_err(cipher_failure(self.direction))
    }

    fn finish(mut self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        match &mut self.state {
            State::Blocks(blocks) => blocks.finish(output),
            State::Counter(_) => Ok(()),
        }
        .map_err(cipher_failure(self.direction))
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        match &self.state {
            State::Blocks(blocks) => blocks.output_length(input),
            State::Counter(_) => input.unwrap_or(0),
        }
    }
}

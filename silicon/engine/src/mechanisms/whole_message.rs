//! Mechanisms whose algorithm needs the whole message at once, in private memory: an algorithm is a
//! `MessageSigner`, and `WholeMessage` makes the mechanism of it. What comes in parts is kept, within
//! a bound, and signed at the end.

use std::sync::Arc;

use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::Usage;
use cryptoki_sys::*;
use zeroize::Zeroizing;

use super::{Environment, Info, Mechanism, Stream, wrong_key};
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::{Input, Output};

/// What an algorithm does with a whole message in private memory.
pub trait MessageSigner: Copy + Send + Sync + 'static {
    /// Most bytes of a message that comes in parts.
    const MESSAGE_MAX: usize = MESSAGE_MAX;

    /// As in `Mechanism`.
    fn kind(&self) -> CK_MECHANISM_TYPE;
    /// As in `Mechanism`.
    fn info(&self) -> Info;
    /// As in `Mechanism`.
    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure>;

    /// The most bytes of a signature by this key.
    fn signature_length(&self, key: &Key) -> Result<usize, Failure>;
    /// Bytes of a signature by this key with these parameters.
    fn exact_length(&self, key: Option<&Key>, _parameters: &[u8]) -> Result<usize, Failure> {
        self.signature_length(key.ok_or_else(wrong_key)?)
    }
    /// Whether the partition's policy allows a signature with these parameters.
    fn allow(&self, _: &dyn Environment, _parameters: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
    /// Signs a message.
    fn sign_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Failure>;
    /// Verifies a signature over a message.
    fn verify_message(
        &self,
        key: &Key,
        parameters: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Failure>;
}

/// The mechanism of an algorithm.
pub struct WholeMessage<S>(pub S);

impl<S: MessageSigner> Mechanism for WholeMessage<S> {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.0.kind()
    }

    fn info(&self) -> Info {
        self.0.info()
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        self.0.check(usage, key, parameters)
    }

    fn output_length(
        &self,
        _: Usage,
        key: Option<&Key>,
        parameters: &[u8],
        _: usize,
    ) -> Result<(usize, bool), Failure> {
        Ok((self.0.exact_length(key, parameters)?, true))
    }

    fn sign(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        self.0.allow(environment, parameters)?;
        self.0
            .sign_message(key, parameters, input.to_secret().expose(), output)
    }

    fn verify(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<(), Failure> {
        self.0
            .verify_message(key, parameters, input.to_secret().expose(), signature)
    }

    fn begin(
        &self,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<Box<dyn Stream>, Failure> {
        let key = key.ok_or(Failure::new(CKR_KEY_HANDLE_INVALID))?.clone();
        let length = if usage == Usage::Sign {
            self.0.signature_length(&key)?
        } else {
            0
        };
        Ok(Box::new(Gathering {
            signer: self.0,
            key,
            length,
            parameters: parameters.to_vec(),
            message: Zeroizing::new(Vec::new()),
        }))
    }

    fn start(
        &self,
        environment: &dyn Environment,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<(Box<dyn Stream>, Vec<u8>), Failure> {
        if usage == Usage::Sign {
            self.0.allow(environment, parameters)?;
        }
        Ok((self.begin(usage, key, parameters)?, Vec::new()))
    }
}

/// A message that comes in parts.
struct Gathering<S> {
    signer: S,
    key: Arc<Key>,
    length: usize,
    parameters: Vec<u8>,
    message: Zeroizing<Vec<u8>>,
}

impl<S: MessageSigner> Stream for Gathering<S> {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        if self.message.len() + input.len() > S::MESSAGE_MAX {
            return Err(CKR_DATA_LEN_RANGE.into());
        }
        self.message.extend_from_slice(input.to_secret().expose());
        Ok(())
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.signer
            .sign_message(&self.key, &self.parameters, &self.message, output)
    }

    fn verify(self: Box<Self>, signature: &[u8]) -> Result<(), Failure> {
        self.signer
            .verify_message(&self.key, &self.parameters, &self.message, signature)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        if input.is_none() { self.length } else { 0 }
    }

    fn gathers(&self) -> bool {
        true
    }
}

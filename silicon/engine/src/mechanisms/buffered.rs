//! Signatures in parts for algorithms that need the whole message at once: the parts are kept in
//! private memory, within a bound, and signed at the end.

use std::sync::Arc;

use casemate_transport::message::Usage;
use cryptoki_sys::*;
use zeroize::Zeroizing;

use super::Stream;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::{Input, Output};

/// What a family does with a whole message in private memory.
pub trait MessageSigner {
    /// Bytes of a signature by this key.
    fn signature_length(&self, key: &Key) -> Result<usize, Failure>;
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

/// Begins a signature or verification whose message has at most `limit` bytes.
pub fn begin<S: MessageSigner + Send + 'static>(
    signer: S,
    usage: Usage,
    key: Option<&Arc<Key>>,
    parameters: &[u8],
    limit: usize,
) -> Result<Box<dyn Stream>, Failure> {
    let key = key.ok_or(Failure::new(CKR_KEY_HANDLE_INVALID))?.clone();
    let length = if usage == Usage::Sign {
        signer.signature_length(&key)?
    } else {
        0
    };
    Ok(Box::new(Buffered {
        signer,
        key,
        length,
        limit,
        parameters: parameters.to_vec(),
        message: Zeroizing::new(Vec::new()),
    }))
}

struct Buffered<S> {
    signer: S,
    key: Arc<Key>,
    length: usize,
    limit: usize,
    parameters: Vec<u8>,
    message: Zeroizing<Vec<u8>>,
}

impl<S: MessageSigner + Send> Stream for Buffered<S> {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        if self.message.len() + input.len() > self.limit {
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

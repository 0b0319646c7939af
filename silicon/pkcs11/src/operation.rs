//! What a session remembers of an operation between Init and its end.
//!
//! Idle → Ready (Init) → Idle (the single-part call), or Ready → Streaming (the first part) → Idle
//! (Final). A single-part call that only asks for the length, or meets CKR_BUFFER_TOO_SMALL, leads to
//! Asked: only the same call may follow. Of parts, such a call leaves the phase as it is. Every other
//! error ends the operation, CKR_OPERATION_ACTIVE for a call of the other kind included. At the module
//! an operation exists only while Streaming. In an asynchronous session the single-part call may lead
//! to Pending: C_AsyncComplete or a cancellation leads back to Idle, any other call of the operation is
//! CKR_OPERATION_ACTIVE and changes nothing.

/// Where an operation stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// Initialised; nothing has been sent.
    Ready,
    /// The single-part call has told a length.
    Asked,
    /// The module has a part of the data.
    Streaming,
    /// The single-part call is in flight.
    Pending,
}

/// An operation of one usage.
#[derive(Debug, Default)]
pub struct Operation {
    /// Where it stands.
    pub phase: Phase,
    /// CK_MECHANISM_TYPE.
    pub mechanism: u64,
    /// The key's handle; 0 for digests.
    pub key: u64,
    /// The wire form of the parameters; the buffer is kept from one operation to the next.
    pub parameters: Vec<u8>,
    /// Length of the output where the data does not matter, else 0.
    pub length: u64,
    /// Bytes that the module has been given.
    pub fed: usize,
    /// Bytes that it has given back.
    pub given: usize,
    /// The signature of C_VerifySignatureInit.
    pub signature: Option<Vec<u8>>,
}

impl Operation {
    /// Ends it.
    pub fn end(&mut self) {
        self.phase = Phase::Idle;
        self.fed = 0;
        self.given = 0;
        self.signature = None;
    }

    /// The module has lost what it had of it.
    pub fn end_stream(&mut self) {
        if self.phase == Phase::Streaming {
            self.end();
        }
    }
}

/// A message-based operation: many messages under one key.
#[derive(Debug, Default)]
pub struct MessageOperation {
    /// Ready between messages, Streaming within a message of several parts.
    pub phase: Phase,
    /// CK_MECHANISM_TYPE.
    pub mechanism: u64,
    /// The key's handle.
    pub key: u64,
    /// The wire form of the parameters of Init.
    pub parameters: Vec<u8>,
    /// Length of a signature, or 0.
    pub length: u64,
    /// Parts of a message whose result is not known before its end (decryption).
    pub gathered: Vec<u8>,
    /// Associated data of the message.
    pub associated: Vec<u8>,
}

impl MessageOperation {
    /// Ends it.
    pub fn end(&mut self) {
        self.phase = Phase::Idle;
        self.end_message();
    }

    /// Ends the message.
    pub fn end_message(&mut self) {
        self.gathered.clear();
        self.associated.clear();
        if self.phase == Phase::Streaming {
            self.phase = Phase::Ready;
        }
    }

    /// The module has lost what it had of a message.
    pub fn end_stream(&mut self) {
        if self.phase == Phase::Streaming {
            self.end();
        }
    }
}

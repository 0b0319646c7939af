//! Calls in flight of an asynchronous session (PKCS#11 3.2, section 5.22).
//!
//! Each function has one place: free → in flight (the call answered CKR_PENDING) → free again, by
//! C_AsyncComplete with anything but CKR_PENDING, by C_SessionCancel, or with its session. A call
//! whose connection ends becomes lost: C_AsyncComplete says so once. A call is named by its function
//! alone, so a session has at most one of each; more in flight are more sessions. Which calls go into
//! flight:
//!
//! - one-part cryptography whose output certainly fits: the standard wants CKR_BUFFER_TOO_SMALL at
//!   once, so where only the module can tell, the call waits for it;
//! - generating and taking in keys.
//!
//! All else, and what finds the ring so full that the last places are kept for callers who wait, is
//! done before the call returns, which the standard leaves to the token. A call in flight costs its
//! slot of the ring: no thread, no allocation, no copy beside the slot's.

use crate::outcome::{Outcome, check};
use crate::session::result_of;
use casemate_transport::client::{Connection, Patience, SubmitError, Ticket};
use casemate_transport::cpus;
use casemate_transport::message::Usage;
use cryptoki_sys::{
    CK_ASYNC_DATA, CKR_ARGUMENTS_BAD, CKR_DEVICE_REMOVED, CKR_GENERAL_ERROR,
    CKR_OPERATION_NOT_INITIALIZED, CKR_PENDING,
};
use std::time::{Duration, Instant};

/// Unanswered for this long: the workers that are awake may be busy, another one is rung for.
const NUDGE_AFTER: Duration = Duration::from_micros(50);
/// How often a call that is asked for in vain looks whether the module still lives.
const LIFE_CHECK: Duration = Duration::from_millis(50);

/// A function that can be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// C_Encrypt.
    Encrypt,
    /// C_Decrypt.
    Decrypt,
    /// C_Digest.
    Digest,
    /// C_Sign.
    Sign,
    /// C_SignRecover.
    SignRecover,
    /// C_Verify.
    Verify,
    /// C_VerifySignature.
    VerifySignature,
    /// C_VerifyRecover.
    VerifyRecover,
    /// C_GenerateKey.
    GenerateKey,
    /// C_GenerateKeyPair.
    GenerateKeyPair,
    /// C_UnwrapKey.
    UnwrapKey,
    /// C_UnwrapKeyAuthenticated.
    UnwrapKeyAuthenticated,
    /// C_DecapsulateKey.
    DecapsulateKey,
}

const FUNCTIONS: usize = 13;
/// The longest name in the standard, and its end.
const NAME_MAX: usize = 32;

impl Function {
    /// The function with this name; None if no such function is ever in flight.
    ///
    /// # Safety
    /// `name` points to a string with a zero at its end.
    pub unsafe fn named(name: *const u8) -> Option<Self> {
        let mut bytes = [0u8; NAME_MAX];
        let mut length = 0;
        for byte in &mut bytes {
            // SAFETY: by this function's contract; nothing behind the zero is read.
            *byte = unsafe { *name.add(length) };
            if *byte == 0 {
                break;
            }
            length += 1;
        }
        Some(match bytes.get(..length)? {
            b"C_Encrypt" => Self::Encrypt,
            b"C_Decrypt" => Self::Decrypt,
            b"C_Digest" => Self::Digest,
            b"C_Sign" => Self::Sign,
            b"C_SignRecover" => Self::SignRecover,
            b"C_Verify" => Self::Verify,
            b"C_VerifySignature" => Self::VerifySignature,
            b"C_VerifyRecover" => Self::VerifyRecover,
            b"C_GenerateKey" => Self::GenerateKey,
            b"C_GenerateKeyPair" => Self::GenerateKeyPair,
            b"C_UnwrapKey" => Self::UnwrapKey,
            b"C_UnwrapKeyAuthenticated" => Self::UnwrapKeyAuthenticated,
            b"C_DecapsulateKey" => Self::DecapsulateKey,
            _ => return None,
        })
    }

    /// The operation that it ends; None for those that need no Init.
    pub fn usage(self) -> Option<Usage> {
        Some(match self {
            Self::Encrypt => Usage::Encrypt,
            Self::Decrypt => Usage::Decrypt,
            Self::Digest => Usage::Digest,
            Self::Sign => Usage::Sign,
            Self::SignRecover => Usage::SignRecover,
            Self::Verify | Self::VerifySignature => Usage::Verify,
            Self::VerifyRecover => Usage::VerifyRecover,
            _ => return None,
        })
    }

    /// Whether C_AsyncComplete has something to tell beside the result code.
    fn tells(self) -> bool {
        !matches!(self, Self::Verify | Self::VerifySignature)
    }
}

/// The caller's output buffer; null where the function has none. PKCS#11 makes the caller leave it
/// in place as long as the call is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Where it begins.
    pub base: *mut u8,
    /// Bytes of room.
    pub room: usize,
}

impl Buffer {
    /// No buffer.
    pub const NONE: Self = Self {
        base: std::ptr::null_mut(),
        room: 0,
    };
}

#[derive(Debug)]
struct Flight {
    buffer: Buffer,
    /// None: its connection has ended.
    ticket: Option<Ticket>,
    /// When it was first asked for in vain; the next look at the module's life.
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    nudged: bool,
    look: Instant,
}

// SAFETY: the buffer is the caller's, named by address; who completes the call, in whatever thread,
// may write it by the caller's promise.
unsafe impl Send for Flight {}

/// The calls in flight of one session.
#[derive(Debug)]
pub struct Flights {
    places: [Option<Flight>; FUNCTIONS],
    /// One CPU: who asks in vain lets the module run.
    alone: bool,
}

impl Flights {
    /// None in flight.
    pub fn new() -> Self {
        Self {
            places: [const { None }; FUNCTIONS],
            alone: cpus::available() == 1,
        }
    }

    fn place(&mut self, function: Function) -> &mut Option<Flight> {
        const { assert!(Function::DecapsulateKey as usize + 1 == FUNCTIONS) };
        #[expect(clippy::indexing_slicing, reason = "a place for each, asserted above")]
        &mut self.places[function as usize]
    }

    /// Whether a call of this function is in flight, or lost.
    pub fn has(&mut self, function: Function) -> bool {
        self.place(function).is_some()
    }

    /// Whether a call that makes keys is in flight: it cannot be taken back.
    pub fn makes_keys(&self) -> bool {
        self.places
            .iter()
            .skip(Function::GenerateKey as usize)
            .any(Option::is_some)
    }

    /// A call has been sent.
    pub fn depart(&mut self, function: Function, ticket: Ticket, buffer: Buffer) {
        *self.place(function) = Some(Flight {
            buffer,
            ticket: Some(ticket),
            waiting: None,
        });
    }

    /// The connection has ended, and with it every call.
    pub fn lose(&mut self) {
        self.places
            .iter_mut()
            .flatten()
            .for_each(|flight| flight.ticket = None);
    }

    /// Gives up every call that belongs to this operation, or all calls.
    pub fn cancel(&mut self, connection: Option<&Connection>, usage: Option<Usage>) {
        const ENDING: [Function; 8] = [
            Function::Encrypt,
            Function::Decrypt,
            Function::Digest,
            Function::Sign,
            Function::SignRecover,
            Function::Verify,
            Function::VerifySignature,
            Function::VerifyRecover,
        ];
        let give_up = |place: &mut Option<Flight>| {
            if let Some(ticket) = place.take().and_then(|flight| flight.ticket)
                && let Some(connection) = connection
            {
                connection.forget(ticket);
            }
        };
        match usage {
            None => self.places.iter_mut().for_each(give_up),
            Some(usage) => ENDING
                .into_iter()
                .filter(|function| function.usage() == Some(usage))
                .for_each(|function| give_up(self.place(function))),
        }
    }

    /// C_AsyncComplete: CKR_PENDING, or the result of the call, which then is in flight no more.
    ///
    /// # Safety
    /// `result` is null or the caller's to read and write; the call's buffer is still there.
    pub unsafe fn complete(
        &mut self,
        function: Function,
        connection: Option<&Connection>,
        patience: &mut Patience,
        result: *mut CK_ASYNC_DATA,
    ) -> Outcome {
        let alone = self.alone;
        let place = self.place(function);
        let Some(flight) = place else {
            return Err(CKR_OPERATION_NOT_INITIALIZED);
        };
        if result.is_null() {
            if function.tells() {
                return Err(CKR_ARGUMENTS_BAD);
            }
        // SAFETY: by this function's contract.
        } else if unsafe { (*result).ulVersion } != 0 {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // A lost connection is not looked at: in a forked child its memory is not there.
        let living = connection.filter(|connection| !connection.is_lost());
        if let (Some(connection), Some(ticket)) = (living, &flight.ticket)
            && !connection.is_ready(ticket)
        {
            flight.wait(connection, alone);
            return Err(CKR_PENDING);
        }
        let buffer = flight.buffer;
        let ticket = place.take().and_then(|flight| flight.ticket);
        let mut told = CK_ASYNC_DATA {
            ulVersion: 0,
            pValue: buffer.base,
            ulValue: 0,
            hObject: 0,
            hAdditionalObject: 0,
        };
        let outcome = match (living, ticket) {
            (Some(connection), Some(ticket)) => connection
                .wait(ticket, patience, |header, output| {
                    check(header.result)?;
                    if output.len() > buffer.room {
                        return Err(CKR_GENERAL_ERROR);
                    }
                    if !output.is_empty() {
                        // SAFETY: the caller's buffer has this room, by its promise; the source is
                        // the slot.
                        unsafe {
                            std::ptr::copy_nonoverlapping(
                                output.as_ptr(),
                                buffer.base,
                                output.len(),
                            );
                        }
                    }
                    told.ulValue = output.len() as u64;
                    told.hObject = header.value0;
                    told.hAdditionalObject = header.value1;
                    Ok(())
                })
                .unwrap_or_else(|lost| Err(result_of(SubmitError::from(lost)))),
            _ => Err(CKR_DEVICE_REMOVED),
        };
        if !result.is_null() {
            // SAFETY: by this function's contract.
            unsafe { result.write(told) };
        }
        outcome
    }
}

impl Flight {
    /// What is due when the answer is not there yet.
    fn wait(&mut self, connection: &Connection, alone: bool) {
        let now = Instant::now();
        let waiting = self.waiting.get_or_insert(Waiting {
            since: now,
            nudged: false,
            look: now + LIFE_CHECK,
        });
        if !waiting.nudged
            && now - waiting.since > NUDGE_AFTER
            && let Some(ticket) = &self.ticket
        {
            waiting.nudged = true;
            connection.nudge(ticket);
        }
        if now > waiting.look {
            waiting.look = now + LIFE_CHECK;
            // A connection that has ended says so at the next call.
            let _ = connection.check();
        }
        if alone {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_by_their_names_alone() {
        let named = |name: &[u8]| unsafe { Function::named(name.as_ptr()) };
        assert_eq!(named(b"C_Encrypt\0"), Some(Function::Encrypt));
        assert_eq!(
            named(b"C_UnwrapKeyAuthenticated\0"),
            Some(Function::UnwrapKeyAuthenticated)
        );
        for other in [&b"\0"[..], b"C_\0", b"C_EncryptInit\0", b"c_encrypt\0"] {
            assert_eq!(named(other), None);
        }
        assert_eq!(named(&[b'C'; 64]), None);
    }

    #[test]
    fn nothing_in_flight_is_no_operation() {
        let mut flights = Flights::new();
        let mut patience = Connection::patience();
        let outcome =
            unsafe { flights.complete(Function::Sign, None, &mut patience, std::ptr::null_mut()) };
        assert_eq!(outcome, Err(CKR_OPERATION_NOT_INITIALIZED));
    }
}

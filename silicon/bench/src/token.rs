//! The loops over a PKCS#11 library.
//!
//! Every thread has sessions of its own; keys are made once and shared. An operation is what a
//! program calls: C_...Init and the single-part function.

use crate::failure::Failure;
use crate::keys::{self, Handles, plain};
use crate::library::{Library, answer, call};
use crate::measure::Lane;
use crate::operation::{Case, KeyKind, Operation};
use cryptoki_sys::*;
use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;

/// DigestInfo of SHA-256 (RFC 8017, section 9.2), without the digest.
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
/// Bytes of tag and IV of AES-GCM.
const TAG: usize = 16;
const IV: usize = 12;
/// How often an answer that is not there is asked for before others get the CPU.
const ASKED: u32 = 100;
/// Room for the longest signature (ML-DSA-65: 3,309 bytes).
const SIGNATURE: usize = 4096;

/// A token and the keys that were made in it.
pub struct Token {
    /// The library.
    pub library: Arc<Library>,
    session: CK_SESSION_HANDLE,
    keys: HashMap<(KeyKind, bool), Handles>,
    lanes: u32,
}

impl Token {
    /// The token of a library.
    pub fn new(library: Library) -> Result<Self, Failure> {
        Ok(Self {
            session: library.session(0)?,
            library: Arc::new(library),
            keys: HashMap::new(),
            lanes: 0,
        })
    }

    /// A further thread's loop.
    pub fn lane(&mut self, case: &Case) -> Result<Box<dyn Lane>, Failure> {
        let key = match case.operation.key() {
            Some(kind) => self.key(kind, case.token_objects)?,
            None => 0,
        };
        if let Operation::Generate(kind) = case.operation {
            return Ok(Box::new(Generating {
                session: self.library.session(0)?,
                library: Arc::clone(&self.library),
                kind,
                token_object: case.token_objects,
                made: Vec::new(),
            }));
        }
        let flags = if case.in_flight > 1 {
            if self.library.functions_3_2.is_none() {
                return Err(Failure::Unsupported(
                    "the library has no asynchronous sessions (PKCS#11 3.2)".into(),
                ));
            }
            CKF_ASYNC_SESSION
        } else {
            0
        };
        let mut calls = Vec::new();
        for _ in 0..case.in_flight.max(1) {
            self.lanes += 1;
            let session = self.library.session(flags)?;
            calls.push(Call::new(case, session, key, self.lanes));
        }
        let library = Arc::clone(&self.library);
        if case.in_flight > 1 {
            let mut lane = Pipelined {
                library,
                calls,
                next: 0,
            };
            return if lane.leaves_in_flight()? {
                Ok(Box::new(lane))
            } else {
                Err(Failure::Unsupported(
                    "asynchronous sessions are opened, but every call is done when it returns"
                        .into(),
                ))
            };
        }
        let call = calls
            .pop()
            .ok_or_else(|| Failure::Other("no session".into()))?;
        Ok(Box::new(Single { library, call }))
    }

    fn key(&mut self, kind: KeyKind, token_object: bool) -> Result<CK_OBJECT_HANDLE, Failure> {
        let handles = match self.keys.get(&(kind, token_object)) {
            Some(handles) => handles,
            None => {
                let made = keys::generate(&self.library, self.session, kind, token_object)?;
                self.keys.entry((kind, token_object)).or_insert(made)
            }
        };
        handles
            .first()
            .copied()
            .ok_or_else(|| Failure::Other("no key was made".into()))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        for handles in self.keys.values() {
            // The process ends: nobody could do anything about a failure.
            let _ = keys::destroy(&self.library, self.session, handles);
        }
    }
}

/// One call with everything that it points to.
struct Call {
    operation: Operation,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
    mechanism: CK_MECHANISM_TYPE,
    iv: [u8; IV],
    input: Vec<u8>,
    output: Vec<u8>,
    length: CK_ULONG,
    pending: bool,
}

impl Call {
    fn new(case: &Case, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE, number: u32) -> Self {
        let bytes = case.bytes;
        let (mechanism, input, output) = match case.operation {
            Operation::Sign(kind) => {
                let (mechanism, input) = signing(kind);
                (mechanism, input, SIGNATURE)
            }
            Operation::Encrypt => (CKM_AES_GCM, vec![0x5a; bytes], bytes + TAG),
            Operation::Mac => (CKM_SHA256_HMAC, vec![0x5a; bytes], 32),
            Operation::Digest => (CKM_SHA256, vec![0x5a; bytes], 32),
            Operation::Random => (0, Vec::new(), bytes),
            Operation::RoundTrip | Operation::Generate(_) => (0, Vec::new(), 0),
        };
        let mut iv = [0; IV];
        for (target, byte) in iv.iter_mut().zip(number.to_be_bytes()) {
            *target = byte;
        }
        Self {
            operation: case.operation,
            session,
            key,
            mechanism,
            iv,
            input,
            output: vec![0; output],
            length: 0,
            pending: false,
        }
    }

    /// The next IV: one that this key has not seen.
    fn next_iv(&mut self) {
        for byte in self.iv.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    /// Begins the operation: CKR_OK where it is already done, CKR_PENDING where it is in flight.
    fn begin(&mut self, library: &Library) -> Result<CK_RV, Failure> {
        let mut mechanism = plain(self.mechanism);
        let data = self.input.as_mut_ptr();
        let size = self.input.len() as CK_ULONG;
        let out = self.output.as_mut_ptr();
        self.length = self.output.len() as CK_ULONG;
        // SAFETY: every pointer lives as long as `self`, so until the operation has ended, and comes
        // with its length; parameters are read by C_EncryptInit alone.
        unsafe {
            match self.operation {
                Operation::Sign(_) | Operation::Mac => {
                    call!(library, C_SignInit(self.session, &mut mechanism, self.key))?;
                    answer!(
                        library,
                        C_Sign(self.session, data, size, out, &mut self.length)
                    )
                }
                Operation::Encrypt => {
                    self.next_iv();
                    let mut parameters = CK_GCM_PARAMS {
                        pIv: self.iv.as_mut_ptr(),
                        ulIvLen: IV as CK_ULONG,
                        ulIvBits: 8 * IV as CK_ULONG,
                        pAAD: ptr::null_mut(),
                        ulAADLen: 0,
                        ulTagBits: 8 * TAG as CK_ULONG,
                    };
                    mechanism.pParameter = (&raw mut parameters).cast();
                    mechanism.ulParameterLen = size_of::<CK_GCM_PARAMS>() as CK_ULONG;
                    call!(
                        library,
                        C_EncryptInit(self.session, &mut mechanism, self.key)
                    )?;
                    answer!(
                        library,
                        C_Encrypt(self.session, data, size, out, &mut self.length)
                    )
                }
                Operation::Digest => {
                    call!(library, C_DigestInit(self.session, &mut mechanism))?;
                    answer!(
                        library,
                        C_Digest(self.session, data, size, out, &mut self.length)
                    )
                }
                Operation::Random => {
                    answer!(library, C_GenerateRandom(self.session, out, self.length))
                }
                Operation::RoundTrip | Operation::Generate(_) => {
                    let mut info = CK_SESSION_INFO {
                        slotID: 0,
                        state: 0,
                        flags: 0,
                        ulDeviceError: 0,
                    };
                    answer!(library, C_GetSessionInfo(self.session, &mut info))
                }
            }
        }
    }

    /// The name of the function that `begin` leaves in flight.
    fn function(&self) -> &'static std::ffi::CStr {
        match self.operation {
            Operation::Sign(_) | Operation::Mac => c"C_Sign",
            Operation::Encrypt => c"C_Encrypt",
            Operation::Digest => c"C_Digest",
            Operation::Random => c"C_GenerateRandom",
            Operation::RoundTrip | Operation::Generate(_) => c"C_GetSessionInfo",
        }
    }

    fn call_name(&self) -> &'static str {
        self.function().to_str().unwrap_or("C_?")
    }
}

fn signing(kind: KeyKind) -> (CK_MECHANISM_TYPE, Vec<u8>) {
    match kind {
        KeyKind::P384 => (CKM_ECDSA, vec![0x5a; 48]),
        KeyKind::Rsa(_) => (CKM_RSA_PKCS, [&DIGEST_INFO[..], &[0x5a; 32]].concat()),
        KeyKind::MlDsa65 => (CKM_ML_DSA, vec![0x5a; 32]),
        KeyKind::P256 | KeyKind::Aes256 | KeyKind::Secret => (CKM_ECDSA, vec![0x5a; 32]),
    }
}

/// One operation in flight.
struct Single {
    library: Arc<Library>,
    call: Call,
}

impl Lane for Single {
    fn operate(&mut self) -> Result<(), Failure> {
        match self.call.begin(&self.library)? {
            CKR_OK => Ok(()),
            code => Err(Failure::Token(self.call.call_name(), code)),
        }
    }
}

/// Several operations in flight in one thread: an asynchronous session (PKCS#11 3.2) for each.
struct Pipelined {
    library: Arc<Library>,
    calls: Vec<Call>,
    next: usize,
}

// SAFETY: the calls point only to what they own, and move as a whole.
unsafe impl Send for Pipelined {}

impl Pipelined {
    /// Whether one call of the first round at least answers CKR_PENDING.
    fn leaves_in_flight(&mut self) -> Result<bool, Failure> {
        for _ in 0..self.calls.len() {
            self.operate()?;
        }
        let pending = self.calls.iter().any(|call| call.pending);
        self.settle()?;
        Ok(pending)
    }

    fn complete(library: &Library, call: &mut Call) -> Result<(), Failure> {
        let Some(functions) = library.functions_3_2 else {
            return Err(Failure::Unsupported("no version 3.2".into()));
        };
        // SAFETY: the list is static; the session is this lane's.
        let Some(complete) = (unsafe { (*functions).C_AsyncComplete }) else {
            return Err(Failure::Unsupported("no C_AsyncComplete".into()));
        };
        let name = call.function().as_ptr().cast_mut().cast();
        let mut asked = 0;
        while call.pending {
            let mut result = CK_ASYNC_DATA {
                ulVersion: 0,
                pValue: ptr::null_mut(),
                ulValue: 0,
                hObject: 0,
                hAdditionalObject: 0,
            };
            // SAFETY: the name is static, the result lives during the call.
            match unsafe { complete(call.session, name, &mut result) } {
                CKR_OK => call.pending = false,
                // A program that has nothing else to do lets others run: they may be the token.
                CKR_PENDING if asked >= ASKED => std::thread::yield_now(),
                CKR_PENDING => asked += 1,
                code => return Err(Failure::Token("C_AsyncComplete", code)),
            }
        }
        Ok(())
    }
}

impl Lane for Pipelined {
    fn operate(&mut self) -> Result<(), Failure> {
        let count = self.calls.len();
        let Some(call) = self.calls.get_mut(self.next) else {
            return Err(Failure::Other("no session".into()));
        };
        self.next = (self.next + 1) % count;
        Self::complete(&self.library, call)?;
        match call.begin(&self.library)? {
            CKR_OK => Ok(()),
            CKR_PENDING => {
                call.pending = true;
                Ok(())
            }
            code => Err(Failure::Token(call.call_name(), code)),
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        for call in &mut self.calls {
            Self::complete(&self.library, call)?;
        }
        Ok(())
    }
}

/// New keys; they are destroyed after the slice, outside of the measured time.
struct Generating {
    library: Arc<Library>,
    session: CK_SESSION_HANDLE,
    kind: KeyKind,
    token_object: bool,
    made: Vec<Handles>,
}

impl Lane for Generating {
    fn operate(&mut self) -> Result<(), Failure> {
        let made = keys::generate(&self.library, self.session, self.kind, self.token_object)?;
        self.made.push(made);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        for handles in self.made.drain(..) {
            keys::destroy(&self.library, self.session, &handles)?;
        }
        Ok(())
    }
}

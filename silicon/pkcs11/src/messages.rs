//! Message-based operations: many messages under one key, each with its own IV and tag.
//!
//! An error ends the message, not the operation. Parts of a message that is signed, verified or
//! decrypted are gathered here, up to the largest message, and sent as one: the module releases no
//! plaintext before it has seen the tag. Parts of a message that is encrypted are a stream.

use crate::mechanism;
use crate::operation::{MessageOperation, Phase};
use crate::outcome::{Outcome, check};
use crate::output::{Output, input};
use crate::perform::SIGNATURE_MAX;
use crate::session::{Loss, Session, request};
use crate::verdicts::Subject;
use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::{Operation as Code, Usage};
use casemate_transport::parameters::Parameters;
use cryptoki_sys::*;
use std::mem::size_of;

/// Which of the four message operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// C_MessageEncrypt...
    Encrypt = 0,
    /// C_MessageDecrypt...
    Decrypt = 1,
    /// C_MessageSign...
    Sign = 2,
    /// C_MessageVerify...
    Verify = 3,
}

impl Kind {
    fn usage(self) -> Usage {
        match self {
            Self::Encrypt => Usage::Encrypt,
            Self::Decrypt => Usage::Decrypt,
            Self::Sign => Usage::Sign,
            Self::Verify => Usage::Verify,
        }
    }
}

/// The parameters of one AES-GCM message, in the caller's memory: the IV and the tag go both ways.
#[derive(Debug)]
pub struct GcmMessage {
    caller: CK_GCM_MESSAGE_PARAMS,
}

impl GcmMessage {
    /// The structure behind the pointer.
    ///
    /// # Safety
    /// As PKCS#11 has it: a CK_GCM_MESSAGE_PARAMS with its buffers.
    pub unsafe fn read(parameter: *mut std::ffi::c_void, length: CK_ULONG) -> Outcome<Self> {
        let whole = CK_MECHANISM {
            mechanism: CKM_AES_GCM,
            pParameter: parameter,
            ulParameterLen: length,
        };
        // SAFETY: by this function's contract.
        let caller: CK_GCM_MESSAGE_PARAMS = unsafe { mechanism::structure(&whole)? };
        let tag = caller.ulTagBits;
        if tag == 0
            || tag > 128
            || !tag.is_multiple_of(8)
            || caller.pTag.is_null()
            || caller.ulIvLen > 4096
        {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
        Ok(Self { caller })
    }

    fn tag_length(&self) -> usize {
        (self.caller.ulTagBits / 8) as usize
    }

    /// Bytes of IV that the module gives.
    fn generated(&self) -> usize {
        if self.caller.ivGenerator == CKG_NO_GENERATE {
            0
        } else {
            self.caller.ulIvLen as usize
        }
    }

    /// The wire form; with the tag where it is to be compared.
    fn encode(&self, aad: &[u8], with_tag: bool) -> Outcome<Vec<u8>> {
        let small = |value| u32::try_from(value).map_err(|_| CKR_MECHANISM_PARAM_INVALID);
        // SAFETY: `read` had its caller's word for the buffers.
        let (iv, tag) = unsafe {
            (
                input(self.caller.pIv, self.caller.ulIvLen)
                    .map_err(|_| CKR_MECHANISM_PARAM_INVALID)?,
                input(self.caller.pTag, self.caller.ulTagBits / 8)
                    .map_err(|_| CKR_MECHANISM_PARAM_INVALID)?,
            )
        };
        let mut out = Vec::new();
        Parameters::GcmMessage {
            iv,
            fixed_bits: small(self.caller.ulIvFixedBits)?,
            generator: self.caller.ivGenerator,
            aad,
            tag_bits: small(self.caller.ulTagBits)?,
            tag: if with_tag { tag } else { &[] },
        }
        .encode(&mut out);
        Ok(out)
    }

    fn give_iv(&self, iv: &[u8]) {
        if !self.caller.pIv.is_null() && iv.len() == self.generated() {
            // SAFETY: the buffer has `ulIvLen` bytes, by its caller's word.
            unsafe { std::ptr::copy_nonoverlapping(iv.as_ptr(), self.caller.pIv, iv.len()) };
        }
    }

    fn give_tag(&self, tag: &[u8]) -> bool {
        if tag.len() != self.tag_length() {
            return false;
        }
        // SAFETY: the buffer has `ulTagBits` bits, by its caller's word, and is not null.
        unsafe { std::ptr::copy_nonoverlapping(tag.as_ptr(), self.caller.pTag, tag.len()) };
        true
    }
}

impl Session {
    fn messages(&mut self, kind: Kind) -> &mut MessageOperation {
        #[expect(clippy::indexing_slicing, reason = "there is one for each kind")]
        &mut self.messages[kind as usize]
    }

    /// C_Message...Init. A null mechanism ends the operation that runs.
    ///
    /// # Safety
    /// As `mechanism::encode`.
    pub unsafe fn begin_messages(
        &mut self,
        kind: Kind,
        mechanism: *const CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
    ) -> Outcome {
        // SAFETY: by this function's contract.
        let Some(given) = (unsafe { mechanism.as_ref() }) else {
            return self.end_messages(kind).map_err(|_| CKR_ARGUMENTS_BAD);
        };
        if self.messages(kind).phase != Phase::Idle {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let mut parameters = Vec::new();
        let encoded = match kind {
            Kind::Encrypt | Kind::Decrypt => {
                if given.mechanism != CKM_AES_GCM {
                    return Err(CKR_MECHANISM_INVALID);
                }
                // What varies comes with each message; the check needs something of its kind.
                let example = Parameters::GcmMessage {
                    iv: &[0; 12],
                    fixed_bits: 0,
                    generator: CKG_NO_GENERATE,
                    aad: &[],
                    tag_bits: 128,
                    tag: &[],
                };
                example.encode(&mut parameters);
                mechanism::Encoded {
                    kind: given.mechanism,
                    shape: example.shape(),
                }
            }
            // SAFETY: by this function's contract.
            Kind::Sign | Kind::Verify => unsafe { mechanism::encode(given, &mut parameters)? },
        };
        let subject = Subject {
            usage: kind.usage(),
            mechanism: encoded.kind,
            key,
            shape: encoded.shape,
        };
        let verdict = self.permitted(subject, &parameters)?;
        let operation = self.messages(kind);
        operation.phase = Phase::Ready;
        operation.mechanism = encoded.kind;
        operation.key = key;
        operation.parameters = parameters;
        operation.length = verdict.length;
        Ok(())
    }

    /// C_Message...Final.
    pub fn end_messages(&mut self, kind: Kind) -> Outcome {
        if self.messages(kind).phase == Phase::Idle {
            return Err(CKR_OPERATION_NOT_INITIALIZED);
        }
        self.cancel_messages(kind as usize);
        Ok(())
    }

    /// Ends a message operation, if it runs, at the module too.
    pub fn cancel_messages(&mut self, index: usize) {
        let Some(operation) = self.messages.get_mut(index) else {
            return;
        };
        let streams = operation.phase == Phase::Streaming && index == Kind::Encrypt as usize;
        operation.end();
        if streams {
            self.cancel(Usage::Encrypt);
        }
    }

    fn ready(&mut self, kind: Kind) -> Outcome {
        match self.messages(kind).phase {
            Phase::Ready => Ok(()),
            Phase::Idle => Err(CKR_OPERATION_NOT_INITIALIZED),
            Phase::Asked | Phase::Streaming | Phase::Pending => Err(CKR_OPERATION_ACTIVE),
        }
    }

    fn within(&mut self, kind: Kind) -> Outcome {
        match self.messages(kind).phase {
            Phase::Streaming => Ok(()),
            _ => Err(CKR_OPERATION_NOT_INITIALIZED),
        }
    }

    /// C_EncryptMessage.
    pub fn encrypt_message(
        &mut self,
        gcm: &GcmMessage,
        aad: &[u8],
        data: &[u8],
        output: &Output,
    ) -> Outcome {
        self.ready(Kind::Encrypt)?;
        if !has_room(output, data.len())? {
            return Ok(());
        }
        let parameters = gcm.encode(aad, false)?;
        let operation = self.messages(Kind::Encrypt);
        let mut message = request(Code::Encrypt);
        message.header.mechanism = operation.mechanism;
        message.header.object = operation.key;
        let whole = data.len() + gcm.tag_length() + gcm.generated();
        message.header.capacity = u32::try_from(whole).map_err(|_| CKR_DATA_LEN_RANGE)?;
        message.parameters = &parameters;
        message.data = data;
        let mut good = false;
        self.call(&mut message, Loss::Repeat, |_, bytes| {
            let Some((ciphertext, rest)) = bytes.split_at_checked(data.len()) else {
                return;
            };
            let Some((tag, iv)) = rest.split_at_checked(gcm.tag_length()) else {
                return;
            };
            good = output.write(ciphertext) && gcm.give_tag(tag);
            gcm.give_iv(iv);
        })?;
        if good { Ok(()) } else { Err(CKR_DEVICE_ERROR) }
    }

    /// C_DecryptMessage, and the end of a gathered one.
    pub fn decrypt_message(
        &mut self,
        gcm: &GcmMessage,
        aad: &[u8],
        data: &[u8],
        output: &Output,
    ) -> Outcome {
        if !has_room(output, data.len())? {
            return Ok(());
        }
        let parameters = gcm.encode(aad, true)?;
        let operation = self.messages(Kind::Decrypt);
        let mut message = request(Code::Decrypt);
        message.header.mechanism = operation.mechanism;
        message.header.object = operation.key;
        message.parameters = &parameters;
        message.data = data;
        self.call_into(&mut message, Loss::Repeat, &output.limited(data.len()))
            .map(|_| ())
    }

    /// C_EncryptMessageBegin.
    pub fn encrypt_begin(&mut self, gcm: &GcmMessage, aad: &[u8]) -> Outcome {
        self.ready(Kind::Encrypt)?;
        if self.operation(Usage::Encrypt).phase != Phase::Idle {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let parameters = gcm.encode(aad, false)?;
        let operation = self.messages(Kind::Encrypt);
        let mut message = request(Code::StreamBegin);
        message.header.mechanism = operation.mechanism;
        message.header.object = operation.key;
        message.header.aux = Usage::Encrypt as u64;
        message.header.capacity = 64;
        message.parameters = &parameters;
        self.call(&mut message, Loss::Repeat, |_, iv| gcm.give_iv(iv))?;
        self.messages(Kind::Encrypt).phase = Phase::Streaming;
        // The stream is the session's one of this usage.
        self.operation(Usage::Encrypt).phase = Phase::Streaming;
        Ok(())
    }

    /// C_EncryptMessageNext.
    pub fn encrypt_next(
        &mut self,
        gcm: &GcmMessage,
        data: &[u8],
        output: &Output,
        last: bool,
    ) -> Outcome {
        self.within(Kind::Encrypt)?;
        if !has_room(output, data.len())? {
            return Ok(());
        }
        let outcome = self.encrypt_part(gcm, data, output, last);
        if last || outcome.is_err() {
            self.cancel(Usage::Encrypt);
            self.messages(Kind::Encrypt).end_message();
        }
        outcome
    }

    fn encrypt_part(
        &mut self,
        gcm: &GcmMessage,
        data: &[u8],
        output: &Output,
        last: bool,
    ) -> Outcome {
        self.stream(Usage::Encrypt)?;
        let mut message = request(Code::StreamUpdate);
        message.header.aux = Usage::Encrypt as u64;
        message.header.capacity = u32::try_from(data.len() + 16).map_err(|_| CKR_DATA_LEN_RANGE)?;
        message.data = data;
        let (mut written, mut good) = (0, false);
        self.call(&mut message, Loss::Report, |_, bytes| {
            good = output.write(bytes);
            written = bytes.len();
        })?;
        if last {
            let mut message = request(Code::StreamFinal);
            message.header.aux = Usage::Encrypt as u64;
            message.header.capacity = 64;
            self.call(&mut message, Loss::Report, |_, bytes| {
                let rest = bytes.len().saturating_sub(gcm.tag_length());
                let (rest, tag) = bytes.split_at(rest);
                good &= output.write_at(written, rest) && gcm.give_tag(tag);
            })?;
            self.operation(Usage::Encrypt).end();
        }
        if good { Ok(()) } else { Err(CKR_DEVICE_ERROR) }
    }

    /// Begins a message whose parts are gathered.
    pub fn gather(&mut self, kind: Kind, aad: &[u8]) -> Outcome {
        self.ready(kind)?;
        let operation = self.messages(kind);
        operation.phase = Phase::Streaming;
        operation.associated = aad.to_vec();
        operation.gathered.clear();
        Ok(())
    }

    /// A part of a gathered message.
    pub fn gather_part(&mut self, kind: Kind, data: &[u8]) -> Outcome {
        self.within(kind)?;
        let operation = self.messages(kind);
        if operation.gathered.len() + data.len() > MESSAGE_MAX {
            operation.end_message();
            return Err(CKR_DATA_LEN_RANGE);
        }
        operation.gathered.extend_from_slice(data);
        Ok(())
    }

    /// The last part of a gathered message: `act` gets associated data and the whole. A call for
    /// the length, and CKR_BUFFER_TOO_SMALL, leave everything as it was before the part.
    pub fn gather_last(
        &mut self,
        kind: Kind,
        data: &[u8],
        length_only: bool,
        act: impl FnOnce(&mut Self, &[u8], &[u8]) -> Outcome,
    ) -> Outcome {
        let before = self.messages(kind).gathered.len();
        self.gather_part(kind, data)?;
        let operation = self.messages(kind);
        let whole = std::mem::take(&mut operation.gathered);
        let associated = std::mem::take(&mut operation.associated);
        let outcome = act(self, &associated, &whole);
        let operation = self.messages(kind);
        if length_only || outcome == Err(CKR_BUFFER_TOO_SMALL) {
            operation.gathered = whole;
            operation.gathered.truncate(before);
            operation.associated = associated;
        } else {
            operation.end_message();
        }
        outcome
    }

    /// C_SignMessage, and the end of a gathered one.
    pub fn sign_message(&mut self, data: &[u8], output: &Output) -> Outcome {
        let operation = self.messages(Kind::Sign);
        if output.length_only() && operation.length != 0 {
            output.tell(operation.length);
            return Ok(());
        }
        let parameters = operation.parameters.clone();
        let mut message = request(Code::Sign);
        message.header.mechanism = operation.mechanism;
        message.header.object = operation.key;
        message.parameters = &parameters;
        message.data = data;
        if output.length_only() {
            message.header.flags = casemate_transport::message::FLAG_LENGTH_ONLY;
            let answer = self.call(&mut message, Loss::Repeat, |_, _| {})?;
            output.tell(answer.output);
            return Ok(());
        }
        self.call_into(&mut message, Loss::Repeat, &output.limited(SIGNATURE_MAX))
            .map(|_| ())
    }

    /// C_VerifyMessage, and the end of a gathered one.
    pub fn verify_message(&mut self, data: &[u8], signature: &[u8]) -> Outcome {
        if signature.len() > SIGNATURE_MAX {
            return Err(CKR_SIGNATURE_LEN_RANGE);
        }
        let operation = self.messages(Kind::Verify);
        let parameters = operation.parameters.clone();
        let mut message = request(Code::Verify);
        message.header.mechanism = operation.mechanism;
        message.header.object = operation.key;
        message.parameters = &parameters;
        message.first = signature;
        message.data = data;
        let answer = self.exchange(&mut message, Loss::Repeat, |_, _| {})?;
        check(answer.result)
    }

    /// Whether a message of this kind may come.
    pub fn expects_message(&mut self, kind: Kind) -> Outcome {
        self.ready(kind)
    }
}

/// Output as long as the input: false if only the length was wanted.
fn has_room(output: &Output, length: usize) -> Outcome<bool> {
    if output.length_only() {
        output.tell(length as u64);
        return Ok(false);
    }
    if output.room() < length {
        output.tell(length as u64);
        return Err(CKR_BUFFER_TOO_SMALL);
    }
    Ok(true)
}

const _: () = assert!(size_of::<CK_GCM_MESSAGE_PARAMS>() == 48);

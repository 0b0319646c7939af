//! How operations run: Init, the single part, the end; the same for every usage.
//!
//! A whole operation is one message. Only parts, and data beyond the largest message, make a stream at
//! the module: `parts`. `operation` has the phases.

use crate::flights::{Buffer, Function};
use crate::mechanism;
use crate::operation::Phase;
use crate::outcome::{Outcome, check};
use crate::output::Output;
use crate::session::{Loss, Session, request};
use crate::verdicts::{Subject, Verdict};
use casemate_transport::client::Request;
use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::{FLAG_LENGTH_ONLY, Operation as Code, Usage};
use cryptoki_sys::{
    CK_MECHANISM, CK_OBJECT_HANDLE, CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL,
    CKR_FUNCTION_NOT_SUPPORTED, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED, CKR_PENDING,
    CKR_SIGNATURE_LEN_RANGE,
};

/// The longest signature, MAC or digest.
pub const SIGNATURE_MAX: usize = 8192;
/// What a mechanism may add to its data: padding, a tag, an IV, an RSA block.
pub(crate) const GROWTH: usize = 1024;
/// Verdict: the output's length depends on the data.
const DEPENDS_ON_DATA: u64 = 2;
/// Data up to this goes along when only the length of the output is asked for.
pub(crate) const QUERY_DATA_MAX: usize = 16 * 1024;

impl Session {
    /// C_...Init. A null mechanism ends the operation that runs.
    ///
    /// # Safety
    /// As `mechanism::encode`.
    pub unsafe fn begin(
        &mut self,
        usage: Usage,
        mechanism: *const CK_MECHANISM,
        key: CK_OBJECT_HANDLE,
    ) -> Outcome {
        let phase = self.operation(usage).phase;
        if mechanism.is_null() {
            if phase == Phase::Idle {
                return Err(CKR_ARGUMENTS_BAD);
            }
            self.cancel(usage);
            return Ok(());
        }
        if phase != Phase::Idle {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let mut parameters = std::mem::take(&mut self.operation(usage).parameters);
        // SAFETY: by this function's contract.
        let outcome =
            unsafe { mechanism::encode(mechanism, &mut parameters) }.and_then(|encoded| {
                let subject = Subject {
                    usage,
                    mechanism: encoded.kind,
                    key,
                    shape: encoded.shape,
                };
                self.permitted(subject, &parameters)
                    .map(|verdict| (encoded.kind, verdict))
            });
        let operation = self.operation(usage);
        operation.parameters = parameters;
        let (mechanism, verdict) = outcome?;
        operation.mechanism = mechanism;
        operation.key = key;
        // The length of a ciphertext or plaintext always depends on the data.
        let fixed = matches!(usage, Usage::Digest | Usage::Sign | Usage::SignRecover);
        operation.length = if fixed && verdict.flags & DEPENDS_ON_DATA == 0 {
            verdict.length
        } else {
            0
        };
        operation.phase = Phase::Ready;
        Ok(())
    }

    /// Whether the module would begin such an operation: asked once, then remembered.
    pub fn permitted(&mut self, subject: Subject, parameters: &[u8]) -> Outcome<Verdict> {
        self.open()?;
        let epoch = self.link()?.verdict_epoch();
        if let Some(verdict) = self.verdicts.get(&subject, epoch) {
            return Ok(verdict);
        }
        let mut question = request(Code::Check);
        question.header.object = subject.key;
        question.header.mechanism = subject.mechanism;
        question.header.aux = subject.usage as u64;
        question.parameters = parameters;
        let answer = self.exchange(&mut question, Loss::Repeat, |_, _| {})?;
        if answer.result == CKR_FUNCTION_NOT_SUPPORTED {
            return Ok(Verdict {
                length: 0,
                flags: DEPENDS_ON_DATA,
            });
        }
        check(answer.result)?;
        let verdict = Verdict {
            length: answer.value0,
            flags: answer.value1,
        };
        self.verdicts.keep(subject, epoch, verdict);
        Ok(verdict)
    }

    /// Ends the operation, at the module too.
    pub fn cancel(&mut self, usage: Usage) {
        if self.operation(usage).phase == Phase::Streaming {
            let mut message = request(Code::StreamCancel);
            message.header.aux = usage as u64;
            let _ = self.exchange(&mut message, Loss::Report, |_, _| {});
        }
        if self.operation(usage).phase == Phase::Pending {
            self.give_up(usage);
        }
        self.operation(usage).end();
    }

    /// Fails unless the operation runs; `other` is the phase in which this kind of call ends it.
    pub(crate) fn running(&mut self, usage: Usage, other: Phase) -> Outcome {
        let phase = self.operation(usage).phase;
        if phase == Phase::Idle {
            return Err(CKR_OPERATION_NOT_INITIALIZED);
        }
        if phase == Phase::Pending {
            return Err(CKR_OPERATION_ACTIVE);
        }
        if phase == other {
            self.cancel(usage);
            return Err(CKR_OPERATION_ACTIVE);
        }
        Ok(())
    }

    /// Ends the operation after an error, but not after CKR_BUFFER_TOO_SMALL or CKR_PENDING.
    pub(crate) fn settle(&mut self, usage: Usage, outcome: Outcome) -> Outcome {
        if let Err(code) = outcome
            && code != CKR_BUFFER_TOO_SMALL
            && code != CKR_PENDING
        {
            self.cancel(usage);
        }
        outcome
    }

    /// A request of this operation, with its parameters lent, and with a signature and data.
    pub(crate) fn with_operation<T>(
        &mut self,
        usage: Usage,
        code: Code,
        (signature, data): (&[u8], &[u8]),
        act: impl FnOnce(&mut Self, &mut Request<'_>) -> T,
    ) -> T {
        let operation = self.operation(usage);
        let parameters = std::mem::take(&mut operation.parameters);
        let mut message = request(code);
        message.header.object = operation.key;
        message.header.mechanism = operation.mechanism;
        message.parameters = &parameters;
        message.first = signature;
        message.data = data;
        let value = act(self, &mut message);
        self.operation(usage).parameters = parameters;
        value
    }

    /// The single-part call of an operation with output.
    pub fn single(
        &mut self,
        usage: Usage,
        data: Outcome<&[u8]>,
        output: Outcome<Output>,
    ) -> Outcome {
        self.running(usage, Phase::Streaming)?;
        let outcome = data.and_then(|data| {
            let output = output?;
            if output.length_only() {
                self.single_length(usage, data, &output)?;
                self.operation(usage).phase = Phase::Asked;
                return Ok(());
            }
            if data.len() > MESSAGE_MAX {
                self.single_large(usage, data, &output)?;
            } else {
                let limit = match single_code(usage) {
                    Code::Encrypt | Code::Decrypt => data.len() + GROWTH,
                    _ => SIGNATURE_MAX,
                };
                let code = single_code(usage);
                let bound = self.output_bound(usage, data);
                self.with_operation(usage, code, (&[], data), |session, message| {
                    session.depart_single(usage, message, &output, bound)?;
                    session.call_into(message, Loss::Repeat, &output.limited(limit))
                })?;
            }
            self.operation(usage).end();
            Ok(())
        });
        if outcome == Err(CKR_BUFFER_TOO_SMALL) {
            self.operation(usage).phase = Phase::Asked;
        }
        self.settle(usage, outcome)
    }

    /// The most that the single-part call can give, where that is known without asking.
    fn output_bound(&mut self, usage: Usage, data: &[u8]) -> Option<usize> {
        if !self.is_asynchronous() {
            return None;
        }
        let operation = self.operation(usage);
        match usage {
            Usage::Encrypt => {
                let growth = mechanism::growth(operation.mechanism, &operation.parameters)?;
                Some(data.len() + growth)
            }
            Usage::Decrypt => {
                let tag = mechanism::tag_bytes(operation.mechanism, &operation.parameters);
                Some(data.len().saturating_sub(tag))
            }
            Usage::VerifyRecover => Some(data.len()),
            _ => usize::try_from(operation.length)
                .ok()
                .filter(|length| *length > 0),
        }
    }

    /// In an asynchronous session: leaves the single-part call in flight if its output fits.
    fn depart_single(
        &mut self,
        usage: Usage,
        message: &mut Request<'_>,
        output: &Output,
        bound: Option<usize>,
    ) -> Outcome {
        let Some(bound) = bound.filter(|bound| *bound <= output.room()) else {
            return Ok(());
        };
        message.header.capacity = u32::try_from(bound).unwrap_or(u32::MAX);
        let outcome = self.depart(
            single_function(usage),
            message,
            Loss::Repeat,
            output.buffer(),
        );
        if outcome == Err(CKR_PENDING) {
            self.operation(usage).phase = Phase::Pending;
        }
        outcome
    }

    /// How long the output of the single-part call will be, at most.
    fn single_length(&mut self, usage: Usage, data: &[u8], output: &Output) -> Outcome {
        let known = self.operation(usage).length;
        if known != 0 {
            output.tell(known);
            return Ok(());
        }
        if data.len() > QUERY_DATA_MAX {
            output.tell((data.len() + GROWTH) as u64);
            return Ok(());
        }
        let code = single_code(usage);
        self.with_operation(usage, code, (&[], data), |session, message| {
            message.header.flags = FLAG_LENGTH_ONLY;
            let answer = session.call(message, Loss::Repeat, |_, _| {})?;
            output.tell(answer.output);
            Ok(())
        })
    }

    /// Data that no message can carry, as a stream.
    fn single_large(&mut self, usage: Usage, data: &[u8], output: &Output) -> Outcome {
        let outcome = self.feed(usage, data, Some(output)).and_then(|written| {
            self.finish(usage, &[], |session, message| {
                let limit = session.final_limit(usage);
                let mut fits = true;
                message.header.capacity = output.limited(limit).capacity();
                let answer = session.exchange(message, Loss::Report, |_, bytes| {
                    fits = output.write_at(written, bytes);
                })?;
                check(answer.result)?;
                if fits {
                    Ok(())
                } else {
                    Err(CKR_BUFFER_TOO_SMALL)
                }
            })
        });
        if outcome == Err(CKR_BUFFER_TOO_SMALL) {
            // The caller may try again with more room: back to where it was.
            output.tell((data.len() + GROWTH) as u64);
            self.restart(usage);
        }
        outcome
    }

    /// Forgets what the module has, but not the operation.
    fn restart(&mut self, usage: Usage) {
        let operation = self.operation(usage);
        let kept = (operation.mechanism, operation.key, operation.length);
        self.cancel(usage);
        let operation = self.operation(usage);
        (operation.mechanism, operation.key, operation.length) = kept;
        operation.phase = Phase::Ready;
    }

    /// The single-part verification.
    pub fn verify(
        &mut self,
        function: Function,
        data: Outcome<&[u8]>,
        signature: Outcome<&[u8]>,
    ) -> Outcome {
        self.running(Usage::Verify, Phase::Streaming)?;
        let outcome = data.and_then(|data| {
            let signature = bounded(signature?)?;
            if data.len() > MESSAGE_MAX {
                self.feed(Usage::Verify, data, None)?;
                return self.finish_verification(signature);
            }
            let usage = Usage::Verify;
            self.with_operation(
                usage,
                Code::Verify,
                (signature, data),
                |session, message| {
                    if session.is_asynchronous() {
                        let left = session.depart(function, message, Loss::Repeat, Buffer::NONE);
                        if left == Err(CKR_PENDING) {
                            session.operation(usage).phase = Phase::Pending;
                        }
                        left?;
                    }
                    session.call(message, Loss::Repeat, |_, _| {})
                },
            )?;
            self.operation(Usage::Verify).end();
            Ok(())
        });
        self.settle(Usage::Verify, outcome)
    }
}

/// A signature that fits a message.
pub(crate) fn bounded(signature: &[u8]) -> Outcome<&[u8]> {
    if signature.len() > SIGNATURE_MAX {
        return Err(CKR_SIGNATURE_LEN_RANGE);
    }
    Ok(signature)
}

fn single_function(usage: Usage) -> Function {
    match usage {
        Usage::Sign => Function::Sign,
        Usage::Encrypt => Function::Encrypt,
        Usage::Decrypt => Function::Decrypt,
        Usage::SignRecover => Function::SignRecover,
        Usage::VerifyRecover => Function::VerifyRecover,
        Usage::Verify => Function::Verify,
        _ => Function::Digest,
    }
}

fn single_code(usage: Usage) -> Code {
    match usage {
        Usage::Sign => Code::Sign,
        Usage::Encrypt => Code::Encrypt,
        Usage::Decrypt => Code::Decrypt,
        Usage::SignRecover => Code::SignRecover,
        Usage::VerifyRecover => Code::VerifyRecover,
        Usage::Verify => Code::Verify,
        _ => Code::Digest,
    }
}

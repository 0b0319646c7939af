//! How operations run in parts, and how a single part that no message can carry does: a stream at the
//! module.

use crate::operation::Phase;
use crate::outcome::{Outcome, check};
use crate::output::Output;
use crate::perform::{GROWTH, QUERY_DATA_MAX, SIGNATURE_MAX, bounded};
use crate::session::{Loss, Session, request};
use casemate_transport::client::Request;
use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::{FLAG_LENGTH_ONLY, Operation as Code, Usage};
use cryptoki_sys::{
    CKR_BUFFER_TOO_SMALL, CKR_DEVICE_REMOVED, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED,
};

/// The longest block of a cipher.
const BLOCK: usize = 16;

impl Session {
    /// Begins the stream at the module, if it has not begun.
    pub fn stream(&mut self, usage: Usage) -> Outcome {
        match self.operation(usage).phase {
            Phase::Idle => Err(CKR_OPERATION_NOT_INITIALIZED),
            Phase::Pending => Err(CKR_OPERATION_ACTIVE),
            Phase::Streaming => {
                self.open()?;
                // A new connection has ended the stream.
                if self.operation(usage).phase == Phase::Streaming {
                    Ok(())
                } else {
                    Err(CKR_DEVICE_REMOVED)
                }
            }
            Phase::Ready | Phase::Asked => {
                let nothing: (&[u8], &[u8]) = (&[], &[]);
                self.with_operation(usage, Code::StreamBegin, nothing, |session, message| {
                    message.header.aux = usage as u64;
                    session.call(message, Loss::Repeat, |_, _| {})
                })?;
                let operation = self.operation(usage);
                operation.phase = Phase::Streaming;
                operation.fed = 0;
                Ok(())
            }
        }
    }

    /// Sends data as parts; output, if there is a place for it, one behind the other. The number of
    /// bytes written.
    pub(crate) fn feed(
        &mut self,
        usage: Usage,
        data: &[u8],
        output: Option<&Output>,
    ) -> Outcome<usize> {
        let mut written = 0;
        for part in data.chunks(MESSAGE_MAX.min(data.len().max(1))) {
            self.stream(usage)?;
            let mut message = request(Code::StreamUpdate);
            message.header.aux = usage as u64;
            message.data = part;
            if let Some(output) = output {
                let room = output.room().saturating_sub(written);
                message.header.capacity =
                    u32::try_from(room.min(part.len() + GROWTH)).unwrap_or(u32::MAX);
            }
            let mut fits = true;
            let mut count = 0;
            let answer = self.exchange(&mut message, Loss::Report, |_, bytes| {
                count = bytes.len();
                if let Some(output) = output {
                    fits = output.write_at(written, bytes);
                }
            })?;
            if answer.result == CKR_BUFFER_TOO_SMALL
                && let Some(output) = output
            {
                output.tell((written as u64).saturating_add(answer.output));
            }
            check(answer.result)?;
            if !fits {
                return Err(CKR_BUFFER_TOO_SMALL);
            }
            written += count;
            let operation = self.operation(usage);
            operation.fed += part.len();
            operation.given += count;
        }
        if let Some(output) = output {
            output.tell(written as u64);
        }
        Ok(written)
    }

    /// A part of an operation without output on the way.
    pub fn update(&mut self, usage: Usage, data: Outcome<&[u8]>) -> Outcome {
        self.running(usage, Phase::Asked)?;
        let outcome = data.and_then(|data| {
            self.stream(usage)?;
            self.feed(usage, data, None).map(|_| ())
        });
        self.settle(usage, outcome)
    }

    /// A part of an operation with output on the way.
    pub fn update_into(
        &mut self,
        usage: Usage,
        data: Outcome<&[u8]>,
        output: Outcome<Output>,
    ) -> Outcome {
        self.running(usage, Phase::Asked)?;
        let outcome = data.and_then(|data| {
            let output = output?;
            if output.length_only() {
                self.stream(usage)?;
                return self.update_length(usage, data, &output);
            }
            // Several messages cannot be taken back if the last one does not fit: what they may give
            // is their length, and what the module holds of a block.
            let operation = self.operation(usage);
            let held = operation.fed.saturating_sub(operation.given).min(BLOCK);
            if data.len() > MESSAGE_MAX && output.room() < data.len() + held {
                output.tell((data.len() + held) as u64);
                return Err(CKR_BUFFER_TOO_SMALL);
            }
            self.stream(usage)?;
            self.feed(usage, data, Some(&output)).map(|_| ())
        });
        self.settle(usage, outcome)
    }

    fn update_length(&mut self, usage: Usage, data: &[u8], output: &Output) -> Outcome {
        if data.len() > QUERY_DATA_MAX {
            output.tell((data.len() + GROWTH) as u64);
            return Ok(());
        }
        let mut message = request(Code::StreamUpdate);
        message.header.aux = usage as u64;
        message.header.flags = FLAG_LENGTH_ONLY;
        message.data = data;
        let answer = self.call(&mut message, Loss::Report, |_, _| {})?;
        output.tell(answer.output);
        Ok(())
    }

    /// The most that the end of an operation gives.
    pub(crate) fn final_limit(&mut self, usage: Usage) -> usize {
        match usage {
            Usage::Encrypt | Usage::Decrypt => self
                .operation(usage)
                .fed
                .saturating_add(GROWTH)
                .min(MESSAGE_MAX),
            _ => SIGNATURE_MAX,
        }
    }

    /// The message that ends a stream.
    pub(crate) fn finish(
        &mut self,
        usage: Usage,
        signature: &[u8],
        act: impl FnOnce(&mut Self, &mut Request<'_>) -> Outcome,
    ) -> Outcome {
        self.stream(usage)?;
        let mut message = request(Code::StreamFinal);
        message.header.aux = usage as u64;
        message.first = signature;
        act(self, &mut message)?;
        self.operation(usage).end();
        Ok(())
    }

    /// The end of an operation with output.
    pub fn finish_into(&mut self, usage: Usage, output: Outcome<Output>) -> Outcome {
        self.running(usage, Phase::Asked)?;
        let outcome = output.and_then(|output| {
            let known = self.operation(usage).length;
            if output.length_only() {
                if known != 0 && !matches!(usage, Usage::Encrypt | Usage::Decrypt) {
                    output.tell(known);
                    return Ok(());
                }
                self.stream(usage)?;
                let mut message = request(Code::StreamFinal);
                message.header.aux = usage as u64;
                message.header.flags = FLAG_LENGTH_ONLY;
                let answer = self.call(&mut message, Loss::Report, |_, _| {})?;
                output.tell(answer.output);
                return Ok(());
            }
            let limit = self.final_limit(usage);
            self.finish(usage, &[], |session, message| {
                session
                    .call_into(message, Loss::Report, &output.limited(limit))
                    .map(|_| ())
            })
        });
        self.settle(usage, outcome)
    }

    /// The end of a verification in parts.
    pub fn finish_verify(&mut self, signature: Outcome<&[u8]>) -> Outcome {
        self.running(Usage::Verify, Phase::Asked)?;
        let outcome = signature.and_then(|signature| self.finish_verification(bounded(signature)?));
        self.settle(Usage::Verify, outcome)
    }

    pub(crate) fn finish_verification(&mut self, signature: &[u8]) -> Outcome {
        self.finish(Usage::Verify, signature, |session, message| {
            session.call(message, Loss::Report, |_, _| {}).map(|_| ())
        })
    }
}

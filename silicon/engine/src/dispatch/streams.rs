//! Multi-part operations of a session (PKCS#11 3.2, sections 5.8 to 5.14).

use casemate_transport::message::{Operation, Usage};
use cryptoki_sys::*;

use super::{Call, Outcome, Result};
use crate::failure::Failure;
use crate::lc::Input;
use crate::session::Active;

impl Call<'_> {
    pub(super) fn stream(&mut self, operation: Operation) -> Result<Outcome> {
        let session = self.session()?;
        let usage = match operation {
            Operation::StreamDigestKey | Operation::SaveState | Operation::RestoreState => {
                Usage::Digest
            }
            _ => Usage::from_code(self.header.aux).ok_or(Failure::new(CKR_ARGUMENTS_BAD))?,
        };
        match operation {
            Operation::StreamBegin => self.begin_stream(usage),
            Operation::StreamUpdate => {
                let mut active = session.take(usage)?;
                let needed = active.stream.output_length(Some(self.input().len()));
                if self.length_only() || (self.header.capacity as usize) < needed {
                    session.put_back(usage, active);
                    return if self.length_only() {
                        Ok(Outcome::Length(needed))
                    } else {
                        Err(Failure::too_small(needed))
                    };
                }
                let mut output = self.output();
                active.stream.update(self.input(), &mut output)?;
                session.put_back(usage, active);
                Ok(Outcome::Written(output.written()))
            }
            Operation::StreamFinal => self.finish_stream(usage),
            Operation::StreamCancel => {
                session.cancel(usage);
                Ok(Outcome::Values(0, 0))
            }
            Operation::StreamDigestKey => {
                let (object, key) = self.key(self.header.object)?;
                if object.class != CKO_SECRET_KEY {
                    return Err(CKR_KEY_INDIGESTIBLE.into());
                }
                let value = key.stored()?;
                let mut active = session.take(usage)?;
                let mut output = self.output();
                active
                    .stream
                    .update(Input::new(value.expose()), &mut output)?;
                session.put_back(usage, active);
                Ok(Outcome::Values(0, 0))
            }
            Operation::SaveState => {
                let active = session.take(usage)?;
                let state = active.stream.save();
                let kind = active.mechanism;
                session.put_back(usage, active);
                let plain = [&kind.to_le_bytes()[..], state?.expose()].concat();
                Ok(Outcome::Bytes(
                    self.partition.ledger.seal_state(&plain)?,
                    0,
                    0,
                ))
            }
            _ => self.restore_state(),
        }
    }

    fn begin_stream(&mut self, usage: Usage) -> Result<Outcome> {
        let session = self.session()?;
        let mechanism = self.mechanism()?;
        let (object, key) = self.operand(usage)?;
        mechanism.check(usage, key.as_deref(), self.parameters)?;
        if let Some(object) = &object {
            self.require_context(object)?;
        }
        let (stream, told) = mechanism.start(self, usage, key.as_ref(), self.parameters)?;
        self.require_capacity(told.len())?;
        session.begin(
            usage,
            Active {
                stream: self.partition.held.counting(stream),
                mechanism: self.header.mechanism,
                key: self.header.object,
            },
        )?;
        Ok(Outcome::Bytes(told, 0, 0))
    }

    fn finish_stream(&mut self, usage: Usage) -> Result<Outcome> {
        let session = self.session()?;
        let mut active = session.take(usage)?;
        let mut output = self.output();
        if usage == Usage::Verify {
            if !self.input().is_empty() {
                active.stream.update(self.input(), &mut output)?;
            }
            active.stream.verify(self.first)?;
            return Ok(Outcome::Values(0, 0));
        }
        // With last data the room must hold what they and the end may give at most: what is too
        // little must be found out before anything is consumed.
        let needed = active.stream.output_length(None)
            + match self.input().len() {
                0 => 0,
                last => active.stream.output_length(Some(last)) + last,
            };
        if self.length_only() || (self.header.capacity as usize) < needed {
            session.put_back(usage, active);
            return if self.length_only() {
                Ok(Outcome::Length(needed))
            } else {
                Err(Failure::too_small(needed))
            };
        }
        if !self.input().is_empty() {
            active.stream.update(self.input(), &mut output)?;
        }
        active.stream.finish(&mut output)?;
        Ok(Outcome::Written(output.written()))
    }

    fn restore_state(&mut self) -> Result<Outcome> {
        let session = self.session()?;
        let invalid = Failure::new(CKR_SAVED_STATE_INVALID);
        let plain = self
            .partition
            .ledger
            .open_state(self.data().expose())
            .ok_or(invalid)?;
        let (kind, state) = plain.expose().split_at_checked(8).ok_or(invalid)?;
        let kind = u64::from_le_bytes(kind.try_into().map_err(|_| invalid)?);
        let stream = self.mechanism_of(kind)?.restore(state)?;
        session.cancel(Usage::Digest);
        session.begin(
            Usage::Digest,
            Active {
                stream,
                mechanism: kind,
                key: 0,
            },
        )?;
        Ok(Outcome::Values(0, 0))
    }
}

//! Whole operations: one message in, one answer out (PKCS#11 3.2, sections 5.8 to 5.15).

use std::sync::Arc;

use casemate_transport::message::{Operation, Usage};
use cryptoki_sys::*;

use super::{Call, Outcome, Result};
use crate::failure::Failure;
use crate::keys::Key;
use crate::object::Object;

/// The key object and its material; neither for a digest.
pub(super) type Operand = (Option<Arc<Object>>, Option<Arc<Key>>);

impl Call<'_> {
    pub(super) fn use_key(&mut self, operation: Operation) -> Result<Outcome> {
        self.require_session()?;
        let usage = match operation {
            Operation::Check => return self.check(),
            Operation::Digest => Usage::Digest,
            Operation::Sign => Usage::Sign,
            Operation::Verify => Usage::Verify,
            Operation::Encrypt => Usage::Encrypt,
            Operation::Decrypt => Usage::Decrypt,
            Operation::SignRecover => Usage::SignRecover,
            _ => Usage::VerifyRecover,
        };
        let mechanism = self.mechanism()?;
        let (object, key) = self.operand(usage)?;
        mechanism.check(usage, key.as_deref(), self.parameters)?;
        if usage != Usage::Verify {
            let (length, exact) = mechanism.output_length(
                usage,
                key.as_deref(),
                self.parameters,
                self.input().len(),
            )?;
            if self.length_only() {
                return Ok(Outcome::Length(length));
            }
            if exact {
                self.require_capacity(length)?;
            }
        }
        if let Some(object) = &object {
            self.require_context(object)?;
        }
        let mut output = self.output();
        let required = || key.as_ref().ok_or(Failure::new(CKR_KEY_HANDLE_INVALID));
        match usage {
            Usage::Digest => mechanism.digest(self.parameters, self.input(), &mut output)?,
            Usage::Sign => mechanism.sign(
                self,
                required()?,
                self.parameters,
                self.input(),
                &mut output,
            )?,
            Usage::Verify => {
                mechanism.verify(self, required()?, self.parameters, self.input(), self.first)?;
                return Ok(Outcome::Values(0, 0));
            }
            Usage::Encrypt => mechanism.encrypt(
                self,
                required()?,
                self.parameters,
                self.input(),
                &mut output,
            )?,
            Usage::Decrypt => mechanism.decrypt(
                self,
                required()?,
                self.parameters,
                self.input(),
                &mut output,
            )?,
            Usage::SignRecover => {
                mechanism.sign_recover(
                    required()?,
                    self.parameters,
                    self.data().expose(),
                    &mut output,
                )?;
            }
            _ => mechanism.verify_recover(
                required()?,
                self.parameters,
                self.data().expose(),
                &mut output,
            )?,
        }
        Ok(Outcome::Written(output.written()))
    }

    /// The key of the request, where the usage has one.
    pub(super) fn operand(&self, usage: Usage) -> Result<Operand> {
        if usage == Usage::Digest {
            return Ok((None, None));
        }
        let (object, key) = self.key_for(self.header.object, usage, self.header.mechanism)?;
        Ok((Some(object), Some(key)))
    }

    fn check(&self) -> Result<Outcome> {
        let usage = Usage::from_code(self.header.aux).ok_or(Failure::new(CKR_ARGUMENTS_BAD))?;
        let mechanism = self.mechanism()?;
        let (object, key) = self.operand(usage)?;
        mechanism.check(usage, key.as_deref(), self.parameters)?;
        let (length, exact) = match usage {
            Usage::Verify | Usage::Unwrap | Usage::Derive | Usage::Decapsulate => (0, true),
            _ => mechanism.output_length(usage, key.as_deref(), self.parameters, 0)?,
        };
        let mut flags = if exact { 0 } else { 2 };
        if self.policy.pin_required && object.is_some_and(|object| object.always_authenticate()) {
            flags |= 1;
        }
        Ok(Outcome::Values(
            if exact { length as u64 } else { 0 },
            flags,
        ))
    }
}

//! AES-GCM (PKCS#11 3.2, section 6.12): the classic form, where ciphertext and tag are one, and the
//! form of messages, where the tag stands apart and the module may make the IV.
//!
//! Encryption runs where the client's data stands. Decryption works on a private copy and gives
//! nothing before the tag has verified: in parts it gathers the ciphertext and answers at the end.
//!
//! An IV that is made here has 12 bytes. Without a fixed part it is random; with one (at most 4
//! bytes, as TLS 1.2 has it), or where a counter is asked for, its last 8 bytes count per key from a
//! random number, so that neither a restart nor a copy of the key comes back to an IV.

use std::borrow::Cow;
use std::sync::Arc;

use casemate_transport::layout::BULK_BYTES;
use casemate_transport::message::Usage;
use casemate_transport::parameters::Parameters;
use cryptoki_sys::{
    CK_GENERATOR_FUNCTION, CK_MECHANISM_TYPE, CKF_DECRYPT, CKF_ENCRYPT, CKF_MESSAGE_DECRYPT,
    CKF_MESSAGE_ENCRYPT, CKF_UNWRAP, CKF_WRAP, CKG_GENERATE, CKG_GENERATE_COUNTER,
    CKG_GENERATE_RANDOM, CKG_NO_GENERATE, CKK_AES, CKM_AES_GCM, CKR_AEAD_DECRYPT_FAILED,
    CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_MECHANISM_INVALID,
    CKR_MECHANISM_PARAM_INVALID, CKR_WRAPPED_KEY_INVALID, CKR_WRAPPED_KEY_LEN_RANGE,
};
use zeroize::Zeroize;

use super::secret::{self, cipher_failure};
use super::{Environment, Info, Mechanism, Stream};
use crate::failure::Failure;
use crate::keys::{Key, SecretKey};
use crate::lc::aes::Direction;
use crate::lc::gcm::{GcmStream, tag_allowed};
use crate::lc::{self, Input, Output, Secret};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[&AesGcm];

/// Bytes of an IV that is made here.
const MADE_IV: usize = 12;
/// Most bits of its fixed part.
const FIXED_BITS_MAX: u32 = 32;
/// Most ciphertext and tag of a decryption in parts: what one answer carries.
const GATHERED_MAX: usize = BULK_BYTES;

struct AesGcm;

/// The parameters, judged.
struct Plan<'a> {
    iv: &'a [u8],
    aad: &'a [u8],
    /// Bytes of the tag.
    tag: usize,
    /// The form of messages.
    message: Option<Message<'a>>,
}

struct Message<'a> {
    fixed_bits: u32,
    generator: CK_GENERATOR_FUNCTION,
    tag: &'a [u8],
}

impl<'a> Plan<'a> {
    fn new(usage: Usage, parameters: &'a [u8]) -> Result<Self, Failure> {
        let invalid = Failure::new(CKR_MECHANISM_PARAM_INVALID);
        let (plan, tag_bits) = match secret::decode(parameters)? {
            Parameters::Gcm {
                iv,
                iv_bits,
                aad,
                tag_bits,
            } => {
                if u64::from(iv_bits) != iv.len() as u64 * 8 {
                    return Err(invalid);
                }
                let plan = Plan {
                    iv,
                    aad,
                    tag: 0,
                    message: None,
                };
                (plan, tag_bits)
            }
            Parameters::GcmMessage {
                iv,
                fixed_bits,
                generator,
                aad,
                tag_bits,
                tag,
            } => {
                let message = Message {
                    fixed_bits,
                    generator,
                    tag,
                };
                let plan = Plan {
                    iv,
                    aad,
                    tag: 0,
                    message: Some(message),
                };
                (plan, tag_bits)
            }
            _ => return Err(invalid),
        };
        let tag = usize::try_from(tag_bits / 8).map_err(|_| invalid)?;
        let makes = secret::direction(usage)? == Direction::Encrypt && plan.makes_iv();
        let good = tag_bits.is_multiple_of(8)
            && tag_allowed(tag)
            && if makes {
                plan.can_make_iv()
            } else {
                !plan.iv.is_empty()
            };
        if good {
            Ok(Self { tag, ..plan })
        } else {
            Err(invalid)
        }
    }

    /// Whether an encryption makes the IV.
    fn makes_iv(&self) -> bool {
        self.message
            .as_ref()
            .is_some_and(|message| message.generator != CKG_NO_GENERATE)
    }

    fn can_make_iv(&self) -> bool {
        self.iv.len() == MADE_IV
            && self
                .message
                .as_ref()
                .is_some_and(|message| match message.generator {
                    CKG_GENERATE | CKG_GENERATE_COUNTER => message.fixed_bits <= FIXED_BITS_MAX,
                    // SP 800-38D, section 8.2.2: at least 96 random bits.
                    CKG_GENERATE_RANDOM => message.fixed_bits == 0,
                    _ => false,
                })
    }

    /// Bytes of IV that the answer carries.
    fn made_iv(&self) -> usize {
        if self.makes_iv() { MADE_IV } else { 0 }
    }

    /// The IV of an encryption.
    fn iv(&self, environment: &dyn Environment, key: &SecretKey) -> Result<Cow<'a, [u8]>, Failure> {
        let Some(message) = self.message.as_ref().filter(|_| self.makes_iv()) else {
            return Ok(Cow::Borrowed(self.iv));
        };
        let mut iv = [0; MADE_IV];
        environment.random(&mut iv)?;
        if message.fixed_bits == 0 && message.generator != CKG_GENERATE_COUNTER {
            return Ok(Cow::Owned(iv.to_vec()));
        }
        let count = key.next_nonce(|| {
            let mut first = [0; 8];
            environment.random(&mut first)?;
            Ok::<u64, Failure>(u64::from_be_bytes(first))
        })?;
        let (head, tail) = iv.split_at_mut(MADE_IV - 8);
        tail.copy_from_slice(&count.to_be_bytes());
        // The fixed bits are the first ones; what is left before the counter stays random.
        for (index, (made, given)) in head.iter_mut().zip(self.iv).enumerate() {
            let fixed = message.fixed_bits.saturating_sub(8 * index as u32).min(8);
            let mask = (0xff00_u16 >> fixed) as u8;
            *made = (given & mask) | (*made & !mask);
        }
        Ok(Cow::Owned(iv.to_vec()))
    }

    /// Decrypts in place: `buffer` is private.
    fn open(&self, key: &SecretKey, buffer: &mut [u8], tag: &[u8]) -> Result<(), Failure> {
        key.gcm()?
            .open_in_place(self.iv, self.aad, buffer, tag)
            .map_err(|error| match error {
                lc::Error::Decrypt if self.message.is_some() => CKR_AEAD_DECRYPT_FAILED.into(),
                _ => cipher_failure(Direction::Decrypt)(error),
            })
    }

    /// Decrypts a private copy of the ciphertext, with the tag behind it or in the parameters.
    fn open_whole<'b>(
        &self,
        key: &SecretKey,
        ciphertext: &'b mut [u8],
    ) -> Result<&'b [u8], Failure> {
        match &self.message {
            Some(message) => {
                if message.tag.len() != self.tag {
                    return Err(CKR_MECHANISM_PARAM_INVALID.into());
                }
                self.open(key, ciphertext, message.tag)?;
                Ok(ciphertext)
            }
            None => {
                let length = ciphertext
                    .len()
                    .checked_sub(self.tag)
                    .ok_or(Failure::new(CKR_ENCRYPTED_DATA_LEN_RANGE))?;
                let (body, tag) = ciphertext.split_at_mut(length);
                self.open(key, body, tag)?;
                Ok(body)
            }
        }
    }

    /// Bytes of plaintext in so many bytes of ciphertext.
    fn plain_length(&self, input: usize) -> usize {
        match self.message {
            Some(_) => input,
            None => input.saturating_sub(self.tag),
        }
    }

    /// Ciphertext, tag, and the IV where it was made.
    fn seal(
        &self,
        environment: &dyn Environment,
        key: &SecretKey,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        output.reserve(input.len() + self.tag + self.made_iv())?;
        let iv = self.iv(environment, key)?;
        key.gcm()?
            .encrypt(&iv, self.aad, input, output, self.tag)
            .map_err(cipher_failure(Direction::Encrypt))?;
        if self.makes_iv() {
            output.write(&iv)?;
        }
        Ok(())
    }

    /// Additional data of a wrapping function stands in place of the parameters' own.
    fn with_associated(self, associated: &'a [u8]) -> Result<Self, Failure> {
        if associated.is_empty() {
            return Ok(self);
        }
        if !self.aad.is_empty() {
            return Err(CKR_MECHANISM_PARAM_INVALID.into());
        }
        Ok(Self {
            aad: associated,
            ..self
        })
    }
}

fn aes(key: &Key) -> Result<&SecretKey, Failure> {
    secret::of_type(Some(key), &[CKK_AES])
}

impl Mechanism for AesGcm {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        CKM_AES_GCM
    }

    fn info(&self) -> Info {
        Info {
            min: 16,
            max: 32,
            flags: CKF_ENCRYPT
                | CKF_DECRYPT
                | CKF_WRAP
                | CKF_UNWRAP
                | CKF_MESSAGE_ENCRYPT
                | CKF_MESSAGE_DECRYPT,
        }
    }

    fn check(&self, usage: Usage, key: Option<&Key>, parameters: &[u8]) -> Result<(), Failure> {
        Plan::new(usage, parameters)?;
        secret::of_type(key, &[CKK_AES]).map(|_| ())
    }

    fn output_length(
        &self,
        usage: Usage,
        _: Option<&Key>,
        parameters: &[u8],
        input: usize,
    ) -> Result<(usize, bool), Failure> {
        let plan = Plan::new(usage, parameters)?;
        let length = match secret::direction(usage)? {
            Direction::Encrypt => input + plan.tag + plan.made_iv(),
            Direction::Decrypt => plan.plain_length(input),
        };
        Ok((length, false))
    }

    fn encrypt(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        Plan::new(Usage::Encrypt, parameters)?.seal(environment, aes(key)?, input, output)
    }

    fn decrypt(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let plan = Plan::new(Usage::Decrypt, parameters)?;
        output.reserve(plan.plain_length(input.len()))?;
        let mut buffer = input.to_secret();
        let plain = plan.open_whole(aes(key)?, buffer.expose_mut())?;
        Ok(output.write(plain)?)
    }

    fn start(
        &self,
        environment: &dyn Environment,
        usage: Usage,
        key: Option<&Arc<Key>>,
        parameters: &[u8],
    ) -> Result<(Box<dyn Stream>, Vec<u8>), Failure> {
        let plan = Plan::new(usage, parameters)?;
        let key = key.ok_or(super::wrong_key())?;
        match usage {
            Usage::Encrypt => {
                let secret = aes(key)?;
                let iv = plan.iv(environment, secret)?;
                let stream = secret.gcm()?.begin(&iv, plan.aad, plan.tag)?;
                let told = if plan.makes_iv() {
                    iv.into_owned()
                } else {
                    Vec::new()
                };
                Ok((Box::new(Encryption(stream)), told))
            }
            Usage::Decrypt => {
                aes(key)?;
                let decryption = Decryption {
                    key: key.clone(),
                    parameters: parameters.to_vec(),
                    gathered: Vec::new(),
                    tag: plan.tag - plan.plain_length(plan.tag),
                };
                Ok((Box::new(decryption), Vec::new()))
            }
            _ => Err(CKR_MECHANISM_INVALID.into()),
        }
    }

    fn wrap(
        &self,
        environment: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        material: &Secret,
        associated: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let plan = Plan::new(Usage::Wrap, parameters)?.with_associated(associated)?;
        let mut wrapped = vec![0; material.len() + plan.tag + plan.made_iv()];
        let mut output = Output::new(&mut wrapped);
        let input = Input::new(material.expose());
        plan.seal(environment, aes(key)?, input, &mut output)?;
        Ok(wrapped)
    }

    fn unwrap(
        &self,
        _: &dyn Environment,
        key: &Arc<Key>,
        parameters: &[u8],
        wrapped: &[u8],
        associated: &[u8],
    ) -> Result<Secret, Failure> {
        let mut plan = Plan::new(Usage::Unwrap, parameters)?.with_associated(associated)?;
        // A wrapped key is one string: its tag stands behind it in both forms.
        plan.message = None;
        let mut buffer = Secret::copy(wrapped);
        let opened = plan.open_whole(aes(key)?, buffer.expose_mut());
        opened
            .map(Secret::copy)
            .map_err(|failure| match failure.code {
                CKR_ENCRYPTED_DATA_LEN_RANGE => CKR_WRAPPED_KEY_LEN_RANGE.into(),
                CKR_ENCRYPTED_DATA_INVALID => CKR_WRAPPED_KEY_INVALID.into(),
                _ => failure,
            })
    }
}

struct Encryption(GcmStream);

impl Stream for Encryption {
    fn update(&mut self, input: Input<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
        self.0
            .update(input, output)
            .map_err(cipher_failure(Direction::Encrypt))
    }

    fn finish(self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        Ok(self.0.finish(output)?)
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        input.unwrap_or(self.0.tag_length())
    }
}

/// Ciphertext, gathered until its tag can be verified.
struct Decryption {
    key: Arc<Key>,
    parameters: Vec<u8>,
    gathered: Vec<u8>,
    /// Bytes of the tag, where it comes behind the ciphertext.
    tag: usize,
}

impl Stream for Decryption {
    fn update(&mut self, input: Input<'_>, _: &mut Output<'_>) -> Result<(), Failure> {
        if self.gathered.len() + input.len() > GATHERED_MAX {
            return Err(CKR_ENCRYPTED_DATA_LEN_RANGE.into());
        }
        let length = self.gathered.len();
        self.gathered.resize(length + input.len(), 0);
        if let Some(place) = self.gathered.get_mut(length..) {
            input.copy_to(place);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, output: &mut Output<'_>) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.gathered);
        let plan = Plan::new(Usage::Decrypt, &self.parameters)?;
        let result = plan
            .open_whole(aes(&self.key)?, &mut buffer)
            .and_then(|plain| Ok(output.write(plain)?));
        buffer.zeroize();
        result
    }

    fn output_length(&self, input: Option<usize>) -> usize {
        match input {
            Some(_) => 0,
            None => self.gathered.len().saturating_sub(self.tag),
        }
    }

    fn gathers(&self) -> bool {
        true
    }
}

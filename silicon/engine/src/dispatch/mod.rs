//! From a request in a ring to its answer.
//!
//! `serve` copies the header once, checks the sections against the slot, copies parameters and
//! templates into the worker's private memory, and calls the chapter of the operation. Data stays
//! where it is (`Call::input`) for the operations that may read it in place, and is copied for all
//! others. Whatever happens, the request is answered exactly once (`Reply`).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use casemate_transport::clock::Moment;
use casemate_transport::layout::{BULK_BYTES, SLOT_PAYLOAD};
use casemate_transport::memory::SharedMemory;
use casemate_transport::message::{
    FLAG_LENGTH_ONLY, Operation, RequestHeader, ResponseHeader, Sections, Usage,
};
use cryptoki_sys::*;
use zeroize::Zeroize;

use crate::connection::{Attended, Connection, Login, Reply};
use crate::control::Change;
use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::{Input, Output, Secret};
use crate::mechanisms::{self, Environment, Mechanism};
use crate::metrics::Kind;
use crate::object::Object;
use crate::partition::{Partition, Policy};
use crate::session::Session;

mod admin;
mod crypto;
mod derivation;
mod keys;
mod objects;
mod recent;
mod sessions;
mod streams;

/// A worker's private memory, used again for each request.
#[derive(Debug)]
pub struct Scratch {
    /// A copy of the sections that must not change; wiped as far as a request used it.
    bytes: Box<[u8]>,
    recent: RefCell<recent::Recent>,
    /// The worker's CPU.
    pub cpu: u32,
    sleeps: Cell<bool>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            bytes: vec![0; SLOT_PAYLOAD].into_boxed_slice(),
            recent: RefCell::default(),
            cpu: 0,
            sleeps: Cell::new(false),
        }
    }
}

impl Scratch {
    /// Whether the client of the request just answered sleeps: the worker wakes it.
    pub fn takes_sleeper(&self) -> bool {
        self.sleeps.take()
    }

    /// Wipes what a request left here that was not served to its end. Its client is still woken.
    pub fn abandon(&mut self) {
        self.bytes.zeroize();
        self.forget();
    }

    /// Forgets objects and keys; for a worker that will sleep.
    pub fn forget(&mut self) {
        self.recent = RefCell::default();
    }
}

/// How a request ends.
pub(crate) enum Outcome {
    /// These values, no output.
    Values(u64, u64),
    /// Output that stands in place already.
    Written(usize),
    /// This output, and values.
    Bytes(Vec<u8>, u64, u64),
    /// The length that the output would have.
    Length(usize),
    /// Somebody else answers, when the firmware has decided.
    Pending,
}

type Result<T> = std::result::Result<T, Failure>;

/// One request, while it is served.
pub(crate) struct Call<'a> {
    pub partition: &'a Arc<Partition>,
    pub connection: &'a Arc<Connection>,
    pub header: RequestHeader,
    pub policy: &'a Policy,
    recent: &'a RefCell<recent::Recent>,
    pub parameters: &'a [u8],
    pub first: &'a [u8],
    pub second: &'a [u8],
    data: *const u8,
    data_length: usize,
    reply: Option<Reply<Attended<'a>>>,
}

/// What was served, for its figures.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    pub kind: Kind,
    /// None: another thread answers, and counts it.
    pub failed: Option<bool>,
}

/// Serves the request in `slot`, which the worker took at `begin`.
pub fn serve(
    partition: &Arc<Partition>,
    connection: &Arc<Connection>,
    slot: u32,
    scratch: &mut Scratch,
    begin: Moment,
) -> Served {
    let header = connection.ring.read_request(slot);
    let kind = kind_of(&header);
    let served = |failed| Served { kind, failed };
    let client = Attended {
        connection,
        cpu: scratch.cpu,
        sleeps: &scratch.sleeps,
    };
    let placed = place(connection, &header);
    let Some((sections, bulk)) = placed else {
        Reply::new(client, slot, &header, None, begin).fail(CKR_ARGUMENTS_BAD.into());
        return served(Some(true));
    };
    let payload = connection.ring.payload(slot);
    let data: *const u8 = match &bulk {
        None => payload.wrapping_add(sections.data.offset),
        Some(region) => region.base(),
    };
    prefetch(data, sections.data.length);
    let used = sections.second.end();
    let Some(private) = scratch.bytes.get_mut(..used) else {
        Reply::new(client, slot, &header, None, begin).fail(CKR_ARGUMENTS_BAD.into());
        return served(Some(true));
    };
    // SAFETY: `place` has checked that these spans are inside the slot's payload; the target is
    // private memory with room for them.
    unsafe {
        std::ptr::copy_nonoverlapping(payload.cast_const(), private.as_mut_ptr(), used);
    }
    // Otherwise the compiler could read the payload again where the copy is used.
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    let policy = scratch.recent.borrow_mut().policy(partition).clone();
    let piece = |span: casemate_transport::message::Span| {
        scratch.bytes.get(span.offset..span.end()).unwrap_or(&[])
    };
    let call = Call {
        partition,
        connection,
        header,
        policy: &policy,
        recent: &scratch.recent,
        parameters: piece(sections.parameters),
        first: piece(sections.first),
        second: piece(sections.second),
        data,
        data_length: sections.data.length,
        reply: Some(Reply::new(
            client,
            slot,
            &header,
            Some((sections, bulk)),
            begin,
        )),
    };
    let failed = answer(call);
    if let Some(private) = scratch.bytes.get_mut(..used) {
        private.zeroize();
    }
    served(failed)
}

/// What a request is, for its figures.
fn kind_of(header: &RequestHeader) -> Kind {
    Kind {
        operation: header.operation,
        mechanism: header.mechanism,
    }
}

/// Runs the request and answers it. Whether it failed; None where somebody else answers.
fn answer(mut call: Call<'_>) -> Option<bool> {
    let outcome = call.run();
    let reply = call.reply.take();
    let failed = match &outcome {
        Ok(Outcome::Pending) => None,
        outcome => Some(outcome.is_err()),
    };
    if let Some(reply) = reply {
        match outcome {
            Ok(Outcome::Values(value0, value1)) => reply.values(value0, value1),
            Ok(Outcome::Written(length)) => {
                reply.done(ResponseHeader {
                    output: length as u64,
                    ..ResponseHeader::default()
                });
            }
            Ok(Outcome::Bytes(bytes, value0, value1)) => reply.bytes(&bytes, value0, value1),
            Ok(Outcome::Length(length)) => {
                reply.done(ResponseHeader {
                    output: length as u64,
                    ..ResponseHeader::default()
                });
            }
            Ok(Outcome::Pending) => drop(reply),
            Err(failure) => reply.fail(failure),
        }
    }
    failed
}

/// Bytes of data whose cache lines are fetched before anything else is done with a request.
const PREFETCHED: usize = 8192;

/// Fetches the data's cache lines, which the client's core has, all at once and to be written: the
/// answer overwrites them.
fn prefetch(data: *const u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..length.min(PREFETCHED)).step_by(64) {
        use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: a prefetch has no effect but on the caches, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(data.wrapping_add(offset).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, length);
}

/// Where the sections stand, and the bulk region if the data is in one.
fn place(
    connection: &Connection,
    header: &RequestHeader,
) -> Option<(Sections, Option<Arc<SharedMemory>>)> {
    if header.region == 0 {
        return header.sections(None).map(|sections| (sections, None));
    }
    let region = connection.bulk(header.region)?;
    header
        .sections(Some(BULK_BYTES))
        .map(|sections| (sections, Some(region)))
}

impl<'a> Call<'a> {
    fn run(&mut self) -> Result<Outcome> {
        let operation = Operation::from_code(self.header.operation)
            .ok_or(Failure::new(CKR_FUNCTION_NOT_SUPPORTED))?;
        if operation == Operation::Noop {
            return Ok(Outcome::Values(0, 0));
        }
        self.partition.require_operational()?;
        match operation {
            Operation::Noop => Ok(Outcome::Values(0, 0)),
            Operation::PartitionInfo
            | Operation::MechanismList
            | Operation::MechanismInfo
            | Operation::Random
            | Operation::SeedRandom
            | Operation::AttestKey
            | Operation::PartitionChain => self.administer(operation),
            Operation::OpenSession
            | Operation::CloseSession
            | Operation::CloseAllSessions
            | Operation::SessionInfo
            | Operation::Login
            | Operation::LoginUser
            | Operation::Logout
            | Operation::InitToken
            | Operation::InitPin
            | Operation::SetPin => self.manage_session(operation),
            Operation::CreateObject
            | Operation::CopyObject
            | Operation::DestroyObject
            | Operation::ObjectSize
            | Operation::GetAttributes
            | Operation::SetAttributes
            | Operation::FindObjects => self.manage_object(operation),
            Operation::GenerateKey
            | Operation::GenerateKeyPair
            | Operation::WrapKey
            | Operation::UnwrapKey
            | Operation::WrapKeyAuthenticated
            | Operation::UnwrapKeyAuthenticated
            | Operation::DeriveKey
            | Operation::ImportKey
            | Operation::EncapsulateKey
            | Operation::DecapsulateKey => self.manage_key(operation),
            Operation::Check
            | Operation::Digest
            | Operation::Sign
            | Operation::Verify
            | Operation::Encrypt
            | Operation::Decrypt
            | Operation::SignRecover
            | Operation::VerifyRecover => self.use_key(operation),
            Operation::StreamBegin
            | Operation::StreamUpdate
            | Operation::StreamFinal
            | Operation::StreamCancel
            | Operation::StreamDigestKey
            | Operation::SaveState
            | Operation::RestoreState => self.stream(operation),
        }
    }

    /// The data, where it stands: for operations that may read it in place.
    pub fn input(&self) -> Input<'a> {
        // SAFETY: `place` has checked the span; slot and region live as long as `reply`.
        unsafe { Input::from_raw(self.data, self.data_length) }
    }

    /// A private copy of the data.
    pub fn data(&self) -> Secret {
        self.input().to_secret()
    }

    /// Where the output goes: at the data's place.
    pub fn output(&self) -> Output<'a> {
        let (base, room) = self
            .reply
            .as_ref()
            .map_or((std::ptr::null_mut(), 0), Reply::output);
        // SAFETY: the reply keeps the slot or region mapped.
        unsafe { Output::from_raw(base, room) }
    }

    /// Whether only the length of the output is wanted.
    pub fn length_only(&self) -> bool {
        self.header.flags & FLAG_LENGTH_ONLY != 0
    }

    /// Refuses an output that does not fit before anything is done for it.
    pub fn require_capacity(&self, needed: usize) -> Result<()> {
        if (self.header.capacity as usize) < needed {
            Err(Failure::too_small(needed))
        } else {
            Ok(())
        }
    }

    /// Fails unless the session that the request names is there.
    pub fn require_session(&self) -> Result<()> {
        let session = self.header.session;
        let mut recent = self.recent.borrow_mut();
        if recent.has_session(self.connection, session) {
            Ok(())
        } else {
            Err(CKR_SESSION_HANDLE_INVALID.into())
        }
    }

    /// The session that the request names.
    pub fn session(&self) -> Result<Arc<Session>> {
        self.connection
            .sessions()
            .get(&self.header.session)
            .cloned()
            .ok_or(Failure::new(CKR_SESSION_HANDLE_INVALID))
    }

    /// The mechanism that the request names, if the partition allows it.
    pub fn mechanism(&self) -> Result<&'static dyn Mechanism> {
        self.mechanism_of(self.header.mechanism)
    }

    /// A mechanism, if the partition allows it.
    pub fn mechanism_of(&self, kind: u64) -> Result<&'static dyn Mechanism> {
        if self
            .policy
            .mechanisms
            .as_ref()
            .is_some_and(|allowed| !allowed.contains(&kind))
        {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        mechanisms::find(kind, self.policy.legacy_test)
    }

    /// Whether private objects are there for this caller.
    pub fn sees_private(&self) -> bool {
        !self.policy.pin_required || self.connection.login() == Login::User
    }

    /// Whether the caller may have this object at all.
    pub fn sees(&self, object: &Object) -> bool {
        let own = object
            .owner
            .is_none_or(|owner| owner.connection == self.connection.id);
        own && (!object.is_private() || self.sees_private())
    }

    /// An object that the caller may have.
    pub fn object(&self, handle: u64) -> Result<Arc<Object>> {
        let object = self.recent.borrow_mut().object(self.partition, handle);
        object
            .filter(|object| self.sees(object))
            .ok_or(Failure::new(CKR_OBJECT_HANDLE_INVALID))
    }

    /// A key that the caller may have, with its material.
    pub fn key(&self, handle: u64) -> Result<(Arc<Object>, Arc<Key>)> {
        let mut recent = self.recent.borrow_mut();
        let permitted = |object: &Object| self.sees(object) && object.is_key();
        recent
            .key(self.partition, handle, permitted)?
            .ok_or(Failure::new(CKR_KEY_HANDLE_INVALID))
    }

    /// A key for this usage by this mechanism.
    pub fn key_for(
        &self,
        handle: u64,
        usage: Usage,
        mechanism: u64,
    ) -> Result<(Arc<Object>, Arc<Key>)> {
        let (object, key) = self.key(handle)?;
        if !object.permits(usage) {
            return Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into());
        }
        if let Some(allowed) = object.attributes.get(CKA_ALLOWED_MECHANISMS)
            && !allowed.is_empty()
            && !allowed
                .chunks_exact(8)
                .any(|kind| kind == mechanism.to_le_bytes())
        {
            return Err(CKR_MECHANISM_INVALID.into());
        }
        Ok((object, key))
    }

    /// Uses up a context-specific login where the key wants one for each use.
    pub fn require_context(&self, object: &Object) -> Result<()> {
        if object.always_authenticate()
            && self.policy.pin_required
            && !self.session()?.use_context()
        {
            return Err(CKR_USER_NOT_LOGGED_IN.into());
        }
        Ok(())
    }

    /// Hands the answer to a change: the firmware decides, then `apply` makes it visible.
    pub fn defer(
        &mut self,
        operation: &'static str,
        records: Vec<crate::control::Record>,
        apply: impl FnOnce() -> Result<Outcome> + Send + 'static,
    ) -> Result<Outcome> {
        let reply = self.take_reply()?;
        let change = Change::new(
            self.partition.clone(),
            operation,
            self.connection.peer,
            records,
            move |decision| match decision.and_then(|()| apply()) {
                Ok(Outcome::Values(value0, value1)) => reply.values(value0, value1),
                Ok(Outcome::Bytes(bytes, value0, value1)) => reply.bytes(&bytes, value0, value1),
                Ok(_) => reply.values(0, 0),
                Err(failure) => reply.fail(failure),
            },
        );
        self.partition.control.push(change);
        Ok(Outcome::Pending)
    }

    /// Takes the duty to answer, for operations that end on another thread.
    pub fn take_reply(&mut self) -> Result<Reply> {
        let reply = self.reply.take().ok_or(Failure::internal())?;
        Ok(reply.keep(
            self.connection,
            &self.partition.metrics,
            kind_of(&self.header),
        ))
    }
}

impl Environment for Call<'_> {
    fn random(&self, out: &mut [u8]) -> Result<()> {
        self.partition.random(out)
    }

    fn legacy(&self) -> bool {
        self.policy.legacy_test
    }

    fn key(&self, handle: u64, usage: Option<Usage>) -> Result<Arc<Key>> {
        let (object, key) = self.key(handle)?;
        match usage {
            Some(usage) if !object.permits(usage) => Err(CKR_KEY_FUNCTION_NOT_PERMITTED.into()),
            _ => Ok(key),
        }
    }
}

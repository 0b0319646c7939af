//! A session: its operations, its connection, and the way of one request to the module and back.

use crate::flights::{Buffer, Flights, Function};
use crate::link::{Link, Slot};
use crate::operation::{MessageOperation, Operation, Phase};
use crate::outcome::Outcome;
use crate::output::Output;
use crate::verdicts::Verdicts;
use casemate_transport::client::{Connection, Patience, Request, SubmitError};
use casemate_transport::message::{Operation as Code, ResponseHeader, Usage};
use cryptoki_sys::{
    CK_ASYNC_DATA, CK_FLAGS, CK_RV, CKF_ASYNC_SESSION, CKF_RW_SESSION, CKR_BUFFER_TOO_SMALL,
    CKR_DATA_LEN_RANGE, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_OK, CKR_OPERATION_ACTIVE,
    CKR_PENDING, CKR_SESSION_ASYNC_NOT_SUPPORTED,
};
use std::sync::Arc;

/// What happens to a request whose connection is lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It changes nothing: it is sent once more over a new connection.
    Repeat,
    /// It may have been done: the caller hears CKR_DEVICE_REMOVED.
    Report,
}

/// What a session keeps. Guarded by the session's lock.
#[derive(Debug)]
pub struct Session {
    /// The partition.
    pub slot: &'static Slot,
    /// CKF_... flags of C_OpenSession.
    pub flags: CK_FLAGS,
    link: Option<Arc<Link>>,
    /// The module's number for this session, or 0: not open there.
    number: u64,
    patience: Patience,
    /// Checks that held.
    pub verdicts: Verdicts,
    /// One operation for each of the first seven usages.
    operations: [Operation; 7],
    /// Message encryption, decryption, signature and verification.
    pub messages: [MessageOperation; 4],
    /// Handles that C_FindObjects has not given out yet, last first.
    pub found: Option<Vec<u64>>,
    /// Calls in flight; None: not an asynchronous session.
    flights: Option<Box<Flights>>,
}

impl Session {
    /// A session of this partition, not yet open at the module.
    pub fn new(slot: &'static Slot, flags: CK_FLAGS) -> Self {
        Self {
            slot,
            flags,
            link: None,
            number: 0,
            patience: Connection::patience(),
            verdicts: Verdicts::default(),
            operations: Default::default(),
            messages: Default::default(),
            found: None,
            flights: (flags & CKF_ASYNC_SESSION != 0).then(|| Box::new(Flights::new())),
        }
    }

    /// The operation of this usage; the usages beyond the first seven have none and share the last.
    pub fn operation(&mut self, usage: Usage) -> &mut Operation {
        let index = (usage as usize).min(self.operations.len() - 1);
        #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
        &mut self.operations[index]
    }

    /// The connection, made anew where it was lost.
    pub fn link(&mut self) -> Outcome<&Arc<Link>> {
        if self
            .link
            .as_ref()
            .is_none_or(|link| link.connection.is_lost())
        {
            self.relink()?;
        }
        self.link.as_ref().ok_or(CKR_DEVICE_REMOVED)
    }

    #[cold]
    fn relink(&mut self) -> Outcome {
        let again = self.link.take().is_some() || self.number != 0;
        self.number = 0;
        self.verdicts.clear();
        // What ran at the module has ended there.
        self.operations.iter_mut().for_each(Operation::end_stream);
        self.messages
            .iter_mut()
            .for_each(MessageOperation::end_stream);
        if let Some(flights) = &mut self.flights {
            flights.lose();
        }
        let link = if again {
            self.slot.reconnect()?
        } else {
            self.slot.connect()?
        };
        self.link = Some(link);
        Ok(())
    }

    /// Opens the session at the module, if it is not open there.
    pub fn open(&mut self) -> Outcome {
        if self.number != 0
            && self
                .link
                .as_ref()
                .is_some_and(|link| !link.connection.is_lost())
        {
            return Ok(());
        }
        self.reopen()
    }

    #[cold]
    fn reopen(&mut self) -> Outcome {
        self.number = 0;
        let link = Arc::clone(self.link()?);
        let mut request = request(Code::OpenSession);
        request.header.aux =
            u64::from(self.flags & CKF_RW_SESSION != 0) | u64::from(self.is_asynchronous()) << 1;
        let answer = link
            .connection
            .call(&request, &mut self.patience, |header, _| header)
            .map_err(result_of)?;
        crate::outcome::check(answer.result)?;
        self.number = answer.value0;
        Ok(())
    }

    /// Closes the session at the module, if it is open there. A lost connection has closed it.
    pub fn close(&mut self) {
        if let Some(link) = self
            .link
            .take()
            .filter(|link| !link.connection.is_lost() && self.number != 0)
        {
            if let Some(flights) = &mut self.flights {
                flights.cancel(Some(&link.connection), None);
            }
            let mut request = request(Code::CloseSession);
            request.header.session = self.number;
            let _ = link
                .connection
                .call(&request, &mut self.patience, |header, _| header);
        }
        self.number = 0;
    }

    /// Sends a request and waits for the answer; `read` sees the output of a successful one. The
    /// result in the header has not been looked at.
    pub fn exchange(
        &mut self,
        request: &mut Request<'_>,
        loss: Loss,
        mut read: impl FnMut(&ResponseHeader, &[u8]),
    ) -> Outcome<ResponseHeader> {
        let mut attempts = if loss == Loss::Repeat { 2 } else { 1 };
        loop {
            self.open()?;
            attempts -= 1;
            let Some(link) = &self.link else {
                return Err(CKR_DEVICE_REMOVED);
            };
            request.header.session = self.number;
            match link
                .connection
                .call(request, &mut self.patience, |header, output| {
                    read(&header, output);
                    header
                }) {
                Ok(header) => return Ok(header),
                Err(SubmitError::Lost) if attempts > 0 => {}
                Err(error) => return Err(result_of(error)),
            }
        }
    }

    // --- calls in flight ---------------------------------------------------------------------------

    /// Whether calls may be left in flight.
    pub fn is_asynchronous(&self) -> bool {
        self.flights.is_some()
    }

    /// Whether a call of this function is in flight.
    pub fn is_in_flight(&mut self, function: Function) -> bool {
        self.flights
            .as_mut()
            .is_some_and(|flights| flights.has(function))
    }

    /// Whether a call that makes keys is in flight.
    pub fn makes_keys(&self) -> bool {
        self.flights
            .as_ref()
            .is_some_and(|flights| flights.makes_keys())
    }

    /// Sends a request whose answer `complete` takes: CKR_PENDING. Ok: it could not be left in
    /// flight, and has not been sent.
    pub fn depart(
        &mut self,
        function: Function,
        request: &mut Request<'_>,
        loss: Loss,
        buffer: Buffer,
    ) -> Outcome {
        if self.is_in_flight(function) {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let mut attempts = if loss == Loss::Repeat { 2 } else { 1 };
        loop {
            self.open()?;
            attempts -= 1;
            let (Some(link), Some(flights)) = (&self.link, &mut self.flights) else {
                return Ok(());
            };
            // A stream carries one message at a time.
            if !link.connection.keeps_in_flight() {
                return Ok(());
            }
            request.header.session = self.number;
            match link.connection.try_submit(request) {
                Ok(ticket) => {
                    flights.depart(function, ticket, buffer);
                    return Err(CKR_PENDING);
                }
                Err(SubmitError::Busy) => return Ok(()),
                Err(SubmitError::Lost) if attempts > 0 => {}
                Err(error) => return Err(result_of(error)),
            }
        }
    }

    /// As `call`; in an asynchronous session CKR_PENDING, and the answer comes by `complete`.
    pub fn call_or_depart(
        &mut self,
        function: Function,
        request: &mut Request<'_>,
    ) -> Outcome<ResponseHeader> {
        if self.is_asynchronous() {
            self.depart(function, request, Loss::Report, Buffer::NONE)?;
        }
        self.call(request, Loss::Report, |_, _| {})
    }

    /// C_AsyncComplete.
    ///
    /// # Safety
    /// As `Flights::complete`.
    pub unsafe fn complete(&mut self, function: Function, result: *mut CK_ASYNC_DATA) -> Outcome {
        let flights = self
            .flights
            .as_mut()
            .ok_or(CKR_SESSION_ASYNC_NOT_SUPPORTED)?;
        let connection = self.link.as_ref().map(|link| &link.connection);
        // SAFETY: by this function's contract.
        let outcome = unsafe { flights.complete(function, connection, &mut self.patience, result) };
        if !flights.has(function)
            && let Some(usage) = function.usage()
            && self.operation(usage).phase == Phase::Pending
        {
            self.operation(usage).end();
        }
        outcome
    }

    /// Gives up the call of this operation that is in flight.
    pub fn give_up(&mut self, usage: Usage) {
        if let Some(flights) = &mut self.flights {
            flights.cancel(self.link.as_ref().map(|link| &link.connection), Some(usage));
        }
    }

    /// As `exchange`; any result but CKR_OK is the error.
    pub fn call(
        &mut self,
        request: &mut Request<'_>,
        loss: Loss,
        read: impl FnMut(&ResponseHeader, &[u8]),
    ) -> Outcome<ResponseHeader> {
        let header = self.exchange(request, loss, read)?;
        crate::outcome::check(header.result).map(|()| header)
    }

    /// As `exchange`, with the output written to the caller's buffer. CKR_BUFFER_TOO_SMALL comes
    /// back with the length needed already told.
    pub fn call_into(
        &mut self,
        request: &mut Request<'_>,
        loss: Loss,
        output: &Output,
    ) -> Outcome<ResponseHeader> {
        request.header.capacity = output.capacity();
        let mut fits = true;
        let header = self.exchange(request, loss, |_, bytes| fits = output.write(bytes))?;
        match header.result {
            CKR_OK if fits => Ok(header),
            CKR_OK | CKR_BUFFER_TOO_SMALL => {
                output.tell(header.output);
                Err(CKR_BUFFER_TOO_SMALL)
            }
            error => Err(error),
        }
    }
}

/// A request for this operation, with nothing else in it.
pub fn request<'a>(operation: Code) -> Request<'a> {
    let mut request = Request::default();
    request.header.operation = operation as u16;
    request
}

/// The CKR_ code for a request that could not be carried.
pub fn result_of(error: SubmitError) -> CK_RV {
    match error {
        SubmitError::Lost => CKR_DEVICE_REMOVED,
        SubmitError::TooLarge => CKR_DATA_LEN_RANGE,
        SubmitError::NoBulk | SubmitError::Busy => CKR_DEVICE_MEMORY,
    }
}

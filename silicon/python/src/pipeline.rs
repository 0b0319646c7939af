//! Many requests of one kind, with several of them on their way at once. Not Python: the requests
//! of a batch are written and taken back between two looks at the ring, where the interpreter would
//! cost more than most operations.
//!
//! A batch that has to wait sleeps for the request in the middle of those under way, then takes
//! back all that are there: one wake-up for half a window, while the other half keeps the module
//! busy.

use std::collections::VecDeque;

use casemate_transport::client::{Connection, Lost, Patience, Request, SubmitError, Ticket};
use casemate_transport::layout::{SECTION_ALIGN, SLOT_PAYLOAD};
use casemate_transport::message::RequestHeader;
use zeroize::Zeroizing;

/// What an operation adds to its data at most: IV, tag, padding.
const GROWTH: usize = 128;
/// The longest output that does not grow with the data: signatures.
const OUTPUT: usize = 16 * 1024;

/// Requests that differ in parameters, `first` and data only. Parameters and `first` are one for
/// each piece of data, or one for all.
pub struct Batch<'a> {
    /// Operation, session, object, mechanism.
    pub header: RequestHeader,
    pub parameters: &'a [&'a [u8]],
    pub first: &'a [&'a [u8]],
    pub data: &'a [&'a [u8]],
    /// Requests under way at once.
    pub window: usize,
    /// The first result but CKR_OK is the last one.
    pub stop_at_failure: bool,
    /// So many bytes at the end of each output go to its beginning (the IV that the module made).
    pub tail_first: usize,
}

/// The outputs, one behind the other; of each its result and where it ends.
#[derive(Default)]
pub struct Answers {
    pub bytes: Zeroizing<Vec<u8>>,
    pub ends: Vec<(u64, usize)>,
}

/// The piece of this request; one piece is for all.
fn piece<'a>(list: &[&'a [u8]], index: usize) -> &'a [u8] {
    match list {
        [one] => one,
        many => many.get(index).copied().unwrap_or(&[]),
    }
}

impl Batch<'_> {
    fn request(&self, index: usize) -> Request<'_> {
        let mut request = Request {
            header: self.header,
            parameters: piece(self.parameters, index),
            first: piece(self.first, index),
            second: &[],
            data: self.data.get(index).copied().unwrap_or(&[]),
        };
        let before: usize = [request.parameters, request.first]
            .iter()
            .map(|section| section.len().next_multiple_of(SECTION_ALIGN))
            .sum();
        let room = SLOT_PAYLOAD.saturating_sub(before).min(OUTPUT);
        let capacity = room.max(request.data.len() + GROWTH);
        request.header.capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        request
    }

    /// Sends them all. However it ends, none is under way afterwards.
    pub fn run(&self, connection: &Connection) -> Result<Answers, SubmitError> {
        let mut answers = Answers::default();
        answers.ends.reserve(self.data.len());
        let expected: usize = self.data.iter().map(|data| data.len() + GROWTH).sum();
        answers.bytes.reserve(expected);
        let mut under_way = VecDeque::with_capacity(self.window);
        let outcome = self.pump(connection, &mut under_way, &mut answers);
        for ticket in under_way {
            connection.forget(ticket);
        }
        outcome.map(|()| answers)
    }

    fn pump(
        &self,
        connection: &Connection,
        under_way: &mut VecDeque<Ticket>,
        answers: &mut Answers,
    ) -> Result<(), SubmitError> {
        let mut patience = Connection::patience();
        let mut tickets = Vec::with_capacity(self.window);
        let mut next = 0;
        loop {
            let room = self.window.max(1) - under_way.len();
            let end = self.data.len().min(next + room);
            if next < end {
                let requests: Vec<Request<'_>> = (next..end).map(|at| self.request(at)).collect();
                let sent = if under_way.is_empty() {
                    connection.submit_many(&requests, &mut tickets)
                } else {
                    connection.try_submit_many(&requests, &mut tickets)
                };
                match sent {
                    Ok(count) => next += count,
                    // Those under way have what it needs, or others do: on with taking answers.
                    Err(SubmitError::Busy | SubmitError::NoBulk) if !under_way.is_empty() => {}
                    Err(error) => return Err(error),
                }
                under_way.extend(tickets.drain(..));
            }
            let mut due = match under_way.front() {
                None => return Ok(()),
                Some(ticket) if connection.is_ready(ticket) => 1,
                Some(_) => under_way.len().div_ceil(2),
            };
            // The one in the middle first; those before it are there by then, or soon.
            if due > 1
                && let Some(ticket) = under_way.get(due - 1)
            {
                connection.wait_until(ticket, &mut patience)?;
            }
            while let Some(ticket) = under_way.front()
                && (due > 0 || connection.is_ready(ticket))
            {
                due = due.saturating_sub(1);
                let Some(ticket) = under_way.pop_front() else {
                    break;
                };
                if self.take(connection, ticket, &mut patience, answers)? != 0
                    && self.stop_at_failure
                {
                    return Ok(());
                }
            }
        }
    }

    fn take(
        &self,
        connection: &Connection,
        ticket: Ticket,
        patience: &mut Patience,
        answers: &mut Answers,
    ) -> Result<u64, Lost> {
        let bytes = &mut answers.bytes;
        let result = connection.wait(ticket, patience, |header, output| {
            let (head, tail) = output.split_at(output.len().saturating_sub(self.tail_first));
            bytes.extend_from_slice(tail);
            bytes.extend_from_slice(head);
            header.result
        })?;
        answers.ends.push((result, bytes.len()));
        Ok(result)
    }
}

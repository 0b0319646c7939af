//! A session: what it may do, and the multi-part operations that it has under way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use casemate_transport::message::Usage;
use cryptoki_sys::{CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED};

use crate::failure::Failure;
use crate::mechanisms::Stream;

/// A multi-part operation of a session.
pub struct Active {
    /// The mechanism's state.
    pub stream: Box<dyn Stream>,
    /// The mechanism, for metrics and saved states.
    pub mechanism: u64,
    /// The key's handle, or 0.
    pub key: u64,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Its number, unique in the module's life.
    pub id: u64,
    /// Whether it may change token objects.
    pub read_write: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    active: [Option<Active>; Usage::ALL.len()],
    /// A context-specific login that the next private-key operation uses up.
    context_login: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "State({} operations)",
            self.active.iter().flatten().count()
        )
    }
}

impl Session {
    /// A new session.
    pub fn new(id: u64, read_write: bool) -> Self {
        Self {
            id,
            read_write,
            state: Mutex::new(State::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation; one of each usage may be under way.
    pub fn begin(&self, usage: Usage, operation: Active) -> Result<(), Failure> {
        let mut state = self.state();
        match state.active.get_mut(usage as usize) {
            Some(place @ None) => {
                *place = Some(operation);
                Ok(())
            }
            _ => Err(CKR_OPERATION_ACTIVE.into()),
        }
    }

    /// Takes the operation out; the caller puts it back unless it has ended.
    pub fn take(&self, usage: Usage) -> Result<Active, Failure> {
        self.state()
            .active
            .get_mut(usage as usize)
            .and_then(Option::take)
            .ok_or(Failure::new(CKR_OPERATION_NOT_INITIALIZED))
    }

    /// Puts an operation back that `take` took.
    pub fn put_back(&self, usage: Usage, operation: Active) {
        if let Some(place) = self.state().active.get_mut(usage as usize) {
            *place = Some(operation);
        }
    }

    /// Forgets an operation. True: there was one.
    pub fn cancel(&self, usage: Usage) -> bool {
        self.take(usage).is_ok()
    }

    /// A context-specific login has happened.
    pub fn grant_context(&self) {
        self.state().context_login = true;
    }

    /// Uses up the context-specific login. True: there was one.
    pub fn use_context(&self) -> bool {
        std::mem::take(&mut self.state().context_login)
    }
}

//! Sessions, logins and PINs (PKCS#11 3.2, sections 5.5 and 5.6).

use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use casemate_transport::message::Operation;
use cryptoki_sys::*;

use super::{Call, Outcome, Result};
use crate::connection::{Connection, Login, Reply};
use crate::control::{Change, RecordKey, RecordKind};
use crate::failure::Failure;
use crate::lc::Secret;
use crate::partition::Partition;
use crate::roles::{PIN_MAX, PIN_MIN, Role, Roles, Verifier};
use crate::session::Session;

/// What a right PIN leads to.
enum Purpose {
    Login(Login),
    /// A context-specific login of this session.
    Context(Arc<Session>),
    /// A new PIN for the role.
    NewPin(Secret),
    /// C_InitToken with this label.
    InitToken([u8; 32]),
}

impl Call<'_> {
    pub(super) fn manage_session(&mut self, operation: Operation) -> Result<Outcome> {
        match operation {
            Operation::OpenSession => self.open_session(),
            Operation::CloseSession => self.close_session(),
            Operation::CloseAllSessions => {
                let all = std::mem::take(&mut *self.connection.change_sessions());
                all.keys()
                    .for_each(|id| self.partition.end_session(self.connection.id, *id));
                self.connection.set_login(Login::None);
                Ok(Outcome::Values(0, 0))
            }
            Operation::SessionInfo => {
                let session = self.session()?;
                Ok(Outcome::Values(
                    session_state(session.read_write, self.connection.login()),
                    0,
                ))
            }
            Operation::Login | Operation::LoginUser => self.login(operation),
            Operation::Logout => {
                self.require_session()?;
                if self.connection.login() == Login::None {
                    return Err(CKR_USER_NOT_LOGGED_IN.into());
                }
                self.connection.set_login(Login::None);
                self.partition
                    .end_private_session_objects(self.connection.id);
                Ok(Outcome::Values(0, 0))
            }
            Operation::InitToken => self.init_token(),
            Operation::InitPin => self.init_pin(),
            _ => self.set_pin(),
        }
    }

    fn open_session(&mut self) -> Result<Outcome> {
        let read_write = self.header.aux & 1 != 0;
        if !read_write && self.connection.login() == Login::SecurityOfficer {
            return Err(CKR_SESSION_READ_WRITE_SO_EXISTS.into());
        }
        let id = self.partition.begin_session()?;
        self.connection
            .change_sessions()
            .insert(id, Arc::new(Session::new(id, read_write)));
        Ok(Outcome::Values(id, 0))
    }

    fn close_session(&mut self) -> Result<Outcome> {
        let (removed, last) = {
            let mut sessions = self.connection.change_sessions();
            (sessions.remove(&self.header.session), sessions.is_empty())
        };
        let session = removed.ok_or(Failure::new(CKR_SESSION_HANDLE_INVALID))?;
        self.partition.end_session(self.connection.id, session.id);
        if last {
            self.connection.set_login(Login::None);
        }
        Ok(Outcome::Values(0, 0))
    }

    fn login(&mut self, operation: Operation) -> Result<Outcome> {
        let session = self.session()?;
        if operation == Operation::LoginUser && !self.first.is_empty() {
            return Err(CKR_OPERATION_NOT_INITIALIZED.into());
        }
        if !self.policy.pin_required {
            return self.login_without_pin(&session);
        }
        let (role, purpose) = match self.header.object {
            CKU_SO => {
                if self
                    .connection
                    .sessions()
                    .values()
                    .any(|session| !session.read_write)
                {
                    return Err(CKR_SESSION_READ_ONLY_EXISTS.into());
                }
                (
                    Role::SecurityOfficer,
                    Purpose::Login(Login::SecurityOfficer),
                )
            }
            CKU_USER => (Role::User, Purpose::Login(Login::User)),
            CKU_CONTEXT_SPECIFIC => (Role::User, Purpose::Context(session)),
            _ => return Err(CKR_USER_TYPE_INVALID.into()),
        };
        if let Purpose::Login(wanted) = &purpose {
            require_nobody(self.connection.login(), *wanted)?;
        }
        let pin = self.pin()?;
        self.authenticate(role, pin, purpose)
    }

    /// A partition without PINs: whoever has the socket is the user. A login is taken as such, so
    /// that programs that always log in work, and its PIN is not looked at.
    fn login_without_pin(&mut self, session: &Session) -> Result<Outcome> {
        match self.header.object {
            CKU_USER => {
                require_nobody(self.connection.login(), Login::User)?;
                self.connection.set_login(Login::User);
            }
            CKU_CONTEXT_SPECIFIC => session.grant_context(),
            CKU_SO => {
                require_nobody(self.connection.login(), Login::SecurityOfficer)?;
                if self
                    .connection
                    .sessions()
                    .values()
                    .any(|session| !session.read_write)
                {
                    return Err(CKR_SESSION_READ_ONLY_EXISTS.into());
                }
                self.connection.set_login(Login::SecurityOfficer);
            }
            _ => return Err(CKR_USER_TYPE_INVALID.into()),
        }
        Ok(Outcome::Values(0, 0))
    }

    fn pin(&self) -> Result<Secret> {
        let pin = self.data();
        if !(PIN_MIN..=PIN_MAX).contains(&pin.len()) {
            return Err(CKR_PIN_LEN_RANGE.into());
        }
        Ok(pin)
    }

    /// C_InitToken: the first one sets the SO PIN, a later one needs it. Every object goes.
    fn init_token(&mut self) -> Result<Outcome> {
        if !self.policy.pin_required {
            return Err(CKR_FUNCTION_NOT_SUPPORTED.into());
        }
        if !self.connection.sessions().is_empty() {
            return Err(CKR_SESSION_EXISTS.into());
        }
        let label = self
            .first
            .try_into()
            .map_err(|_| Failure::new(CKR_ARGUMENTS_BAD))?;
        let pin = self.pin()?;
        let initialised = lock(&self.partition.roles).is_initialised(Role::SecurityOfficer);
        if initialised {
            return self.authenticate(Role::SecurityOfficer, pin, Purpose::InitToken(label));
        }
        let verifier = Verifier::new(&pin)?;
        let reply = self.take_reply()?;
        initialise(
            self.partition,
            self.connection,
            label,
            Some(verifier),
            reply,
        );
        Ok(Outcome::Pending)
    }

    fn init_pin(&mut self) -> Result<Outcome> {
        self.require_session()?;
        if self.connection.login() != Login::SecurityOfficer {
            return Err(CKR_USER_NOT_LOGGED_IN.into());
        }
        if !self.policy.pin_required {
            return Ok(Outcome::Values(0, 0));
        }
        let verifier = Verifier::new(&self.pin()?)?;
        let reply = self.take_reply()?;
        change_roles(
            self.partition,
            self.connection,
            "set the user PIN",
            reply,
            |roles| {
                roles.set_verifier(Role::User, verifier);
            },
        );
        Ok(Outcome::Pending)
    }

    fn set_pin(&mut self) -> Result<Outcome> {
        let session = self.session()?;
        if !session.read_write {
            return Err(CKR_SESSION_READ_ONLY.into());
        }
        if !self.policy.pin_required {
            return Ok(Outcome::Values(0, 0));
        }
        let role = match self.connection.login() {
            Login::SecurityOfficer => Role::SecurityOfficer,
            Login::User | Login::None => Role::User,
        };
        let new = self.pin()?;
        let old = Secret::copy(self.first);
        self.authenticate(role, old, Purpose::NewPin(new))
    }

    /// Counts the try as failed, durably; then compares; then, if right, forgets the failures,
    /// durably; then does what the PIN was for.
    fn authenticate(&mut self, role: Role, pin: Secret, purpose: Purpose) -> Result<Outcome> {
        let peer = self.connection.peer.uid;
        let verifier = {
            let roles = lock(&self.partition.roles);
            roles.require_unlocked(role, peer, now())?;
            roles
                .verifier(role)
                .ok_or(Failure::new(CKR_USER_PIN_NOT_INITIALIZED))?
        };
        let reply = self.take_reply()?;
        let partition = self.partition.clone();
        let connection = self.connection.clone();
        store_roles(
            self.partition,
            self.connection,
            "try a PIN",
            |roles| roles.count_failure(role, peer, now()),
            move |stored| match stored {
                Err(failure) => reply.fail(failure),
                // The comparison is slow on purpose, and this is the firmware's thread.
                Ok(()) => partition.clone().run_aside(move || {
                    compare(
                        &partition,
                        &connection,
                        role,
                        &verifier,
                        &pin,
                        purpose,
                        reply,
                    );
                }),
            },
        );
        Ok(Outcome::Pending)
    }
}

fn compare(
    partition: &Arc<Partition>,
    connection: &Arc<Connection>,
    role: Role,
    verifier: &Verifier,
    pin: &Secret,
    purpose: Purpose,
    reply: Reply,
) {
    match verifier.matches(pin) {
        Ok(true) => {}
        Ok(false) => return reply.fail(CKR_PIN_INCORRECT.into()),
        Err(failure) => return reply.fail(failure),
    }
    let peer = connection.peer.uid;
    let new_verifier = match &purpose {
        Purpose::NewPin(new) => match Verifier::new(new) {
            Ok(verifier) => Some(verifier),
            Err(failure) => return reply.fail(failure),
        },
        _ => None,
    };
    if let Purpose::InitToken(label) = purpose {
        return initialise(partition, connection, label, None, reply);
    }
    let logged_in = connection.clone();
    store_roles(
        partition,
        connection,
        "accept a PIN",
        |roles| {
            roles.clear_failures(role, peer);
            if let Some(verifier) = new_verifier {
                roles.set_verifier(role, verifier);
            }
        },
        move |stored| match stored {
            Err(failure) => reply.fail(failure),
            Ok(()) => {
                match purpose {
                    Purpose::Login(login) => {
                        if let Err(failure) = require_nobody(logged_in.login(), login) {
                            return reply.fail(failure);
                        }
                        logged_in.set_login(login);
                    }
                    Purpose::Context(session) => session.grant_context(),
                    Purpose::NewPin(_) | Purpose::InitToken(_) => {}
                }
                reply.values(0, 0);
            }
        },
    );
}

/// Removes every object and the user's PIN, and sets the label: one change.
fn initialise(
    partition: &Arc<Partition>,
    connection: &Arc<Connection>,
    label: [u8; 32],
    verifier: Option<Verifier>,
    reply: Reply,
) {
    let mut roles = lock(&partition.roles).clone();
    roles.clear(Role::User);
    roles.clear_failures(Role::SecurityOfficer, connection.peer.uid);
    roles.label = Some(label);
    if let Some(verifier) = verifier {
        roles.set_verifier(Role::SecurityOfficer, verifier);
    }
    roles.generation += 1;
    let record = partition
        .ledger
        .record(ROLES, roles.generation, roles.encode().expose());
    let mut records = partition.deletions();
    match record {
        Ok(record) => records.push(record),
        Err(failure) => return reply.fail(failure),
    }
    let target = partition.clone();
    let change = Change::new(
        partition.clone(),
        "initialise the token",
        connection.peer,
        records,
        move |stored| match stored {
            Err(failure) => reply.fail(failure),
            Ok(()) => {
                *lock(&target.roles) = roles;
                target.remove_all();
                reply.values(0, 0);
            }
        },
    );
    partition.control.push(change);
}

const ROLES: RecordKey = RecordKey {
    kind: RecordKind::Roles,
    id: 0,
};

fn change_roles(
    partition: &Arc<Partition>,
    connection: &Arc<Connection>,
    operation: &'static str,
    reply: Reply,
    change: impl FnOnce(&mut Roles),
) {
    store_roles(
        partition,
        connection,
        operation,
        change,
        move |stored| match stored {
            Err(failure) => reply.fail(failure),
            Ok(()) => reply.values(0, 0),
        },
    );
}

/// Changes the roles at once in memory (so that tries at the same time all count) and stores them;
/// a failed store leaves the stricter state in memory.
fn store_roles(
    partition: &Arc<Partition>,
    connection: &Arc<Connection>,
    operation: &'static str,
    change: impl FnOnce(&mut Roles),
    then: impl FnOnce(Result<()>) + Send + 'static,
) {
    let mut roles = lock(&partition.roles);
    change(&mut roles);
    roles.generation += 1;
    let record = partition
        .ledger
        .record(ROLES, roles.generation, roles.encode().expose());
    match record {
        Ok(record) => {
            let change = Change::new(
                partition.clone(),
                operation,
                connection.peer,
                vec![record],
                then,
            );
            // Pushed under the lock: the queue must have the generations in their order.
            partition.control.push(change);
        }
        Err(failure) => {
            drop(roles);
            then(Err(failure));
        }
    }
}

fn require_nobody(now: Login, wanted: Login) -> Result<()> {
    match now {
        Login::None => Ok(()),
        login if login == wanted => Err(CKR_USER_ALREADY_LOGGED_IN.into()),
        _ => Err(CKR_USER_ANOTHER_ALREADY_LOGGED_IN.into()),
    }
}

fn session_state(read_write: bool, login: Login) -> u64 {
    match (login, read_write) {
        (Login::SecurityOfficer, _) => CKS_RW_SO_FUNCTIONS,
        (Login::User, true) => CKS_RW_USER_FUNCTIONS,
        (Login::User, false) => CKS_RO_USER_FUNCTIONS,
        (Login::None, true) => CKS_RW_PUBLIC_SESSION,
        (Login::None, false) => CKS_RO_PUBLIC_SESSION,
    }
}

fn lock(roles: &std::sync::Mutex<Roles>) -> std::sync::MutexGuard<'_, Roles> {
    roles.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

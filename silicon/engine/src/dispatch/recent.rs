//! What a worker remembers from one request to the next: policy, sessions, objects and their keys.
//!
//! Each is looked up again as soon as the number that counts its changes is another one, so a worker
//! sees a change as early as if it had taken the locks, without writing to memory that other
//! workers read. Before it sleeps a worker forgets everything: a destroyed key lives no longer than
//! the requests under way.

use std::sync::Arc;

use super::Result;
use crate::connection::Connection;
use crate::keys::Key;
use crate::object::Object;
use crate::partition::{Partition, Policy};

/// Objects, or sessions, that are remembered at once.
const PLACES: usize = 16;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Recent {
    policy: Option<(u64, Arc<Policy>)>,
    objects: Changing<(u64, Found)>,
    /// Connection, session, and the connection's count of changes.
    sessions: [Option<(u64, u64, u64)>; PLACES],
}

/// An object, and its key once something has used it.
#[derive(Clone, Debug)]
struct Found {
    object: Arc<Object>,
    key: Option<Arc<Key>>,
}

/// Entries that hold for one count of changes.
#[derive(Debug)]
struct Changing<T> {
    changes: u64,
    places: [Option<T>; PLACES],
}

impl<T> Default for Changing<T> {
    fn default() -> Self {
        Self {
            changes: 0,
            places: std::array::from_fn(|_| None),
        }
    }
}

fn place(number: u64) -> usize {
    number as usize % PLACES
}

impl Recent {
    /// What the partition may do.
    pub fn policy(&mut self, partition: &Partition) -> &Arc<Policy> {
        let changes = partition.policy_changes();
        if self
            .policy
            .as_ref()
            .is_none_or(|(then, _)| *then != changes)
        {
            self.policy = None;
        }
        let (_, policy) = self
            .policy
            .get_or_insert_with(|| (changes, partition.policy()));
        policy
    }

    /// Whether the connection has this session.
    pub fn has_session(&mut self, connection: &Connection, session: u64) -> bool {
        let known = (connection.id, session, connection.session_changes());
        let Some(place) = self.sessions.get_mut(place(session)) else {
            return false;
        };
        if *place == Some(known) {
            return true;
        }
        let there = connection.sessions().contains_key(&session);
        if there {
            *place = Some(known);
        }
        there
    }

    fn find(&mut self, partition: &Partition, handle: u64) -> Option<&mut Found> {
        let changes = partition.object_changes();
        if self.objects.changes != changes {
            self.objects = Changing {
                changes,
                ..Changing::default()
            };
        }
        let place = self.objects.places.get_mut(place(handle))?;
        if place.as_ref().is_none_or(|(known, _)| *known != handle) {
            *place = partition
                .object(handle)
                .map(|object| (handle, Found { object, key: None }));
        }
        place.as_mut().map(|(_, found)| found)
    }

    /// The object with this handle.
    pub fn object(&mut self, partition: &Partition, handle: u64) -> Option<Arc<Object>> {
        self.find(partition, handle)
            .map(|found| found.object.clone())
    }

    /// The object with this handle, if `permitted`, and its key.
    pub fn key(
        &mut self,
        partition: &Partition,
        handle: u64,
        permitted: impl FnOnce(&Object) -> bool,
    ) -> Result<Option<(Arc<Object>, Arc<Key>)>> {
        let Some(found) = self
            .find(partition, handle)
            .filter(|found| permitted(&found.object))
        else {
            return Ok(None);
        };
        match &found.key {
            Some(_) => found.object.mark_used(),
            None => found.key = found.object.key()?,
        }
        let object = &found.object;
        Ok(found.key.as_ref().map(|key| (object.clone(), key.clone())))
    }
}

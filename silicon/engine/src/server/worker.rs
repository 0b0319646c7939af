//! A worker: takes requests from the rings of its partition, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use casemate_transport::protocol;
use casemate_transport::wait::SpinBudget;

use crate::connection::Connection;
use crate::dispatch::{self, Scratch};
use crate::partition::Partition;

/// How long an idle worker spins before it sleeps.
const SPIN_LONGEST: Duration = Duration::from_micros(50);
/// A sleeper looks this often whether it shall end.
const SLEEP_MILLISECONDS: i32 = 1000;

/// Serves for as long as the pool wants workers of this generation.
pub fn run(partition: &Arc<Partition>, generation: u64) {
    let mut scratch = Scratch::default();
    let mut budget = SpinBudget::new(SPIN_LONGEST);
    let awake = partition.status.awake();
    let wanted = || partition.workers.wants(generation);
    protocol::enter(awake);
    while wanted() {
        if round(partition, &mut scratch) {
            continue;
        }
        let found = budget.spin(|| any_requests(partition));
        if found {
            continue;
        }
        protocol::leave(awake);
        if !any_requests(partition) && wanted() {
            let begin = Instant::now();
            partition.bell.sleep(SLEEP_MILLISECONDS);
            budget.slept(begin.elapsed());
        }
        protocol::enter(awake);
    }
    protocol::leave(awake);
    // Others may have to end as well, and a request that came meanwhile needs somebody.
    partition.bell.ring();
}

fn any_requests(partition: &Partition) -> bool {
    partition
        .connections()
        .iter()
        .any(|c| protocol::has_requests(c.ring.pending()))
}

/// Takes what each connection has. True: there was something.
fn round(partition: &Arc<Partition>, scratch: &mut Scratch) -> bool {
    let ready: Vec<(Arc<Connection>, u64)> = partition
        .connections()
        .iter()
        .filter_map(|connection| {
            let taken = connection.take_requests();
            (taken != 0).then(|| (connection.clone(), taken))
        })
        .collect();
    for (connection, mut slots) in ready.iter().map(|(c, s)| (c, *s)) {
        while slots != 0 {
            let slot = slots.trailing_zeros();
            slots &= slots - 1;
            dispatch::serve(partition, connection, slot, scratch);
        }
    }
    !ready.is_empty()
}

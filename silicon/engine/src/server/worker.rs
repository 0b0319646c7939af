//! Workers: they take requests from the rings of their partition.
//!
//! The first worker of a partition answers for all requests: it looks for them while it is awake,
//! clients ring for it when it sleeps, and it alone spins. The others are helpers: they sleep until
//! they are called, by the first worker when more long requests wait than it can begin, or by a
//! client whose request nobody takes; they stay while they and others serve at the same time, then
//! sleep again. So short requests, which a second worker would only slow down, are served by one
//! thread, and long ones by as many as there are CPUs, each beside its clients (`places`).
//! What one of them does while it is awake is `desk`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use casemate_transport::clock::Moment;
use casemate_transport::protocol;
use casemate_transport::wait::{IdleSpin, futex_wait};

use super::competition::Helper;
use super::desk::Desk;
use crate::partition::Partition;

/// How long a helper looks at the rings before it sleeps, in nanoseconds.
const HELPER_SPIN: u64 = 100_000;

/// Serves as the partition's first worker for as long as the pool wants workers of this generation.
pub fn run_first(partition: &Arc<Partition>, generation: u64) {
    let mut desk = Desk::new(partition, generation, true);
    let mut idle = IdleSpin::new(partition.policy().spin_nanoseconds());
    let awake = partition.status.awake();
    let wanted = || partition.workers.wants(generation);
    protocol::enter(awake);
    partition.competition.enter();
    desk.arrive();
    while wanted() {
        if desk.round() {
            continue;
        }
        if desk.pauses_before_waking() {
            continue;
        }
        let beside = desk.has_client_beside();
        if desk.lingers(beside) && idle.spin(beside, || desk.sees_own_requests()) {
            continue;
        }
        desk.parts(beside);
        desk.leave();
        partition.competition.leave();
        protocol::leave(awake);
        if !desk.looks_for_requests() && wanted() {
            let begin = Moment::now();
            partition.bell.sleep();
            idle.slept(begin.elapsed());
        }
        protocol::enter(awake);
        partition.competition.enter();
        desk.arrive();
    }
    partition.competition.leave();
    protocol::leave(awake);
    // Another first worker may have to end as well, and a request that came meanwhile needs one.
    partition.bell.ring();
}

/// Serves as a helper for as long as the pool wants workers of this generation.
pub fn run_helper(partition: &Arc<Partition>, generation: u64, nice: i32) {
    let standing = Helper::new(nice);
    partition.competition.join(&standing);
    let mut desk = Desk::new(partition, generation, false);
    let idle = IdleSpin::new(HELPER_SPIN);
    let helping = partition.status.helping();
    helping.fetch_add(1, Ordering::Relaxed);
    let help = partition.status.help();
    let wanted = || partition.workers.wants(generation);
    loop {
        let call = protocol::before_help(help);
        let replaced = standing.is_demoted() && partition.competition.is_calm();
        if replaced || !wanted() {
            helping.fetch_sub(1, Ordering::Relaxed);
            partition.competition.part(&standing);
            if replaced {
                partition.workers.miss_helper();
            }
            break;
        }
        desk.needed_for(HELPER_SPIN);
        desk.avoid_first();
        if desk.shares() {
            desk.take_place();
        }
        while desk.is_needed() && wanted() {
            if !desk.round() {
                desk.wake_sleepers();
                if !idle.spin(true, || desk.sees_own_requests()) {
                    break;
                }
            }
        }
        desk.wake_sleepers();
        desk.leave();
        let asleep = partition.status.asleep();
        asleep.fetch_add(1, Ordering::Relaxed);
        helping.fetch_sub(1, Ordering::Relaxed);
        futex_wait(help, call, None);
        helping.fetch_add(1, Ordering::Relaxed);
        asleep.fetch_sub(1, Ordering::Relaxed);
    }
}

//! How a client's thread waits for an answer: it spins within its budget, then sleeps (`wait`).

use super::{RingConnection, Ticket};
use crate::client::Lost;
use crate::clock::Moment;
use crate::layout::SLOT_COUNT;
use crate::protocol;
use crate::wait::{LONG, Patience, Server, futex_wait, futex_wake};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Turns of a wait that looks at nothing but the answer: about a microsecond.
const FIRST_TURNS: u32 = 48;
/// Turns between two looks at the clock.
const TURNS: u32 = 16;
/// A short request that nobody has taken after so many nanoseconds asks for help.
const PATIENT: u64 = 100_000;
/// The first sleep, after which a request that nobody has taken asks for help: longer than the
/// kernel's tick, so that it costs no change of the CPU's timer.
const FIRST_SLEEP: Duration = Duration::from_millis(20);
/// A sleeper looks this often whether the module still lives.
const LIFE_CHECK: Duration = Duration::from_millis(100);

impl RingConnection {
    /// Waits until the answer is there.
    pub(crate) fn wait_answer(&self, ticket: &Ticket, patience: &mut Patience) -> Result<(), Lost> {
        let answered = self.ring.answered(ticket.slot);
        let ready = || protocol::is_answered(answered, ticket.sequence);
        if ready() {
            return Ok(());
        }
        let awake = self.status.awake().load(Ordering::Relaxed) != 0;
        let mut answered = false;
        let expected = self.times.expected(ticket.kind);
        if Patience::may_spin(self.status.cpu().load(Ordering::Relaxed)) {
            let mine = SLOT_COUNT as u32 - self.free.load(Ordering::Relaxed).count_ones();
            let budget = patience.budget(expected, awake, mine.max(self.working()));
            if budget > 0 {
                for _ in 0..FIRST_TURNS {
                    std::hint::spin_loop();
                    if ready() {
                        return Ok(());
                    }
                }
                answered = self.spin(ticket, expected, budget, awake);
                if answered && awake {
                    return Ok(());
                }
            }
            // Who sleeps beside others that wait, for work that is long, leaves a CPU to a helper.
            if awake && !ready() && (budget > 0 || expected >= LONG) {
                self.ask_for_help(ticket);
            }
        }
        if !answered {
            self.sleep(ticket)?;
        }
        let served_on = self.ring.served_on(ticket.slot).load(Ordering::Relaxed);
        let server = served_on.checked_sub(1);
        let kind = match self.working() {
            1 => Server::Alone,
            _ => Server::OneOfSeveral,
        };
        patience.waited(server.map(kind), expected);
        Ok(())
    }

    /// Workers that are awake, of this partition or, first workers alone, of all.
    fn working(&self) -> u32 {
        let helped = 1 + self.status.helping().load(Ordering::Relaxed);
        helped.max(self.status.working().load(Ordering::Relaxed))
    }

    /// Spins for at most `budget` nanoseconds, for a worker that is `awake` or has to wake up first.
    /// True: the answer is there.
    fn spin(&self, ticket: &Ticket, expected: u64, budget: u64, awake: bool) -> bool {
        let answered = self.ring.answered(ticket.slot);
        let mut next_help = match expected {
            _ if !awake => PATIENT + expected,
            LONG.. => expected,
            _ => PATIENT,
        };
        let begin = Moment::now();
        loop {
            for _ in 0..TURNS {
                std::hint::spin_loop();
                if protocol::is_answered(answered, ticket.sequence) {
                    return true;
                }
            }
            let elapsed = begin.elapsed();
            if elapsed >= budget {
                return false;
            }
            if elapsed >= next_help {
                next_help = elapsed.saturating_mul(2);
                self.ask_for_help(ticket);
            }
        }
    }

    /// Wakes a further worker if none has the request yet.
    pub(super) fn ask_for_help(&self, ticket: &Ticket) {
        if self.status.asleep().load(Ordering::Relaxed) != 0
            && protocol::is_pending(self.ring.pending(), ticket.slot)
        {
            futex_wake(self.status.help(), 1);
        }
    }

    fn sleep(&self, ticket: &Ticket) -> Result<(), Lost> {
        let answered = self.ring.answered(ticket.slot);
        let waiting = self.ring.waiting(ticket.slot);
        let mut longest = FIRST_SLEEP;
        while protocol::prepare_sleep(answered, waiting, ticket.sequence) {
            futex_wait(answered, ticket.sequence.wrapping_sub(1), Some(longest));
            if protocol::is_answered(answered, ticket.sequence) {
                break;
            }
            self.check()?;
            self.ask_for_help(ticket);
            longest = LIFE_CHECK;
        }
        protocol::end_sleep(waiting);
        Ok(())
    }
}

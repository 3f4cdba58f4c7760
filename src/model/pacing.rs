//! Attempts spaced evenly, by every process that makes them together.
//!
//! The time at which an endpoint's next attempt may be made (in GCRA the
//! theoretical arrival time) is one number that all processes share. One that
//! has no slots left moves it on by a block of them and has these for itself; it
//! asks again about every 100 ms, however many attempts that are. It must not
//! read the clock: times are parameters.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The fewest attempts a second that can be asked for.
pub const PER_SECOND_MIN: u32 = 1;
/// The most attempts a second that can be asked for.
pub const PER_SECOND_MAX: u32 = 1000;
/// How long the slots of one block last.
const BLOCK: Duration = Duration::from_millis(100);
/// How late a slot may be used: what idled does not catch up by a burst.
const LATE_MAX: Duration = BLOCK;
/// How far ahead slots are given: what queues keep a message for. Beyond it there
/// is nothing to be had, and nothing to wait for by slot.
pub const AHEAD_MAX: Duration = Duration::from_secs(900);

/// The longest that an attempt without a slot waits before it asks for one again.
const ASK_MAX: SignedDuration = SignedDuration::from_hours(1);

/// When an attempt asks for a slot again that found none and has `place` behind all that
/// are given away: when the last of those is half as far ahead as slots are given. Each
/// asks at a time of its own, and so no more often than the endpoint is called, but where
/// its place is so far behind that much may change before.
pub fn ask_at(place: Timestamp, now: Timestamp) -> Timestamp {
    let wait = (place - AHEAD_MAX / 2).duration_since(now);
    if wait <= ASK_MAX {
        return now + wait;
    }
    // By its place too: in the later half of that time.
    let half = ASK_MAX / 2;
    let over = wait.as_micros() % half.as_micros();
    now + half + SignedDuration::from_micros(i64::try_from(over).unwrap_or_default())
}

/// An endpoint's attempts a second, [`PER_SECOND_MIN`] to [`PER_SECOND_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(u32);

impl Pace {
    /// `per_second` attempts a second; the nearest that there is.
    pub fn new(per_second: u32) -> Self {
        Self(per_second.clamp(PER_SECOND_MIN, PER_SECOND_MAX))
    }

    /// From one slot to the next.
    pub fn interval(self) -> Duration {
        Duration::from_micros((1_000_000 / self.0).into())
    }

    /// How many slots one block has.
    pub fn block_slots(self) -> u32 {
        (self.0 * BLOCK.as_millis() as u32 / 1000).max(1)
    }

    /// The places of one block behind all slots: those of a second.
    pub fn block_places(self) -> u32 {
        self.0
    }

    /// How long one block lasts: what claiming it moves the shared time on by.
    pub fn block(self) -> Duration {
        self.interval() * self.block_slots()
    }
}

/// Slots that one process has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotBlock {
    pace: Pace,
    next: Timestamp,
    left: u32,
}

/// What a block has for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// One for now, and it is taken.
    Now,
    /// One for later: nothing is taken yet.
    At(Timestamp),
    /// None: claim another block.
    None,
}

impl SlotBlock {
    /// The block whose first slot is at `start`.
    pub fn new(pace: Pace, start: Timestamp) -> Self {
        Self {
            left: pace.block_slots(),
            ..Self::of_places(pace, start)
        }
    }

    /// The block of places behind all slots whose first is at `start`.
    pub fn of_places(pace: Pace, start: Timestamp) -> Self {
        Self {
            pace,
            next: start,
            left: pace.block_places(),
        }
    }

    /// The pace it was claimed for.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Takes a slot for `now`, if one is due.
    pub fn take(&mut self, now: Timestamp) -> Slot {
        self.drop_expired(now);
        match self.peek() {
            Some(at) if at <= now => {
                self.spend();
                Slot::Now
            }
            Some(at) => Slot::At(at),
            None => Slot::None,
        }
    }

    /// The next slot, if there is one.
    pub fn peek(&self) -> Option<Timestamp> {
        (self.left > 0).then_some(self.next)
    }

    /// Gives away the next slot, whenever it is.
    pub fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.next += self.pace.interval();
    }

    fn drop_expired(&mut self, now: Timestamp) {
        let late =
            now.duration_since(self.next) - SignedDuration::try_from(LATE_MAX).unwrap_or_default();
        if late.is_positive() {
            let interval = self.pace.interval().as_micros() as i128;
            let slots = (late.as_micros() + interval - 1) / interval;
            let slots = u32::try_from(slots).unwrap_or(u32::MAX);
            let slots = slots.min(self.left);
            self.left -= slots;
            self.next += self.pace.interval() * slots;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000 + us).unwrap()
    }

    #[test]
    fn a_block_is_about_100_ms_of_slots_and_at_least_one() {
        let shape = |n| (Pace::new(n).block_slots(), Pace::new(n).block());
        assert_eq!(shape(1), (1, Duration::from_secs(1)));
        assert_eq!(shape(19), (1, Duration::from_micros(52_631)));
        assert_eq!(shape(50), (5, Duration::from_millis(100)));
        assert_eq!(shape(1000), (100, Duration::from_millis(100)));
        assert_eq!(Pace::new(0), Pace::new(1));
        assert_eq!(Pace::new(9999), Pace::new(1000));
    }

    #[test]
    fn who_has_no_slot_asks_again_at_a_time_of_its_own() {
        let (pace, now) = (Pace::new(10), at(0));
        let mut places = SlotBlock::of_places(pace, now + AHEAD_MAX);
        let mut asks = vec![];
        // An hour's and more.
        for _ in 0..11_000 * 10 {
            let place = places.peek().unwrap_or(places.next);
            asks.push(ask_at(place, now).duration_since(now).as_micros());
            places.spend();
        }
        let soonest = (AHEAD_MAX / 2).as_micros() as i128;
        assert_eq!(asks[0], soonest);
        assert!(
            asks.iter()
                .all(|ask| (soonest..=ASK_MAX.as_micros()).contains(ask))
        );
        // As far apart as attempts may be, while the place is within the hour.
        let near = &asks[..10_000];
        assert!(near.windows(2).all(|two| two[1] - two[0] == 100_000));
        // And beyond it never more at a time than so many half hours lie ahead.
        asks.sort_unstable();
        assert!(asks.windows(10).all(|ten| ten[9] > ten[0]));
    }

    #[test]
    fn slots_are_spaced_within_a_block() {
        let mut block = SlotBlock::new(Pace::new(30), at(0));
        assert_eq!(block.take(at(0)), Slot::Now);
        assert_eq!(block.take(at(1)), Slot::At(at(33_333)));
        assert_eq!(block.take(at(33_333)), Slot::Now);
        assert_eq!(block.take(at(80_000)), Slot::Now);
        assert_eq!(block.take(at(80_000)), Slot::None);
    }

    #[test]
    fn what_was_not_used_in_time_is_lost() {
        let mut block = SlotBlock::new(Pace::new(1000), at(0));
        // A minute later there is nothing left to catch up with.
        assert_eq!(block.take(at(60_000_000)), Slot::None);
        let mut block = SlotBlock::new(Pace::new(1000), at(0));
        // Of 100 slots, 0 to 49 ms are more than 100 ms ago.
        let taken = (0..200).filter(|_| block.take(at(150_000)) == Slot::Now);
        assert_eq!(taken.count(), 50);
    }

    /// The number all processes share, as the store keeps it.
    fn claim(tat: &mut i64, pace: Pace, now: i64) -> SlotBlock {
        let start = (*tat).max(now);
        *tat = start + i64::try_from(pace.block().as_micros()).unwrap();
        SlotBlock::new(pace, at(start))
    }

    proptest! {
        /// However many processes ask, whenever they ask: in no second are there
        /// more attempts than the limit, but for those of the 100 ms a slot may
        /// be late and the one that begins it.
        #[test]
        fn no_second_has_more_than_the_limit(
            per_second in 1_u32..=1000,
            asks in proptest::collection::vec((0_usize..4, 0_i64..20_000), 1..600),
        ) {
            let pace = Pace::new(per_second);
            let mut blocks: [Option<SlotBlock>; 4] = [None; 4];
            let (mut tat, mut now) = (0, 0);
            let mut made: Vec<i64> = Vec::new();
            for (process, pause) in asks {
                now += pause;
                let mut slot = blocks[process].as_mut().map_or(Slot::None, |b| b.take(at(now)));
                if slot == Slot::None {
                    let mut block = claim(&mut tat, pace, now);
                    slot = block.take(at(now));
                    blocks[process] = Some(block);
                }
                if slot == Slot::Now {
                    made.push(now);
                }
            }
            for (n, from) in made.iter().enumerate() {
                let within = made[n..].iter().take_while(|t| **t < from + 1_000_000).count();
                let most = f64::from(per_second) * 1.1 + 2.0;
                prop_assert!(within as f64 <= most, "{within} within a second, {most} at most");
            }
        }

        /// One process that always has work makes as many attempts as it may.
        #[test]
        fn a_busy_process_uses_every_slot(per_second in 1_u32..=1000) {
            let pace = Pace::new(per_second);
            let (mut tat, mut now, mut made) = (0, 0, 0_u32);
            let mut block = claim(&mut tat, pace, now);
            while now < 3_000_000 {
                match block.take(at(now)) {
                    Slot::Now => made += 1,
                    Slot::At(next) => {
                        now = next.as_microsecond() - at(0).as_microsecond();
                    }
                    Slot::None => block = claim(&mut tat, pace, now),
                }
            }
            prop_assert!(made >= per_second * 3, "{made} in 3 s");
            prop_assert!(made <= per_second * 3 + per_second / 10 + 3, "{made} in 3 s");
        }
    }
}

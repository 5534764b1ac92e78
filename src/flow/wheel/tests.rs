//! The wheel against an ordered map of deadlines.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Default, Clone)]
struct Entries(Vec<(u32, u32, u64)>);

impl Entries {
    fn new(count: usize) -> Self {
        Entries(vec![(0, 0, 0); count])
    }

    fn arm(&mut self, wheel: &mut Wheel, index: u32, due: u64) {
        self.0[index as usize].2 = due;
        wheel.insert(self, index, due);
    }
}

impl Links for Entries {
    fn links(&self, index: u32) -> (u32, u32) {
        let (before, after, _) = self.0[index as usize];
        (before, after)
    }
    fn set_links(&mut self, index: u32, (before, after): (u32, u32)) {
        let entry = &mut self.0[index as usize];
        (entry.0, entry.1) = (before, after);
    }
    fn due(&self, index: u32) -> u64 {
        self.0[index as usize].2
    }
}

fn drain(wheel: &mut Wheel, entries: &mut Entries, now: u64) -> Vec<u32> {
    std::iter::from_fn(|| wheel.pop_due(entries, now)).collect()
}

#[test]
fn order_is_by_deadline_then_by_insertion() {
    let (mut wheel, mut entries) = (Wheel::new(1000), Entries::new(6));
    for (index, due) in [(0, 1005), (1, 1003), (2, 1005), (3, 1003), (4, 900), (5, 1004)] {
        entries.arm(&mut wheel, index, due);
    }
    assert_eq!(wheel.next_due(), Some(1000));
    assert_eq!(drain(&mut wheel, &mut entries, 1004), [4, 1, 3, 5]);
    assert_eq!(wheel.next_due(), Some(1005));
    assert_eq!(drain(&mut wheel, &mut entries, 1005), [0, 2]);
    assert_eq!((wheel.next_due(), wheel.len()), (None, 0));
}

#[test]
fn an_entry_seen_again_is_put_off() {
    let (mut wheel, mut entries) = (Wheel::new(0), Entries::new(1));
    entries.arm(&mut wheel, 0, 30_000);
    entries.0[0].2 = 45_678;
    assert_eq!(drain(&mut wheel, &mut entries, 45_677), []);
    assert_eq!(wheel.len(), 1);
    assert_eq!(drain(&mut wheel, &mut entries, 45_678), [0]);
}

#[test]
fn years_ahead_take_few_stops() {
    let year = 365 * 86_400_000u64;
    let (mut wheel, mut entries) = (Wheel::new(1_700_000_000_000), Entries::new(2));
    entries.arm(&mut wheel, 0, 1_700_000_000_000 + 50 * year + 77);
    entries.arm(&mut wheel, 1, u64::MAX);
    let mut stops = 0;
    while wheel.len() == 2 {
        let now = wheel.next_due().unwrap();
        let popped = drain(&mut wheel, &mut entries, now);
        assert!(popped.is_empty() || popped == [0] && now == 1_700_000_000_000 + 50 * year + 77);
        stops += 1;
    }
    assert!(stops < 60, "{stops}");
    // The end of time is a time: everything is due there, and nothing loops or overflows.
    assert!(wheel.remove(&mut entries, 1) && !wheel.remove(&mut entries, 1));
    let mut wheel = Wheel::new(u64::MAX);
    entries.arm(&mut wheel, 1, u64::MAX);
    assert_eq!(wheel.next_due(), Some(END_OF_TIME));
    assert_eq!(drain(&mut wheel, &mut entries, u64::MAX), [1]);
}

#[test]
fn time_never_goes_back() {
    let (mut wheel, mut entries) = (Wheel::new(500), Entries::new(1));
    assert_eq!(drain(&mut wheel, &mut entries, 700), []);
    assert_eq!(drain(&mut wheel, &mut entries, 100), []);
    entries.arm(&mut wheel, 0, 650);
    assert_eq!(wheel.next_due(), Some(700));
    assert_eq!(drain(&mut wheel, &mut entries, 650), []);
    assert_eq!(drain(&mut wheel, &mut entries, 700), [0]);
}

#[derive(Debug, Clone)]
enum Step {
    Arm(u32, u64),
    PutOff(u32, u64),
    Remove(u32),
    Jump(u64),
    Stop,
}

/// Times of every scale: each level's own, and around their borders.
fn span() -> impl Strategy<Value = u64> {
    let scale = (0u32..40).prop_flat_map(|bits| 0u64..1 << bits);
    let border = (1u32..7, 0u64..4).prop_map(|(level, near)| (1u64 << (6 * level)) + near - 2);
    prop_oneof![0u64..200, scale, border]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..64, span()).prop_map(|(index, after)| Step::Arm(index, after)),
        1 => (0u32..64, span()).prop_map(|(index, by)| Step::PutOff(index, by)),
        1 => (0u32..64).prop_map(Step::Remove),
        2 => span().prop_map(Step::Jump),
        2 => Just(Step::Stop),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_sorted_list(
        start in prop_oneof![Just(0u64), 0u64..1 << 44], steps in prop::collection::vec(step(), 0..200),
    ) {
        let (mut wheel, mut entries) = (Wheel::new(start), Entries::new(64));
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = start;
        for step in steps {
            match step {
                Step::Arm(index, after) => {
                    entries.arm(&mut wheel, index, now + after);
                    model.insert(index, now + after);
                }
                Step::PutOff(index, by) => {
                    if let Some(due) = model.get_mut(&index) {
                        *due += by;
                        entries.0[index as usize].2 = *due;
                    }
                }
                Step::Remove(index) => {
                    prop_assert_eq!(wheel.remove(&mut entries, index), model.remove(&index).is_some());
                }
                Step::Jump(_) | Step::Stop => {
                    // A stop goes where the wheel says, which must not be past the next deadline.
                    let earliest = model.values().min().copied();
                    let next = wheel.next_due();
                    prop_assert_eq!(next.is_some(), earliest.is_some());
                    if let (Some(next), Some(earliest)) = (next, earliest) {
                        prop_assert!(now <= next && next <= earliest.max(now), "{now} {next} {earliest}");
                    }
                    now = match step {
                        Step::Jump(by) => now + by,
                        _ => next.unwrap_or(now),
                    };
                    let mut last = 0;
                    while let Some(index) = wheel.pop_due(&mut entries, now) {
                        let due = model.remove(&index);
                        prop_assert!(due.is_some_and(|due| last <= due && due <= now), "{index} {due:?} {last} {now}");
                        last = due.unwrap_or(0);
                        prop_assert_eq!(entries.links(index), (0, 0));
                    }
                    prop_assert!(model.values().all(|&due| due > now));
                }
            }
            prop_assert_eq!(wheel.len(), model.len());
        }
        // Going from stop to stop, all the rest come out, each in its own millisecond.
        let mut stops = 0;
        while let Some(next) = wheel.next_due() {
            stops += 1;
            prop_assert!(stops < 64 * 100);
            while let Some(index) = wheel.pop_due(&mut entries, next) {
                prop_assert_eq!(model.remove(&index).map(|due| due.max(now)), Some(next));
            }
        }
        prop_assert!(model.is_empty());
    }

    #[test]
    fn finds_the_next_bit_round_the_corner(set in prop::collection::btree_set(0u64..SLOTS, 0..5), from in 0u64..SLOTS) {
        let mut occupied = Occupied { words: [0; 64], summary: 0 };
        set.iter().for_each(|&slot| occupied.set(slot));
        let expected = set.iter().map(|&slot| (slot + SLOTS - from) % SLOTS).min();
        prop_assert_eq!(occupied.distance_from(from), expected);
        set.iter().for_each(|&slot| occupied.clear(slot));
        prop_assert_eq!(occupied.distance_from(from), None);
    }
}

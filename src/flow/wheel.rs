//! Which flows are due: a timer wheel of 1 ms resolution over virtual time.
//!
//! Five levels of 4,096 slots each. A slot of level 0 is one millisecond, of each further level 64 times the one before,
//! so they reach 4 s, 4 min, 4 h, 12 days and 2 years ahead; what is due later waits in the last slot there is. When time
//! comes to a slot of a higher level, its entries are sorted into lower ones. A slot is much shorter than the level below
//! it reaches, so this moves few entries at a time: of a million flows with a timeout of 30 s, two thousand.
//!
//! An entry costs eight bytes, two links inside the flow record ([`Links`]). The wheel keeps no deadlines: when a slot comes
//! up it asks when the entry is due *now*, and puts it off if that is later. So a flow that is seen again only notes the
//! time; it must be removed and inserted anew only when its deadline moves forward.

/// Slots in a level, as a power of two.
const SLOT_BITS: u32 = 12;
const SLOTS: u64 = 1 << SLOT_BITS;
/// How much longer a slot is than one of the level below, as a power of two.
const LEVEL_BITS: u32 = 6;
const LEVELS: usize = 5;
/// Marks a link that leads back to the slot, by its number, instead of to an entry.
const SLOT_LINK: u32 = 1 << 31;
/// Times above this count as this, so that sums of times cannot overflow. 2^62 ms are 146 million years.
const END_OF_TIME: u64 = 1 << 62;

/// What the wheel keeps in, and asks of, the entries' records. Indices are below 2^31 - 1.
pub trait Links {
    /// The two links as last set; (0, 0) in a record that was never inserted.
    fn links(&self, index: u32) -> (u32, u32);
    /// Stores the two links.
    fn set_links(&mut self, index: u32, links: (u32, u32));
    /// When the entry is due by all that is known now, in ms of virtual time. It may have become later since the entry was
    /// inserted.
    fn due(&self, index: u32) -> u64;
}

/// The entries of a slot, oldest first. Only read while its bit is set.
#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
}

/// Which slots of a level have entries, and which of its words are not zero.
#[derive(Debug, Clone, Copy)]
struct Occupied {
    words: [u64; 64],
    summary: u64,
}

impl Occupied {
    fn set(&mut self, slot: u64) {
        self.words[slot as usize / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    fn clear(&mut self, slot: u64) {
        let word = &mut self.words[slot as usize / 64];
        *word &= !(1 << (slot % 64));
        if *word == 0 {
            self.summary &= !(1 << (slot / 64));
        }
    }

    fn holds(&self, slot: u64) -> bool {
        self.words[slot as usize / 64] & 1 << (slot % 64) != 0
    }

    /// How many slots after `slot`, going round, the first occupied one is.
    fn distance_from(&self, slot: u64) -> Option<u64> {
        if self.summary == 0 {
            return None;
        }
        let (word, bit) = (slot / 64, slot % 64);
        let here = self.words[word as usize] >> bit;
        if here != 0 {
            return Some(u64::from(here.trailing_zeros()));
        }
        // The words after this one in order, then, last, the bits of this word below `bit`.
        let order = self.summary.rotate_right((word as u32 + 1) % 64);
        let words = u64::from(order.trailing_zeros()) + 1;
        let found = u64::from(self.words[((word + words) % 64) as usize].trailing_zeros());
        Some(words * 64 + found - bit)
    }
}

/// A timer wheel over entries of type [`Links`].
#[derive(Debug)]
pub struct Wheel {
    /// All that is due before this was popped, apart from what was inserted late.
    now: u64,
    /// Nothing comes up before this.
    earliest: u64,
    slots: Vec<Slot>,
    occupied: Vec<Occupied>,
    len: usize,
}

impl Wheel {
    /// An empty wheel at a time. It holds its 160 KiB of slots from the start; they are touched only as they are used.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            now: now_ms.min(END_OF_TIME),
            earliest: u64::MAX,
            slots: vec![Slot { first: 0, last: 0 }; LEVELS * SLOTS as usize],
            occupied: vec![Occupied { words: [0; 64], summary: 0 }; LEVELS],
            len: 0,
        }
    }

    /// Adds an entry that is due at `deadline_ms`; at once if that is past. An entry that is in the wheel is moved.
    pub fn insert(&mut self, links: &mut impl Links, index: u32, deadline_ms: u64) {
        self.remove(links, index);
        self.add(links, index, deadline_ms);
        self.len += 1;
    }

    /// Takes an entry out; `false` when it was not in.
    pub fn remove(&mut self, links: &mut impl Links, index: u32) -> bool {
        let (before, after) = links.links(index);
        if (before, after) == (0, 0) {
            return false;
        }
        self.unlink(links, index, before, after);
        self.len -= 1;
        true
    }

    /// The earliest time at which [`Wheel::pop_due`] may have something to do. To stop at each of these times in turn is to
    /// visit each deadline in its own millisecond; some stops turn out to be for nothing.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.next_slot().map(|(time, _)| time)
    }

    /// The next entry due by `now_ms`, taken out of the wheel: in order of the deadlines, in order of insertion within a
    /// millisecond as far as one level goes. Call it until it returns `None`; only then has the wheel arrived at `now_ms`. A
    /// time before the last one is taken as that.
    pub fn pop_due(&mut self, links: &mut impl Links, now_ms: u64) -> Option<u32> {
        let until = now_ms.min(END_OF_TIME);
        if until < self.earliest {
            self.now = self.now.max(until);
            return None;
        }
        loop {
            let Some((time, level)) = self.next_slot() else {
                self.earliest = u64::MAX;
                break;
            };
            self.earliest = time;
            if time > until {
                break;
            }
            self.now = self.now.max(time);
            let slot = slot_number(level, time >> (LEVEL_BITS * level as u32));
            if level == 0 {
                let index = self.pop_first(links, slot);
                if links.due(index).min(END_OF_TIME) <= self.now {
                    self.len -= 1;
                    return Some(index);
                }
                let due = links.due(index);
                self.add(links, index, due);
            } else {
                // None of them comes back into this slot: by now it is a whole round ahead.
                while self.is_occupied(slot) {
                    let index = self.pop_first(links, slot);
                    let due = links.due(index);
                    self.add(links, index, due);
                }
            }
        }
        self.now = self.now.max(until);
        None
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that comes up first, its time and level; of several at one time the one of the highest level, whose entries
    /// may go into the others.
    fn next_slot(&self) -> Option<(u64, usize)> {
        let mut next = None;
        for level in (0..LEVELS).rev() {
            let shift = LEVEL_BITS * level as u32;
            let current = self.now >> shift;
            if let Some(distance) = self.occupied[level].distance_from(current % SLOTS) {
                let time = (current + distance) << shift;
                if next.is_none_or(|(earlier, _)| time < earlier) {
                    next = Some((time, level));
                }
            }
        }
        next
    }

    /// Links an entry into the slot of its deadline.
    fn add(&mut self, links: &mut impl Links, index: u32, deadline: u64) {
        let deadline = deadline.min(END_OF_TIME).max(self.now);
        let mut level = 0;
        let mut slot_time = deadline;
        while slot_time - (self.now >> (LEVEL_BITS * level as u32)) >= SLOTS {
            if level + 1 == LEVELS {
                slot_time = (self.now >> (LEVEL_BITS * level as u32)) + SLOTS - 1;
                break;
            }
            level += 1;
            slot_time >>= LEVEL_BITS;
        }
        self.earliest = self.earliest.min(slot_time << (LEVEL_BITS * level as u32));
        let number = slot_number(level, slot_time);
        let back = SLOT_LINK | number;
        let slot = &mut self.slots[number as usize];
        if self.occupied[level].holds(slot_time % SLOTS) {
            let last = slot.last;
            slot.last = index;
            let (before, _) = links.links(last);
            links.set_links(last, (before, index + 1));
            links.set_links(index, (last + 1, back));
        } else {
            self.occupied[level].set(slot_time % SLOTS);
            *slot = Slot { first: index, last: index };
            links.set_links(index, (back, back));
        }
    }

    fn is_occupied(&self, slot: u32) -> bool {
        self.occupied[slot as usize >> SLOT_BITS].holds(u64::from(slot) % SLOTS)
    }

    fn pop_first(&mut self, links: &mut impl Links, slot: u32) -> u32 {
        let index = self.slots[slot as usize].first;
        let (before, after) = links.links(index);
        self.unlink(links, index, before, after);
        index
    }

    fn unlink(&mut self, links: &mut impl Links, index: u32, before: u32, after: u32) {
        let slot = |link: u32| (link & !SLOT_LINK) as usize;
        match (before & SLOT_LINK != 0, after & SLOT_LINK != 0) {
            (true, true) => self.occupied[slot(before) >> SLOT_BITS].clear(slot(before) as u64 % SLOTS),
            (true, false) => self.slots[slot(before)].first = after - 1,
            (false, true) => self.slots[slot(after)].last = before - 1,
            (false, false) => {}
        }
        if before & SLOT_LINK == 0 {
            let (further, _) = links.links(before - 1);
            links.set_links(before - 1, (further, after));
        }
        if after & SLOT_LINK == 0 {
            let (_, further) = links.links(after - 1);
            links.set_links(after - 1, (before, further));
        }
        links.set_links(index, (0, 0));
    }
}

fn slot_number(level: usize, slot_time: u64) -> u32 {
    (level as u32) << SLOT_BITS | (slot_time % SLOTS) as u32
}

#[cfg(test)]
mod tests;

//! Who has which address on a port's link: the configuration's entries, and what ARP answers.
//!
//! Shared by all cores, since an answer reaches only one of them. An entry begins when somebody wants to send, never
//! because of a frame that nobody asked for: such a frame can only change what is there (RFC 826, and R7 of
//! endpoint-io.md). So what others send cannot make the table grow, and what we send is bounded.

use super::arp::Arp;
use crate::wire::ethernet::Mac;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// So long an answer is believed without asking again.
pub const FRESH_MS: u64 = 60_000;
/// So long an answer is used at all when nobody confirms it.
pub const STALE_MS: u64 = 600_000;
/// Time between two requests.
pub const RETRY_MS: u64 = 1000;
/// Requests before a neighbour is given up.
pub const TRIES: u8 = 3;
/// Neighbours known at most.
pub const MOST_KNOWN: usize = 4096;
/// Neighbours asked for at most; then the one asked for longest ago is forgotten.
pub const MOST_ASKED: usize = 512;

/// A neighbour: port and address.
pub type Key = (u8, Ipv4Addr);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its hardware address, good until then without a new look; `ask`: somebody should ask again meanwhile.
    Known {
        /// Hardware address.
        mac: Mac,
        /// Milliseconds.
        until_ms: u64,
        /// Send a request.
        ask: bool,
    },
    /// Not known yet.
    Wait {
        /// Send a request.
        ask: bool,
    },
    /// It did not answer. Who wants to send a second later begins anew.
    Silent,
}

/// A fixed entry covers a prefix.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    mask: u32,
    net: u32,
    mac: Mac,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Option<Mac>,
    confirmed_ms: u64,
    asked_ms: u64,
    /// Requests since then; one more than [`TRIES`]: given up at `asked_ms`.
    tries: u8,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Key, Entry>,
    /// Entries without answer in the order they were begun; some may have got theirs.
    asked: VecDeque<Key>,
}

/// The neighbours of all ports.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Longest prefix first.
    fixed: Vec<Fixed>,
    cache: Mutex<Cache>,
    generation: AtomicU32,
}

impl Neighbours {
    /// Neighbours with fixed entries: address, prefix length, hardware address.
    pub fn new(fixed: impl IntoIterator<Item = (Ipv4Addr, u8, Mac)>) -> Self {
        let mut fixed: Vec<Fixed> = fixed
            .into_iter()
            .map(|(addr, prefix, mac)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                Fixed { mask, net: u32::from(addr) & mask, mac }
            })
            .collect();
        fixed.sort_by_key(|f| std::cmp::Reverse(f.mask));
        Neighbours { fixed, ..Neighbours::default() }
    }

    /// Changes whenever an answer does: what was found out before is to be looked up again.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// The fixed entry for an address.
    pub fn fixed(&self, addr: Ipv4Addr) -> Option<Mac> {
        let addr = u32::from(addr);
        self.fixed.iter().find(|f| addr & f.mask == f.net).map(|f| f.mac)
    }

    /// What is known of a neighbour somebody wants to send to. Whoever gets `ask` sends the request.
    pub fn resolve(&self, key: Key, now_ms: u64) -> Answer {
        if let Some(mac) = self.fixed(key.1) {
            return Answer::Known { mac, until_ms: u64::MAX, ask: false };
        }
        let mut cache = self.cache.lock();
        let Some(entry) = cache.entries.get_mut(&key) else {
            return cache.begin(key, now_ms);
        };
        let age = now_ms.saturating_sub(entry.confirmed_ms);
        let due = now_ms.saturating_sub(entry.asked_ms) >= RETRY_MS;
        let ask = due && entry.tries < TRIES;
        match entry.mac {
            Some(mac) if age < FRESH_MS => {
                return Answer::Known { mac, until_ms: entry.confirmed_ms + FRESH_MS, ask: false };
            }
            Some(_) if age >= STALE_MS || (due && entry.tries == TRIES) => {
                // As good as none.
                cache.entries.remove(&key);
                return cache.begin(key, now_ms);
            }
            None if due && entry.tries > TRIES => {
                cache.entries.remove(&key);
                return cache.begin(key, now_ms);
            }
            None if due && entry.tries == TRIES => {
                // For a while, so that every core hears of it.
                entry.tries += 1;
                entry.asked_ms = now_ms;
                drop(cache);
                self.generation.fetch_add(1, Ordering::Release);
                return Answer::Silent;
            }
            None if entry.tries > TRIES => return Answer::Silent,
            _ => {}
        }
        if ask {
            entry.tries += 1;
            entry.asked_ms = now_ms;
        }
        match entry.mac {
            Some(mac) => Answer::Known { mac, until_ms: entry.asked_ms + RETRY_MS, ask },
            None => Answer::Wait { ask },
        }
    }

    /// What an ARP packet that came in by `port` says of its sender. Whether somebody may have waited for it.
    pub fn learn(&self, port: u8, arp: &Arp, now_ms: u64) -> bool {
        let key = (port, arp.sender);
        let mut cache = self.cache.lock();
        let Some(entry) = cache.entries.get_mut(&key) else { return false };
        let changed = entry.mac != Some(arp.sender_mac);
        let waited = entry.mac.is_none();
        *entry = Entry { mac: Some(arp.sender_mac), confirmed_ms: now_ms, asked_ms: now_ms, tries: 0 };
        if waited {
            cache.limit_known(key);
        }
        drop(cache);
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        waited
    }

    /// Neighbours learned or asked for now.
    pub fn len(&self) -> usize {
        self.cache.lock().entries.len()
    }

    /// Whether nothing was learned or asked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Cache {
    /// An entry that waits for its answer.
    fn begin(&mut self, key: Key, now_ms: u64) -> Answer {
        if self.entries.try_reserve(1).is_err() || self.asked.try_reserve(1).is_err() {
            return Answer::Silent;
        }
        while self.asked.len() >= MOST_ASKED
            && let Some(oldest) = self.asked.pop_front()
        {
            if self.entries.get(&oldest).is_some_and(|e| e.mac.is_none()) {
                self.entries.remove(&oldest);
            }
        }
        self.asked.push_back(key);
        self.entries.insert(key, Entry { mac: None, confirmed_ms: 0, asked_ms: now_ms, tries: 1 });
        Answer::Wait { ask: true }
    }

    /// Makes room for `new` when too many are known: the one confirmed longest ago goes.
    fn limit_known(&mut self, new: Key) {
        if self.entries.len() <= MOST_KNOWN + MOST_ASKED {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(key, e)| e.mac.is_some() && **key != new)
            .min_by_key(|(key, e)| (e.confirmed_ms, **key))
            .map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::arp::Op;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];
    const OTHER: Mac = [2, 0, 0, 0, 0, 8];
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn said(sender: Ipv4Addr, sender_mac: Mac) -> Arp {
        Arp { op: Op::Reply, sender_mac, sender, target_mac: [0; 6], target: Ipv4Addr::UNSPECIFIED }
    }

    fn known(mac: Mac, until_ms: u64, ask: bool) -> Answer {
        Answer::Known { mac, until_ms, ask }
    }

    #[test]
    fn fixed_entries_cover_prefixes_and_are_never_asked_for() {
        let n = Neighbours::new([(Ipv4Addr::UNSPECIFIED, 0, MAC), (HOST, 32, OTHER)]);
        assert_eq!(n.resolve((0, HOST), 0), known(OTHER, u64::MAX, false));
        assert_eq!(n.resolve((7, Ipv4Addr::new(8, 8, 8, 8)), 0), known(MAC, u64::MAX, false));
        assert!(!n.learn(0, &said(HOST, MAC), 0));
        assert_eq!(n.resolve((0, HOST), 0), known(OTHER, u64::MAX, false));
    }

    #[test]
    fn asked_once_a_second_three_times_then_given_up() {
        let n = Neighbours::default();
        let at = |ms| n.resolve((0, HOST), ms);
        assert_eq!(at(5000), Answer::Wait { ask: true });
        assert_eq!(at(5999), Answer::Wait { ask: false });
        assert_eq!(at(6000), Answer::Wait { ask: true });
        assert_eq!(at(7000), Answer::Wait { ask: true });
        assert_eq!(at(7999), Answer::Wait { ask: false });
        assert_eq!(at(8000), Answer::Silent);
        assert_eq!(at(8999), Answer::Silent);
        assert_eq!(at(9000), Answer::Wait { ask: true }, "who comes later begins anew");
    }

    #[test]
    fn an_answer_is_fresh_then_asked_for_again_while_used_then_forgotten() {
        let n = Neighbours::default();
        let at = |ms| n.resolve((0, HOST), ms);
        at(0);
        assert!(n.learn(0, &said(HOST, MAC), 10));
        assert_eq!(at(59_000), known(MAC, 60_010, false));
        assert_eq!(at(60_010), known(MAC, 61_010, true));
        assert_eq!(at(60_500), known(MAC, 61_010, false));
        assert!(!n.learn(0, &said(HOST, MAC), 60_600), "nobody waited");
        assert_eq!(at(61_010), known(MAC, 120_600, false));
        assert_eq!(at(120_600), known(MAC, 121_600, true));
        assert_eq!(at(121_600), known(MAC, 122_600, true));
        assert_eq!(at(122_600), known(MAC, 123_600, true));
        assert_eq!(at(123_600), Answer::Wait { ask: true }, "nobody confirmed it");
        assert!(n.learn(0, &said(HOST, MAC), 124_000));
        assert_eq!(at(124_000 + STALE_MS), Answer::Wait { ask: true }, "not used for long");
    }

    #[test]
    fn r7_frames_nobody_asked_for_change_entries_but_make_none() {
        let n = Neighbours::default();
        for host in 0..10_000u32 {
            assert!(!n.learn(0, &said(host.into(), MAC), 0));
        }
        assert!(n.is_empty());
        n.resolve((0, HOST), 0);
        assert!(!n.learn(1, &said(HOST, OTHER), 1), "another port's");
        assert!(n.learn(0, &said(HOST, MAC), 1));
        let before = n.generation();
        assert!(!n.learn(0, &said(HOST, MAC), 2));
        assert_eq!(n.generation(), before);
        assert!(!n.learn(0, &said(HOST, OTHER), 3));
        assert_ne!(n.generation(), before);
        assert_eq!(n.resolve((0, HOST), 4), known(OTHER, FRESH_MS + 3, false));
    }

    #[test]
    fn many_neighbours_are_bounded_and_the_oldest_goes_first() {
        let n = Neighbours::default();
        for host in 0..10_000u32 {
            n.resolve((0, host.into()), u64::from(host));
        }
        assert_eq!(n.len(), MOST_ASKED);
        assert!(!n.learn(0, &said(0.into(), MAC), 10_000), "forgotten");
        assert!(n.learn(0, &said(9_999.into(), MAC), 10_000));
        for host in 20_000..40_000u32 {
            n.resolve((0, host.into()), u64::from(host));
            n.learn(0, &said(host.into(), MAC), u64::from(host));
        }
        assert!(n.len() <= MOST_KNOWN + MOST_ASKED);
        assert_eq!(n.resolve((0, 39_999.into()), 40_000), known(MAC, 39_999 + FRESH_MS, false));
        assert_eq!(n.resolve((0, 9_999.into()), 40_000), Answer::Wait { ask: true });
    }
}

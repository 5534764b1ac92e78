//! Which hardware addresses the packets between two hosts carry on a bump in the wire: for packets of our own to a flow
//! none of whose packets is in process. Noted once a flow, in a table of fixed size where the newer takes the place.

/// Places.
const PLACES: usize = 4096;

/// A pair of hosts, the lower address first, and the addresses of a frame from the first to the second.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hosts: (u32, u32),
    macs: [u8; 12],
}

/// The table. Nothing is allocated before the first note.
#[derive(Debug, Default)]
pub struct Stations {
    places: Vec<Place>,
}

fn place(hosts: (u32, u32)) -> usize {
    let mixed = (u64::from(hosts.0) << 32 | u64::from(hosts.1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 52) as usize % PLACES
}

fn turned(mut macs: [u8; 12]) -> [u8; 12] {
    macs.rotate_left(6);
    macs
}

impl Stations {
    /// A frame between `hosts` (the lower address first) carried these addresses; `up`: it came from the lower one.
    pub fn note(&mut self, hosts: (u32, u32), up: bool, macs: [u8; 12]) {
        if self.places.is_empty() {
            if self.places.try_reserve_exact(PLACES).is_err() {
                return;
            }
            self.places.resize(PLACES, Place::default());
        }
        self.places[place(hosts)] = Place { hosts, macs: if up { macs } else { turned(macs) } };
    }

    /// The addresses of a frame between them; `up`: to the higher one.
    pub fn macs(&self, hosts: (u32, u32), up: bool) -> Option<[u8; 12]> {
        let found = self.places.get(place(hosts)).filter(|p| p.hosts == hosts && p.macs != [0; 12])?;
        Some(if up { found.macs } else { turned(found.macs) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: [u8; 12] = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
    const BACK: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];

    #[test]
    fn both_directions_of_a_pair() {
        let mut stations = Stations::default();
        assert_eq!(stations.macs((0, 0), true), None);
        stations.note((1, 9), true, THERE);
        stations.note((3, 4), false, BACK);
        for hosts in [(1, 9), (3, 4)] {
            assert_eq!((stations.macs(hosts, true), stations.macs(hosts, false)), (Some(THERE), Some(BACK)));
        }
        assert_eq!(stations.macs((0, 0), true), None);
    }

    #[test]
    fn many_pairs_take_no_more_room() {
        let mut stations = Stations::default();
        for n in 0..100_000 {
            stations.note((n, n + 1), true, THERE);
        }
        assert_eq!(stations.places.len(), PLACES);
        assert_eq!(stations.macs((99_999, 100_000), true), Some(THERE));
    }
}

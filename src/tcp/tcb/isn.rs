//! Initial sequence numbers (RFC 6528) and where timestamps begin (RFC 7323 5.4).

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// A secret of the process, drawn once by its owner.
#[derive(Clone, Copy, Debug)]
pub struct Secret(pub [u8; 16]);

/// Both ends of a connection as bytes: local address and port, remote address and port, in network order. Any fixed layout
/// will do, of any address family.
pub type Tuple<'a> = &'a [u8];

impl Secret {
    /// F of RFC 6528 3, for the purpose `label`.
    pub(super) fn hash(&self, label: u8, tuple: Tuple<'_>, extra: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u8(label);
        hasher.write(tuple);
        hasher.write_u64(extra);
        hasher.finish()
    }

    /// The initial sequence number of a connection opened at `now` (µs): M + F, where M goes up by one every 4 µs, so that
    /// another connection on the same tuple begins above (RFC 9293 3.4.1).
    pub fn isn(&self, tuple: Tuple<'_>, now: u64) -> u32 {
        ((now / 4) as u32).wrapping_add(self.hash(b'i', tuple, 0) as u32)
    }

    /// What to add to the clock in timestamps: constant for a tuple, so that timestamps go on across its connections
    /// (RFC 6191), and unpredictable otherwise.
    pub fn ts_offset(&self, tuple: Tuple<'_>) -> u32 {
        self.hash(b't', tuple, 0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_up_for_a_tuple_and_scatters_over_tuples() {
        let secret = Secret([7; 16]);
        let (a, b) = (secret.isn(b"tuple a", 0), secret.isn(b"tuple a", 4_000_000));
        assert_eq!(b.wrapping_sub(a), 1_000_000);
        assert_ne!(a, secret.isn(b"tuple b", 0));
        assert_ne!(a, Secret([8; 16]).isn(b"tuple a", 0));
        assert_eq!(secret.ts_offset(b"tuple a"), secret.ts_offset(b"tuple a"));
        assert_ne!(secret.ts_offset(b"tuple a"), secret.ts_offset(b"tuple b"));
    }
}

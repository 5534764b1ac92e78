//! SYN cookies: answering a SYN without keeping anything (RFC 4987 3.6).
//!
//! When too many connections are half open, the listener answers with a SYN/ACK whose sequence number proves, when it
//! comes back, that the peer received it: five bits of time, three of segment size, 24 of a keyed hash. With timestamps,
//! the low six bits of the one we send, which comes back too, keep the window scale and whether SACK is permitted; without
//! them neither is used. Nothing is retransmitted: a peer whose SYN/ACK is lost sends its SYN again.

use super::config::{Config, MILLISECOND, Open, SECOND};
use super::isn::{Secret, Tuple};
use super::segment::flags::{ACK, RST, SYN};
use super::segment::{Offer, OptionBytes, Segment};
use crate::tcp::options::{self, SynOptions};

/// How long one count of the clock in a cookie lasts; the present one and the one before are good.
const PERIOD: u64 = 64 * SECOND;
/// Segment sizes a cookie can remember: the largest that is not above the peer's.
const SIZES: [u16; 8] = [64, 256, 536, 1024, 1220, 1360, 1440, 1460];
/// Bits of the timestamp that carry options.
const STAMP_BITS: u32 = 6;
/// In them: no window scale.
const NO_SCALE: u32 = 15;

/// A SYN/ACK to send in answer to a SYN, from nothing kept.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Sequence number: the cookie.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window.
    pub window: u16,
    /// Options.
    pub options: OptionBytes,
}

/// What a cookie that came back says of the SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The peer's options as far as they were remembered.
    pub options: SynOptions,
}

fn hash(secret: &Secret, tuple: Tuple<'_>, irs: u32, count: u64, size: u32) -> u32 {
    let extra = u64::from(irs) << 32 | (count & 0xff_ffff) << 8 | u64::from(size);
    secret.hash(b'c', tuple, extra) as u32 & 0xff_ffff
}

/// The answer to `syn`, which must be a SYN without ACK or RST. `open.iss` is not used.
pub fn reply(
    config: &Config,
    secret: &Secret,
    tuple: Tuple<'_>,
    now: u64,
    open: &Open,
    syn: &Segment<'_>,
) -> Reply {
    let peer = SynOptions::parse(syn.options);
    let mss = peer.mss.unwrap_or(536);
    let size = SIZES.iter().rposition(|&size| size <= mss).unwrap_or(0) as u32;
    let count = now / PERIOD;
    let seq = (count as u32 & 31) << 27 | size << 24 | hash(secret, tuple, syn.seq, count, size);
    // The options we agree to; without a timestamp to keep them, none.
    let stamps = peer.timestamps.filter(|_| config.timestamps);
    let sack = stamps.is_some() && config.sack && peer.sack_permitted;
    let peer_scale = peer.wscale.filter(|_| stamps.is_some() && config.window_scaling);
    let recv_limit = if open.recv_limit == 0 { config.recv_limit } else { open.recv_limit };
    let recv = super::recv::RecvBuffer::new(recv_limit, recv_limit);
    let value = stamps.map(|(value, _)| {
        let clock = ((now / MILLISECOND) as u32).wrapping_add(open.ts_offset);
        let kept = peer_scale.map_or(NO_SCALE, u32::from) | u32::from(sack) << 4;
        // Not above the clock: what follows must not be older (RFC 7323 5.3).
        let mut stamp = clock >> STAMP_BITS << STAMP_BITS | kept;
        if stamp > clock {
            stamp = stamp.wrapping_sub(1 << STAMP_BITS);
        }
        (stamp, value)
    });
    let offer = Offer {
        mss: open.mss_offered(config),
        wscale: peer_scale.map(|_| recv.shift()),
        sack,
        timestamps: value,
    };
    let initial = if open.recv_limit == 0 { config.recv_initial.min(recv_limit) } else { recv_limit };
    Reply {
        seq,
        ack: syn.seq.wrapping_add(1),
        window: initial.min(65_535) as u16,
        options: OptionBytes::syn(&offer),
    }
}

/// Whether `ack` acknowledges a cookie of ours not older than two minutes, and what it remembers.
pub fn check(
    config: &Config,
    secret: &Secret,
    tuple: Tuple<'_>,
    now: u64,
    ack: &Segment<'_>,
) -> Option<Found> {
    if !ack.has(ACK) || ack.has(SYN | RST) {
        return None;
    }
    let cookie = ack.ack.wrapping_sub(1);
    let irs = ack.seq.wrapping_sub(1);
    let size = cookie >> 24 & 7;
    let present = now / PERIOD;
    let count = [Some(present), present.checked_sub(1)]
        .into_iter()
        .flatten()
        .find(|count| *count as u32 & 31 == cookie >> 27)?;
    if cookie & 0xff_ffff != hash(secret, tuple, irs, count, size) {
        return None;
    }
    let mut found = SynOptions { mss: Some(SIZES[size as usize]), ..SynOptions::default() };
    if config.timestamps
        && let Some((value, echo)) = options::timestamps(ack.options)
    {
        let kept = echo & ((1 << STAMP_BITS) - 1);
        found.timestamps = Some((value, echo));
        found.sack_permitted = kept & 16 != 0;
        found.wscale = Some((kept & 15) as u8).filter(|scale| u32::from(*scale) != NO_SCALE);
    }
    Some(Found { options: found })
}

/// Whether a segment may acknowledge a cookie of ours, by the cookie's age: one that came ahead of the peer's first byte proves no
/// more, since the peer's initial sequence number is not known from it.
pub fn may_follow(now: u64, seg: &Segment<'_>) -> bool {
    let age = (now / PERIOD).wrapping_sub(u64::from(seg.ack.wrapping_sub(1) >> 27)) & 31;
    seg.has(ACK) && !seg.has(SYN | RST) && !seg.payload.is_empty() && age <= 1
}

#[cfg(test)]
mod tests {
    use super::super::{State, Tcb};
    use super::*;
    use std::sync::Arc;

    const SECRET: Secret = Secret([3; 16]);
    const TUPLE: &[u8] = b"10.0.0.1:80 10.0.0.2:40000";

    fn segment<'a>(flags: u8, seq: u32, ack: u32, options: &'a [u8]) -> Segment<'a> {
        Segment { seq, ack, flags, window: 1000, options, payload: &[] }
    }

    /// What comes back for a SYN with `options`, as the acknowledgment's options and what was found.
    fn round_trip(options: &[u8], now: u64, later: u64) -> (Reply, Vec<u8>, Option<Found>) {
        let config = Config::default();
        let mut open = Open::new(0);
        open.ts_offset = 0x1234_5678;
        let reply = reply(&config, &SECRET, TUPLE, now, &open, &segment(SYN, 500, 0, options));
        let offered = SynOptions::parse(reply.options.as_slice());
        let mut back = Vec::new();
        if let Some((value, _)) = offered.timestamps {
            back.extend([1, 1, 8, 10, 0, 0, 0, 99]);
            back.extend(value.to_be_bytes());
        }
        let found =
            check(&config, &SECRET, TUPLE, later, &segment(ACK, 501, reply.seq.wrapping_add(1), &back));
        (reply, back, found)
    }

    #[test]
    fn options_survive_in_the_timestamp() {
        let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 9];
        for now in [0, 77_777_777, 1 << 40] {
            let (reply, _, found) = round_trip(&syn, now, now + SECOND);
            let options = found.unwrap().options;
            assert_eq!((options.mss, options.wscale, options.sack_permitted), (Some(1460), Some(9), true));
            let offered = SynOptions::parse(reply.options.as_slice());
            assert_eq!((offered.mss, offered.wscale, offered.sack_permitted), (Some(1460), Some(7), true));
            let (value, echo) = offered.timestamps.unwrap();
            let clock = ((now / MILLISECOND) as u32).wrapping_add(0x1234_5678);
            assert!(clock.wrapping_sub(value) < 128 && echo == 9);
        }
    }

    #[test]
    fn without_timestamps_only_the_size_is_kept() {
        let (reply, _, found) = round_trip(&[2, 4, 4, 0, 4, 2, 1, 1, 1, 3, 3, 9], 5, 6);
        assert_eq!(found.unwrap().options, SynOptions { mss: Some(1024), ..SynOptions::default() });
        let offered = SynOptions::parse(reply.options.as_slice());
        assert_eq!((offered.wscale, offered.sack_permitted, offered.timestamps), (None, false, None));
        assert_eq!(round_trip(&[], 5, 6).2.unwrap().options.mss, Some(536));
        assert_eq!(round_trip(&[2, 4, 0, 70], 5, 6).2.unwrap().options.mss, Some(64));
    }

    #[test]
    fn stale_or_forged_cookies_are_nothing() {
        let config = Config::default();
        assert!(round_trip(&[], 0, 2 * PERIOD - 1).2.is_some());
        assert!(round_trip(&[], 0, 2 * PERIOD).2.is_none());
        assert!(round_trip(&[], 0, 32 * PERIOD).2.is_none());
        let (reply, ..) = round_trip(&[], 0, 0);
        let good =
            |seq, ack, tuple| check(&config, &SECRET, tuple, 0, &segment(ACK, seq, ack, &[])).is_some();
        let ack = reply.seq.wrapping_add(1);
        assert!(good(501, ack, TUPLE));
        assert!(!good(502, ack, TUPLE) && !good(501, ack, b"10.0.0.1:80 10.0.0.2:40001"));
        let forged = (0..100_000u32).filter(|i| good(501, i.wrapping_mul(0x9e37_79b9), TUPLE)).count();
        assert_eq!(forged, 0);
        assert!(check(&config, &SECRET, TUPLE, 0, &segment(ACK | RST, 501, ack, &[])).is_none());
    }

    /// RFC 9293 3.10.7.2: a SYN/ACK for a listener is reset.
    #[test]
    fn only_data_may_come_ahead_of_the_acknowledgment() {
        let (reply, ..) = round_trip(&[], 5, 6);
        let mut seg = segment(ACK, 900, reply.seq.wrapping_add(1), &[]);
        assert!(!may_follow(6, &seg));
        seg.payload = b"text";
        assert!(may_follow(6, &seg) && !may_follow(6 + 2 * PERIOD, &seg));
        seg.flags = ACK | SYN;
        assert!(!may_follow(6, &seg));
    }

    /// The same segment size as in a SYN/ACK of a connection.
    #[test]
    fn the_size_offered_is_that_of_the_link_or_the_socket() {
        for (mtu, wished, offered) in [(1500, 0, 1460), (300, 0, 260), (1500, 400, 400), (300, 400, 260)] {
            let open = Open { mtu, mss: wished, ..Open::new(0) };
            let syn = segment(SYN, 500, 0, &[]);
            let reply = reply(&Config::default(), &SECRET, TUPLE, 5, &open, &syn);
            assert_eq!(SynOptions::parse(reply.options.as_slice()).mss, Some(offered));
        }
    }

    #[test]
    fn a_connection_goes_on_from_a_cookie() {
        let syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 2];
        let (reply, back, found) = round_trip(&syn, 1_000_000, 1_050_000);
        let mut open = Open::new(0);
        open.ts_offset = 0x1234_5678;
        let ack = segment(ACK, 501, reply.seq.wrapping_add(1), &back);
        let mut tcb = Tcb::from_cookie(Arc::new(Config::default()), 1_050_000, &open, &ack, &found.unwrap());
        tcb.on_segment(1_050_000, &ack);
        tcb.check();
        assert_eq!(tcb.state(), State::Established);
        assert_eq!(tcb.poll_transmit(1_050_000, 9, |_| true), 0);
        assert_eq!(tcb.write(&[7; 3000]), Ok(3000));
        let mut sent = Vec::new();
        tcb.poll_transmit(1_050_000, 9, |t| {
            sent.push((t.seq.wrapping_sub(reply.seq), t.ack, t.payload.len(), t.options.len()));
            true
        });
        // The window was scaled: 1000 << 2.
        assert_eq!(sent, [(1, 501, 1448, 12), (1449, 501, 1448, 12), (2897, 501, 104, 12)]);
    }
}

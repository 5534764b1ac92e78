//! The observed endpoint: what the monitor knows of one host of a flow.
//!
//! A side labelled X is the emulated stack of host X. Its *send* variables follow the packets X emits, in the
//! numbers X used; its *receive* variables follow what arrives at X, in the numbers X sees. The two spaces
//! of one stream differ only when a callback rewrote sequence numbers on the way.

use super::state::State;

/// "No cold part": the side holds no bytes, no out-of-order ranges and no stamps.
pub const NO_COLD: u32 = u32::MAX;

/// One observed endpoint (44 bytes; two of them share the flow's record).
#[derive(Clone, Debug)]
pub struct Side {
    /// Initial send sequence number, when [`Side::ISS`] is set.
    pub iss: u32,
    /// One past the highest sequence number this host was seen to send (SYN and FIN count).
    pub snd_max: u32,
    /// Highest acknowledgement delivered to this host.
    pub una: u32,
    /// Largest window, already scaled, delivered to this host: what the peer has room for.
    pub wnd: u32,
    /// Initial receive sequence number, when [`Side::IRS`] is set.
    pub irs: u32,
    /// Next sequence number expected in order.
    pub rcv_nxt: u32,
    /// Highest acknowledgement this host was seen to send, when [`Side::ACKED`] is set.
    pub last_ack: u32,
    /// TS.Recent of RFC 7323 4.3, when [`Side::TS`] is set.
    pub ts_recent: u32,
    /// Index of the cold part, or [`NO_COLD`].
    pub cold: u32,
    /// How often `rcv_nxt` has passed `irs + 1 + 2^32`.
    pub rcv_wraps: u16,
    /// The flags below.
    pub flags: u16,
    /// Connection state.
    pub state: State,
    /// Window scale offered on the SYN (RFC 7323 2), valid with [`Side::WSCALE`].
    pub wscale: u8,
    /// Device the last packet of this host came in by.
    pub dev: u8,
    /// More flags: [`Side::FIN_TAKEN`], [`Side::SKIP_DUE`].
    pub more: u8,
}

impl Default for Side {
    fn default() -> Self {
        Side {
            iss: 0,
            snd_max: 0,
            una: 0,
            wnd: 0,
            irs: 0,
            // `irs` + 1: the tail is at offset 0 also before the peer's SYN is seen.
            rcv_nxt: 1,
            last_ack: 0,
            ts_recent: 0,
            cold: NO_COLD,
            rcv_wraps: 0,
            flags: 0,
            state: State::Closed,
            wscale: 0,
            dev: 0,
            more: 0,
        }
    }
}

impl Side {
    /// `iss` is known.
    pub const ISS: u16 = 1;
    /// `irs` is known.
    pub const IRS: u16 = 1 << 1;
    /// `last_ack` is known.
    pub const ACKED: u16 = 1 << 2;
    /// `ts_recent` is known.
    pub const TS: u16 = 1 << 3;
    /// This host offered a window scale.
    pub const WSCALE: u16 = 1 << 4;
    /// This host's own SYN was seen, so that its window scale (or its absence) is known.
    pub const SYN_SEEN: u16 = 1 << 5;
    /// This host has sent a FIN; its sequence number is `snd_max - 1`.
    pub const FIN_SENT: u16 = 1 << 6;
    /// The peer's remembered FIN was reached by a skip: it takes effect with this host's next packet (D5c).
    pub const FIN_DUE: u16 = 1 << 7;
    /// Reassembly of what this host receives is switched off.
    pub const NO_BUFFER: u16 = 1 << 8;
    /// No attached socket follows this side: it is frozen.
    pub const UNTRACKED: u16 = 1 << 9;
    /// A NEW_DATA of this side waits for the end of the loop iteration.
    pub const NEW_DATA: u16 = 1 << 10;
    /// This side has been put on the list of sides to look at when the iteration ends.
    pub const QUEUED: u16 = 1 << 11;
    /// This host has sent something since the first hole in what it receives opened.
    pub const HEARD: u16 = 1 << 12;
    /// The side exists (the server's does only after the first SYN's SND callbacks).
    pub const ATTACHED: u16 = 1 << 13;
    /// A window of this host's peer is known together with its scale: `wnd` is valid.
    pub const WND: u16 = 1 << 14;
    /// Payload of the peer's SYN is kept aside until this host acknowledges it (D5b).
    pub const SYN_DATA: u16 = 1 << 15;

    /// In `more`: the peer's FIN has been taken; the in-order tail counts it.
    pub const FIN_TAKEN: u8 = 1;
    /// In `more`: this host acknowledged beyond the in-order tail in this iteration (D5).
    pub const SKIP_DUE: u8 = 1 << 1;
    /// In `more`: this side has begun (MOS_ON_CONN_START); it does not a second time (D2).
    pub const BEGAN: u8 = 1 << 2;

    /// Whether all bits of `flag` are set.
    #[inline]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// Sets the bits of `flag`.
    #[inline]
    pub fn set(&mut self, flag: u16) {
        // Flags are mostly set already. And where they are not, an unconditional change would be made in one of the two bytes
        // alone, and the next look at both wait for all memory writes before it: a quarter of a packet's time.
        if self.flags & flag != flag {
            self.flags |= flag;
        }
    }

    /// Clears the bits of `flag`.
    #[inline]
    pub fn clear(&mut self, flag: u16) {
        // As in `set`.
        if self.flags & flag != 0 {
            self.flags &= !flag;
        }
    }

    /// Whether the end of the iteration, or of the flow, has something to do here: NEW_DATA, or a hole to give up.
    #[inline]
    pub fn is_owed(&self) -> bool {
        self.has(Side::NEW_DATA) || self.more & Side::SKIP_DUE != 0
    }

    /// Notes the device this host's packet came in by.
    #[inline]
    pub fn come_by(&mut self, dev: u8) {
        // As in `set`: its neighbours are read together with it.
        if self.dev != dev {
            self.dev = dev;
        }
    }

    /// Offset of the in-order tail in the stream this side receives; 0 is the byte after the SYN.
    /// A FIN that was taken counts one.
    #[inline]
    pub fn tail(&self) -> u64 {
        ((self.rcv_wraps as u64) << 32) | self.rcv_nxt.wrapping_sub(self.irs).wrapping_sub(1) as u64
    }

    /// The in-order tail without the peer's FIN: the end of its data so far.
    #[inline]
    pub fn data_tail(&self) -> u64 {
        let tail = self.tail();
        tail - (self.more & Side::FIN_TAKEN) as u64
    }

    /// Moves the in-order tail.
    #[inline]
    pub fn set_tail(&mut self, tail: u64) {
        self.rcv_wraps = (tail >> 32) as u16;
        self.rcv_nxt = self.irs.wrapping_add(1).wrapping_add(tail as u32);
    }

    /// Takes the peer's FIN, which the in-order tail has reached: the state follows.
    pub fn take_fin(&mut self) {
        self.set_tail(self.tail() + 1);
        self.more |= Side::FIN_TAKEN;
        self.state = self.state.after_fin();
    }

    /// Learns the peer's initial sequence number as this host sees it.
    pub fn set_irs(&mut self, isn: u32) {
        self.irs = isn;
        self.rcv_nxt = isn.wrapping_add(1);
        self.rcv_wraps = 0;
        // The stream begins anew: no FIN of it has been taken.
        self.more &= !Side::FIN_TAKEN;
        self.set(Side::IRS);
    }

    /// Stream offset of a sequence number that arrives here: the one nearest to the in-order tail,
    /// negative when it lies before the first byte.
    #[inline]
    pub fn offset_of(&self, seq: u32) -> i64 {
        self.tail() as i64 + seq.wrapping_sub(self.rcv_nxt) as i32 as i64
    }

    /// Whether this host acknowledged bytes beyond its in-order tail: bytes it received and the tap did not.
    #[inline]
    pub fn acked_ahead(&self) -> bool {
        self.has(Side::ACKED | Side::IRS)
            && (self.last_ack.wrapping_sub(self.rcv_nxt) as i32) > 0
            && self.state.receives()
    }

    /// Offset of the highest acknowledgement this host sent, when it sent one.
    #[inline]
    pub fn acked_offset(&self) -> Option<i64> {
        self.has(Side::ACKED | Side::IRS).then(|| self.offset_of(self.last_ack))
    }
}

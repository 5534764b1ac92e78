//! Events, hooks and sides by their numbers in the C ABI (monitor.md §8.3), and the interest bits of a flow.

/// Identity of an event: a built-in bit, or 4096 and up for user-defined ones (K7).
pub type EventId = u64;

/// A packet of the flow.
pub const ON_PKT_IN: u16 = 1;
/// First SYN.
pub const ON_CONN_START: u16 = 1 << 2;
/// In-order data became available.
pub const ON_NEW_DATA: u16 = 1 << 4;
/// Data was refused or will be lost.
pub const ON_ERROR: u16 = 1 << 5;
/// A side's TCP state changed.
pub const ON_STATE_CHANGE: u16 = 1 << 7;
/// A packet without a flow.
pub const ON_ORPHAN: u16 = 1 << 8;
/// Retransmitted payload, SYN or FIN.
pub const ON_REXMIT: u16 = 1 << 9;
/// The flow ends.
pub const ON_CONN_END: u16 = 1 << 10;
/// Number of built-in events.
pub const BUILTINS: usize = 12;
/// First id of a user-defined event.
pub const FIRST_USER_EVENT: EventId = 1 << 12;

/// Where in a packet's way a callback runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Outside the two stacks (MOS_NULL).
    Null = 0,
    /// After the sender's stack moved (MOS_HK_SND).
    Snd = 1,
    /// After the receiver's stack moved (MOS_HK_RCV).
    Rcv = 2,
}

/// MOS_SIDE_BOTH; the sides themselves are `flow::record::{CLI, SVR}`.
pub const BOTH: usize = 2;

impl Hook {
    /// The hook with the C ABI's number.
    pub fn from_abi(number: i32) -> Option<Hook> {
        match number as u32 {
            0x2000_0000 => Some(Hook::Null),
            0x4000_0000 => Some(Hook::Rcv),
            0x8000_0000 => Some(Hook::Snd),
            _ => None,
        }
    }

    /// Whether the built-in event (one bit) may be registered here (monitor.md §1.3, table).
    pub fn accepts(self, builtin: EventId) -> bool {
        let (flow_only, null_only) = (
            (ON_CONN_START | ON_REXMIT | ON_STATE_CHANGE | ON_CONN_END) as u64,
            (ON_NEW_DATA | ON_ORPHAN | ON_ERROR) as u64,
        );
        match self {
            Hook::Null => builtin & flow_only == 0,
            _ => builtin & null_only == 0,
        }
    }
}

/// The bits a flow's interest has for events that are raised on SND.
#[inline]
pub fn on_snd(events: u16) -> u16 {
    (events & 1) | ((events >> 1) & 2) | ((events >> 5) & 4) | ((events >> 7) & 8)
}

/// The bits a flow's interest has for events that are raised on RCV.
#[inline]
pub fn on_rcv(events: u16) -> u16 {
    (on_snd(events) | ((events >> 5) & 16)) << 4
}

/// The bits a flow's interest has for events that are raised on NULL.
#[inline]
pub fn on_null(events: u16) -> u16 {
    ((events >> 4) & 3) << 9
}

/// The interest bits of one hook and event set.
#[inline]
pub fn interest(hook: Hook, events: u16) -> u16 {
    match hook {
        Hook::Snd => on_snd(events),
        Hook::Rcv => on_rcv(events),
        Hook::Null => on_null(events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_bits_of_raised_events_are_distinct() {
        let all = [
            on_snd(ON_PKT_IN),
            on_snd(ON_CONN_START),
            on_snd(ON_STATE_CHANGE),
            on_snd(ON_CONN_END),
            on_rcv(ON_PKT_IN),
            on_rcv(ON_CONN_START),
            on_rcv(ON_STATE_CHANGE),
            on_rcv(ON_REXMIT),
            on_rcv(ON_CONN_END),
            on_null(ON_NEW_DATA),
            on_null(ON_ERROR),
        ];
        let mut seen = 0u16;
        for bit in all {
            assert_eq!(bit.count_ones(), 1);
            assert_eq!(seen & bit, 0);
            seen |= bit;
        }
        assert_eq!(on_snd(ON_REXMIT) | on_snd(ON_NEW_DATA) | on_null(ON_PKT_IN), 0);
    }
}

//! What an application can learn of its connection: readiness, what happened, and why it ended.

use std::ops::{BitOr, BitOrAssign};

macro_rules! bits {
    ($(#[$doc:meta])* $name:ident { $($(#[$bit_doc:meta])* $bit:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$bit_doc])* pub const $bit: $name = $name($value);)*

            /// Whether any bit of `other` is set.
            #[inline]
            pub fn has(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }

            /// Whether no bit is set.
            #[inline]
            pub fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
        }

        impl BitOrAssign for $name {
            fn bitor_assign(&mut self, other: $name) {
                self.0 |= other.0;
            }
        }
    };
}

bits! {
    /// What a connection is ready for now: a level.
    Readiness {
        /// A read returns at once: bytes, the end of the stream, or the error.
        READABLE = 1,
        /// A write takes a good part of the buffer, or returns the error.
        WRITABLE = 2,
        /// The peer has closed its direction and the FIN was taken in order.
        READ_CLOSED = 4,
        /// Both directions are over.
        HUNG_UP = 8,
        /// The connection ended with an error; see [`super::Tcb::cause`].
        ERROR = 16,
    }
}

bits! {
    /// What happened since it was last asked: edges.
    Events {
        /// The handshake completed.
        CONNECTED = 1,
        /// New bytes in order.
        DATA = 2,
        /// The peer's FIN, in order; or nothing more can be read.
        FIN = 4,
        /// A send buffer that was full, or nearly, has room again; or nothing more can be written.
        SPACE = 8,
        /// The connection ended with an error.
        ERROR = 16,
        /// The state is CLOSED: unless there are bytes to read, the connection can be dropped.
        CLOSED = 32,
    }
}

/// Why a connection ended other than by both ends closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer refused it: a RST in answer to our SYN (ECONNREFUSED).
    Refused,
    /// The peer reset it (ECONNRESET).
    Reset,
    /// Nothing came back: retransmissions, probes or the idle time are exhausted (ETIMEDOUT).
    TimedOut,
    /// A router or the host said that it cannot be reached (EHOSTUNREACH).
    HostUnreachable,
    /// A router said that its network cannot be reached (ENETUNREACH).
    NetUnreachable,
    /// Aborted at this end (ECONNABORTED).
    Aborted,
}

/// Why a read or a write did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not now: nothing to read, no room, or not connected yet (EAGAIN).
    WouldBlock,
    /// This end has said that it writes no more (EPIPE).
    Closed,
    /// The connection has ended (or never was) without an error left to report (ENOTCONN).
    NotConnected,
    /// The connection has ended with an error.
    Failed(Cause),
    /// There is no memory for what was written (ENOMEM).
    OutOfMemory,
}

/// An ICMP error about a segment of this connection (RFC 5927, RFC 1122 4.2.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// The port or the protocol is not there, or the way is forbidden: hard.
    PortUnreachable,
    /// The host cannot be reached, or time exceeded: soft.
    HostUnreachable,
    /// The network cannot be reached: soft.
    NetUnreachable,
    /// The packet did not fit and may not be fragmented; the next hop takes so many bytes (0: it does not say).
    TooBig(u16),
}

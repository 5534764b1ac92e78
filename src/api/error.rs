//! What can go wrong, and what to do about it.

use super::event::{Event, Hook, Side};
use std::path::PathBuf;

/// Why a call of this API failed. Its text says what was expected.
///
/// ```
/// let error = mos::Monitor::open("/no/such/trace.pcap").unwrap_err();
/// assert!(matches!(error, mos::Error::Open { .. }));
/// eprintln!("{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The builder was given nothing to read.
    NoSource,
    /// A capture cannot be read.
    Open {
        /// What is wrong with which file.
        reason: String,
    },
    /// The file for forwarded packets cannot be written.
    Output {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A configuration file, or a variable of the environment, was not understood.
    Config {
        /// File, line and what was expected.
        reason: String,
    },
    /// An option of the builder is out of its range.
    Option {
        /// The builder's method.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A filter text was refused.
    Filter {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The event is never raised on that hook, or not for that kind of socket.
    Hook {
        /// The event.
        event: Event,
        /// The hook asked for.
        hook: Hook,
        /// Where the event is raised.
        expected: &'static str,
    },
    /// The event was defined by another monitor.
    ForeignEvent,
    /// The event and hook have a callback already.
    AlreadyRegistered {
        /// The event.
        event: Event,
        /// The hook.
        hook: Hook,
    },
    /// The event is not an allocated child of the event whose callback or predicate runs, or nobody listens to it.
    NotRaised,
    /// The call is about a flow, and the callback's packet has none.
    NoFlow,
    /// The call is about the packet in process, and there is none.
    NoPacket,
    /// The stream of that side is not kept.
    NoBuffer {
        /// The side.
        side: Side,
    },
    /// The packet cannot be edited like that.
    Edit {
        /// What was expected.
        expected: &'static str,
    },
    /// No more sockets: `max_concurrency` of them are in use.
    TooMany,
    /// The system gave no more memory.
    OutOfMemory,
    /// The run ended early, because round after round failed inside the library.
    GaveUp,
}

impl std::error::Error for Error {}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NoSource => {
                f.write_str("no packets to read: give the builder a capture (Builder::capture) or packets (Builder::packets)")
            }
            Error::Open { reason } | Error::Config { reason } => f.write_str(reason),
            Error::Output { path, reason } => write!(f, "{}: {reason}", path.display()),
            Error::Option { name, expected } => write!(f, "Builder::{name}: expected {expected}"),
            Error::Filter { text, reason } => write!(f, "filter '{text}': {reason}"),
            Error::Hook { event, hook, expected } => {
                write!(f, "{event:?} is not raised on Hook::{hook:?} here: expected {expected}")
            }
            Error::ForeignEvent => {
                f.write_str("the event was defined by another monitor: define it with this one (Monitor::define_event)")
            }
            Error::AlreadyRegistered { event, hook } => {
                write!(f, "{event:?} has a callback on Hook::{hook:?} already: unregister that one first, or do both in one callback")
            }
            Error::NotRaised => f.write_str(
                "nothing was raised: expected an allocated event whose parent's callback or predicate is running, with a callback registered",
            ),
            Error::NoFlow => f.write_str("this packet belongs to no flow: expected a callback of a flow's event"),
            Error::NoPacket => {
                f.write_str("no packet is in process: expected a callback of PktIn, ConnStart, StateChange, Rexmit or Orphan")
            }
            Error::NoBuffer { side } => {
                write!(f, "the stream that the {side:?} side receives is not kept: expected a buffer (Stream::buffer, Ctx::set_buffer)")
            }
            Error::Edit { expected } => write!(f, "the packet cannot be edited like that: expected {expected}"),
            Error::TooMany => f.write_str("no socket is free: raise Builder::max_concurrency"),
            Error::OutOfMemory => f.write_str("out of memory"),
            Error::GaveUp => f.write_str("the run was given up after too many faults inside the library; please report it"),
        }
    }
}

//! Events, sides, and which hook an event is raised on.

use super::Error;
use crate::monitor::event::*;
use crate::monitor::forest::Forest;
use std::net::SocketAddr;

pub use crate::monitor::event::Hook;

/// What a callback is called for.
///
/// | event | hooks | packet? |
/// |---|---|---|
/// | [`PktIn`](Event::PktIn), [`ConnStart`](Event::ConnStart), [`StateChange`](Event::StateChange) | `Snd`, `Rcv` | yes |
/// | [`Rexmit`](Event::Rexmit) | `Rcv` | yes |
/// | [`ConnEnd`](Event::ConnEnd) | `Snd`, `Rcv` | no |
/// | [`NewData`](Event::NewData), [`Error`](Event::Error) | `Null` | no (`Error`: when it is about one) |
/// | [`Orphan`](Event::Orphan), and `PktIn` of a [`Raw`](super::Raw) socket | `Null` | yes |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A packet of the flow; on a [`Raw`](super::Raw) socket: any IPv4 packet.
    PktIn,
    /// The first SYN of a flow.
    ConnStart,
    /// In-order bytes can be read (and have not been announced before).
    NewData,
    /// Bytes were refused, or will be lost unread: a hole was given up, the buffer is full.
    Error,
    /// The side's TCP state changed.
    StateChange,
    /// A TCP packet that belongs to no flow and opens none.
    Orphan,
    /// Bytes the receiver had accepted before, or a SYN or FIN, came again.
    Rexmit,
    /// The flow ends; its streams and states can still be read.
    ConnEnd,
    /// A user event, made by [`Monitor::define_event`](super::Monitor::define_event) or
    /// [`Monitor::alloc_event`](super::Monitor::alloc_event).
    User(UserEvent),
}

/// A user event of one monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserEvent {
    monitor: u64,
    id: EventId,
}

/// One end of a flow: the one that opened it, or the other.
///
/// A stream is named by the side that *receives* it: what a client requests is read at `Side::Server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that sent the first SYN.
    Client,
    /// The end that answered.
    Server,
}

impl Side {
    /// The other side.
    pub fn peer(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Side::Client => crate::flow::record::CLI,
            Side::Server => crate::flow::record::SVR,
        }
    }

    /// Of a packet without a flow, the source stands for the client.
    pub(super) fn from_index(index: usize) -> Side {
        if index == crate::flow::record::SVR { Side::Server } else { Side::Client }
    }
}

/// The two ends of a flow, as its first SYN had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Who opened the flow.
    pub client: SocketAddr,
    /// Whom it was opened to.
    pub server: SocketAddr,
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} -> {}", self.client, self.server)
    }
}

/// Built-in events and their bits.
const BUILT_IN: [(Event, u16); 8] = [
    (Event::PktIn, ON_PKT_IN),
    (Event::ConnStart, ON_CONN_START),
    (Event::NewData, ON_NEW_DATA),
    (Event::Error, ON_ERROR),
    (Event::StateChange, ON_STATE_CHANGE),
    (Event::Orphan, ON_ORPHAN),
    (Event::Rexmit, ON_REXMIT),
    (Event::ConnEnd, ON_CONN_END),
];

/// What a callback is registered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stream,
    Raw,
    Flow,
}

impl Event {
    /// The number an event has in its monitor.
    pub(super) fn id(self, monitor: u64) -> Result<EventId, Error> {
        match self {
            Event::User(user) if user.monitor == monitor => Ok(user.id),
            Event::User(_) => Err(Error::ForeignEvent),
            built_in => {
                Ok(BUILT_IN.iter().find(|(e, _)| *e == built_in).map_or(0, |(_, bit)| *bit as EventId))
            }
        }
    }

    pub(super) fn from_id(id: EventId, monitor: u64) -> Event {
        let built_in = BUILT_IN.iter().find(|(_, bit)| *bit as EventId == id);
        built_in.map_or(Event::User(UserEvent { monitor, id }), |(event, _)| *event)
    }

    /// The number of the event's bit among the built-in ones; `None` for user events.
    pub(super) fn bit(self) -> Option<u32> {
        BUILT_IN.iter().find(|(e, _)| *e == self).map(|(_, bit)| bit.trailing_zeros())
    }

    /// Checks that the event is raised on `hook` for what a callback is registered on.
    pub(super) fn checked(
        self,
        monitor: u64,
        forest: &Forest,
        hook: Hook,
        place: Place,
    ) -> Result<EventId, Error> {
        let id = self.id(monitor)?;
        let root = forest.builtin_of(id).map_or(0, |bit| bit as u16);
        let (good, expected) = match (place, root) {
            (Place::Raw, ON_PKT_IN) => {
                (hook == Hook::Null, "Hook::Null: a raw socket sees packets outside flows")
            }
            (Place::Raw, _) => {
                (false, "Event::PktIn (or a user event below it) on Hook::Null: a raw socket has no other")
            }
            (Place::Flow, ON_ORPHAN) => {
                (false, "the Stream: a packet without a flow is reported to listeners (Stream::on)")
            }
            (_, ON_ORPHAN | ON_NEW_DATA | ON_ERROR) => (hook == Hook::Null, "Hook::Null"),
            (_, ON_REXMIT) => (hook == Hook::Rcv, "Hook::Rcv"),
            _ => (hook != Hook::Null, "Hook::Snd or Hook::Rcv"),
        };
        if good { Ok(id) } else { Err(Error::Hook { event: self, hook, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_their_numbers() {
        for (event, bit) in BUILT_IN {
            assert_eq!(event.id(7), Ok(bit as EventId));
            assert_eq!(Event::from_id(bit as EventId, 7), event);
        }
        let user = Event::from_id(4096, 7);
        assert_eq!((user.id(7), user.id(8)), (Ok(4096), Err(Error::ForeignEvent)));
        assert_eq!(user.bit(), None);
    }

    #[test]
    fn hooks() {
        let forest = Forest::default();
        let good = |event: Event, place| {
            [Hook::Null, Hook::Snd, Hook::Rcv].map(|hook| event.checked(1, &forest, hook, place).is_ok())
        };
        let (null, both, rcv, none) =
            ([true, false, false], [false, true, true], [false, false, true], [false; 3]);
        let on_stream = [both, both, null, null, both, null, rcv, both];
        let on_flow = [both, both, null, null, both, none, rcv, both];
        let on_raw = [null, none, none, none, none, none, none, none];
        for (n, (event, _)) in BUILT_IN.into_iter().enumerate() {
            assert_eq!(good(event, Place::Stream), on_stream[n], "{event:?}");
            assert_eq!(good(event, Place::Flow), on_flow[n], "{event:?}");
            assert_eq!(good(event, Place::Raw), on_raw[n], "{event:?}");
        }
    }
}

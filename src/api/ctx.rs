//! What a callback is given.

use super::event::{Event, Flow, Hook, Place, Side};
use super::timer::TimerCtx;
use super::{Error, TcpState};
use crate::flow::token::Token;
use crate::monitor::event::BOTH;
use crate::monitor::hookset::Callback;
use crate::monitor::native::{Call, NativeCallback, NativeFilter};
use crate::monitor::{Errno, Monitor};
use crate::tcp::reassembly::Overlap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a callback or predicate is given: its event, the flow, the packet in process, the streams.
///
/// ```
/// # use mos::{Event, Hook, Monitor};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// let stream = monitor.stream()?;
/// stream.on(Event::StateChange, Hook::Rcv, |ev| {
///     let side = ev.side();
///     println!("{:?} {}: the {side:?} is {:?}", ev.now(), ev.flow(), ev.state(side));
/// })?;
/// monitor.run()?;
/// # Ok::<(), mos::Error>(())
/// ```
///
/// A callback of a packet without a flow (`Orphan`, or any packet of a [`Raw`](super::Raw) socket) gets a `Ctx` too:
/// [`flow`](Ctx::flow) then has the packet's source as the client, and what is about streams, states and data finds
/// nothing or fails with [`Error::NoFlow`].
///
/// A callback that panics is contained: the panic is counted ([`Counters::panics`](super::Counters::panics)), the
/// flow ends without `ConnEnd`, and the run goes on.
pub struct Ctx<'a> {
    pub(super) monitor: &'a Monitor,
    pub(super) token: &'a mut Token,
    pub(super) call: Call,
    /// The monitor's number, which its user events carry.
    number: u64,
}

impl std::fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ctx({:?} on {:?}, {}, {:?})", self.event(), self.hook(), self.flow(), self.side())
    }
}

/// Whether the socket a callback is about is still there: a fault in an earlier callback of the same dispatch ends it.
fn alive(monitor: &Monitor, token: &Token, call: Call) -> bool {
    call.side == BOTH || monitor.view(token).sockets.get(call.sock).is_some()
}

/// An application's closure as the monitor's.
pub(super) fn callback(number: u64, mut f: impl FnMut(&mut Ctx<'_>) + Send + 'static) -> NativeCallback {
    Box::new(move |monitor, token, call| {
        if alive(monitor, token, call) {
            f(&mut Ctx { monitor, token, call, number });
        }
    })
}

/// An application's predicate as the monitor's.
pub(super) fn predicate(
    number: u64,
    mut f: impl FnMut(&mut Ctx<'_>) -> bool + Send + 'static,
) -> NativeFilter {
    Box::new(move |monitor, token, call| {
        alive(monitor, token, call) && f(&mut Ctx { monitor, token, call, number })
    })
}

impl Ctx<'_> {
    /// The event the callback was registered for, or the predicate decides on.
    pub fn event(&self) -> Event {
        Event::from_id(self.call.event, self.number)
    }

    /// The hook.
    pub fn hook(&self) -> Hook {
        self.call.hook
    }

    /// Whose stack the event is about: on `Snd` the sender's, on `Rcv` the receiver's; the receiver's for `NewData` and
    /// `Error`. `Client` when there is no flow.
    pub fn side(&self) -> Side {
        Side::from_index(self.call.side)
    }

    /// Whether the callback is about a packet without a flow.
    pub(super) fn no_flow(&self) -> bool {
        self.call.side == BOTH
    }

    pub(super) fn flow_socket(&self) -> Result<u32, Error> {
        if self.no_flow() { Err(Error::NoFlow) } else { Ok(self.call.sock) }
    }

    /// The flow's ends, as its first SYN had them. Of a packet without a flow: source and destination.
    pub fn flow(&self) -> Flow {
        let ends = self.flow_socket().ok().and_then(|sock| self.monitor.peers(self.token, sock));
        if let Some([client, server]) = ends {
            return Flow { client, server };
        }
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.packet().map_or(Flow { client: nobody, server: nobody }, |p| Flow {
            client: p.source(),
            server: p.destination(),
        })
    }

    /// The TCP state of a side; `None`: that side is not there (yet).
    pub fn state(&self, side: Side) -> Option<TcpState> {
        self.monitor.tcp_state(self.token, self.flow_socket().ok()?, side.index())
    }

    /// The time, since 1970: of the capture, in whole milliseconds, and the same for all callbacks of one loop
    /// iteration. A packet's own stamp is [`PacketView::time`](super::PacketView::time).
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.monitor.view(self.token).now_ns)
    }

    /// Calls `f` once, `after` from now.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// # use std::time::Duration;
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::ConnStart, Hook::Snd, |ev| {
    ///     let flow = ev.flow();
    ///     ev.timer(Duration::from_millis(200), move |t| println!("{flow} began 200 ms before {:?}", t.now()))
    ///         .expect("memory for a timer");
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn timer(
        &mut self,
        after: Duration,
        f: impl FnMut(&mut TimerCtx<'_>) + Send + 'static,
    ) -> Result<(), Error> {
        super::timer::set(self.monitor, self.token, after, f)
    }

    /// Raises an allocated event below the one whose callback or predicate is running: its callbacks come when the
    /// caller has returned.
    ///
    /// # Errors
    /// [`Error::NotRaised`]; [`Error::ForeignEvent`]; [`Error::OutOfMemory`].
    pub fn raise(&mut self, event: Event) -> Result<(), Error> {
        let id = event.id(self.number)?;
        self.monitor.raise_event(self.token, id).map_err(|e| match e {
            Errno::UNTOUCHED => Error::NotRaised,
            _ => Error::OutOfMemory,
        })
    }

    /// Stops monitoring the flow for this listener: after the dispatch in progress there are no more callbacks, and when
    /// nobody else listens, the flow is forgotten.
    pub fn stop(&mut self) {
        self.stop_mask(3);
    }

    /// Stops callbacks about one side for this listener; when nobody else listens to that side, its stack is no longer
    /// kept.
    pub fn stop_side(&mut self, side: Side) {
        self.stop_mask(1 << side.index());
    }

    fn stop_mask(&mut self, mask: u8) {
        if let Ok(sock) = self.flow_socket() {
            // The socket is there: the callback is about it.
            let _ = self.monitor.stop(self.token, sock, mask);
        }
    }

    /// Sends a RST to both ends, with the sequence number each expects.
    ///
    /// # Errors
    /// [`Error::NoFlow`].
    pub fn reset(&mut self) -> Result<(), Error> {
        let sock = self.flow_socket()?;
        self.monitor.reset(self.token, sock).map_err(|_| Error::NoFlow)
    }

    /// Registers a callback for this flow alone, from the next dispatch on. It is dropped with the flow.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::Rexmit, Hook::Rcv, |ev| {
    ///     // From now on, look closely at this flow. (At its second retransmission it has that callback already.)
    ///     let _ = ev.register(Event::PktIn, Hook::Rcv, |ev| println!("{:?}", ev.packet()));
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoFlow`]; [`Error::Hook`]; [`Error::AlreadyRegistered`]; [`Error::ForeignEvent`]; [`Error::OutOfMemory`].
    pub fn register(
        &mut self,
        event: Event,
        hook: Hook,
        f: impl FnMut(&mut Ctx<'_>) + Send + 'static,
    ) -> Result<(), Error> {
        let sock = self.flow_socket()?;
        let id = event.checked(self.number, &self.monitor.forest().read(), hook, Place::Flow)?;
        if self.registered(sock, hook, id).is_some() {
            return Err(Error::AlreadyRegistered { event, hook });
        }
        let natives = &mut self.monitor.state(self.token).natives;
        let added = natives.add_callback(hook, callback(self.number, f)).ok_or(Error::OutOfMemory)?;
        if !natives.own(sock, added) {
            let removed = natives.remove_callback(added);
            drop(removed);
            return Err(Error::OutOfMemory);
        }
        let callback = Some(Callback::Native(added));
        self.monitor.register_on_flow(self.token, sock, hook, id, callback).map_err(|_| {
            self.monitor.state(self.token).natives.disown(sock, added);
            Error::OutOfMemory
        })
    }

    /// Takes a callback away for this flow alone, from the next dispatch on: one of the listener's, or one that
    /// [`register`](Ctx::register) gave it. `false`: there was none.
    ///
    /// # Errors
    /// As [`Ctx::register`].
    pub fn unregister(&mut self, event: Event, hook: Hook) -> Result<bool, Error> {
        let sock = self.flow_socket()?;
        let id = event.checked(self.number, &self.monitor.forest().read(), hook, Place::Flow)?;
        let Some(Callback::Native(number)) = self.registered(sock, hook, id) else { return Ok(false) };
        let done = self.monitor.register_on_flow(self.token, sock, hook, id, None);
        done.map_err(|_| Error::OutOfMemory)?;
        self.monitor.state(self.token).natives.disown(sock, number);
        Ok(true)
    }

    fn registered(&self, sock: u32, hook: Hook, id: u64) -> Option<Callback> {
        let state = self.monitor.view(self.token);
        state.sets.get(state.sockets.get(sock)?.set())?.registered(hook, id)
    }

    /// Changes how many bytes are kept of the stream that `side` receives; 0: the stream is not kept any more, for no
    /// listener.
    ///
    /// # Errors
    /// [`Error::NoFlow`]; [`Error::OutOfMemory`].
    pub fn set_buffer(&mut self, side: Side, bytes: usize) -> Result<(), Error> {
        let sock = self.flow_socket()?;
        self.monitor.set_buffer(self.token, sock, side.index(), bytes).map_err(|_| Error::OutOfMemory)
    }

    /// Which bytes win where segments overlap in the stream that `side` receives; by default the first ones.
    ///
    /// # Errors
    /// [`Error::NoFlow`]; [`Error::NoBuffer`]: no payload came on that side yet.
    pub fn set_overlap(&mut self, side: Side, overlap: Overlap) -> Result<(), Error> {
        let sock = self.flow_socket()?;
        self.monitor
            .set_overlap(self.token, sock, side.index(), Ok(overlap))
            .map_err(|_| Error::NoBuffer { side })
    }
}

//! Listeners: what is monitored, and by which callbacks.

use super::ctx::{Ctx, callback};
use super::event::{Event, Hook, Place, Side};
use super::{Error, Monitor};
use crate::monitor::filter::{RawFilter, StreamFilter};
use crate::monitor::hookset::Callback;
use crate::monitor::listener::Listener;
use std::sync::Arc;

/// Monitors TCP flows: callbacks of flows, and of TCP packets without a flow. Several may listen to the same flows.
///
/// ```
/// # use mos::{Event, Hook, Monitor};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// monitor
///     .stream()?
///     .syn_filter("tcp port 8000")?
///     .on(Event::ConnStart, Hook::Snd, |ev| println!("begins: {}", ev.flow()))?
///     .on(Event::ConnEnd, Hook::Snd, |ev| println!("ends: {}, its {:?}", ev.flow(), ev.side()))?
///     .on(Event::Orphan, Hook::Null, |ev| println!("of no flow: {:?}", ev.packet()))?;
/// monitor.run()?;
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stream<'m> {
    pub(super) monitor: &'m Monitor,
    pub(super) id: u32,
}

/// Monitors packets: every IPv4 packet, once, before the flows see it.
///
/// ```
/// # use mos::{Event, Hook, Monitor};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// monitor.raw()?.filter("udp or icmp")?.on(Event::PktIn, Hook::Null, |ev| {
///     println!("{:?}", ev.packet());
/// })?;
/// monitor.run()?;
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Raw<'m> {
    pub(super) monitor: &'m Monitor,
    pub(super) id: u32,
}

fn on(
    monitor: &Monitor,
    id: u32,
    place: Place,
    (event, hook): (Event, Hook),
    f: impl FnMut(&mut Ctx<'_>) + Send + 'static,
) -> Result<(), Error> {
    let core = &monitor.context.monitor;
    let event_id = event.checked(monitor.number, &core.forest().read(), hook, place)?;
    if core.setup.lock().get(id).is_some_and(|l| l.hooks.registered(hook, event_id).is_some()) {
        return Err(Error::AlreadyRegistered { event, hook });
    }
    let closure = callback(monitor.number, f);
    let number = monitor
        .with_token(|t| core.state(t).natives.add_callback(hook, closure))
        .ok_or(Error::OutOfMemory)?;
    match core.register_on_listener(id, hook, event_id, Some(Callback::Native(number))) {
        Some(Ok(())) => Ok(()),
        _ => {
            drop(monitor.with_token(|t| core.state(t).natives.remove_callback(number)));
            Err(Error::OutOfMemory)
        }
    }
}

fn change(monitor: &Monitor, id: u32, change: impl FnOnce(&mut Listener)) {
    monitor.context.monitor.change_setup(|setup| {
        if let Some(listener) = setup.get(id) {
            change(listener);
        }
    });
}

fn refused(text: &str, reason: impl std::fmt::Display) -> Error {
    let reason = reason.to_string();
    Error::Filter {
        text: text.into(),
        reason: reason.strip_prefix("filter: ").map_or(reason.clone(), str::to_owned),
    }
}

impl Stream<'_> {
    /// Calls `f` for an event on a hook, of flows that begin from now on.
    ///
    /// # Errors
    /// [`Error::Hook`]: the event is not raised there; [`Error::AlreadyRegistered`]; [`Error::ForeignEvent`];
    /// [`Error::OutOfMemory`].
    pub fn on(
        &self,
        event: Event,
        hook: Hook,
        f: impl FnMut(&mut Ctx<'_>) + Send + 'static,
    ) -> Result<&Self, Error> {
        on(self.monitor, self.id, Place::Stream, (event, hook), f)?;
        Ok(self)
    }

    /// Only flows whose first SYN matches are monitored: a BPF text of `tcp`, `host`, `net`, `mask`, `port`, `portrange`,
    /// `src`, `dst`, `and`, `or`, `not`.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn syn_filter(&self, text: &str) -> Result<&Self, Error> {
        let filter = StreamFilter::new(text).map_err(|e| refused(text, e))?;
        change(self.monitor, self.id, |l| l.syn = Some(Arc::new(filter)));
        Ok(self)
    }

    /// Only packets that match are reported as [`Event::Orphan`]; the same words as in
    /// [`syn_filter`](Stream::syn_filter).
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn orphan_filter(&self, text: &str) -> Result<&Self, Error> {
        let filter = StreamFilter::new(text).map_err(|e| refused(text, e))?;
        change(self.monitor, self.id, |l| l.orphan = Some(Arc::new(filter)));
        Ok(self)
    }

    /// Bytes kept of the stream that `side` receives, instead of [`Builder::reassembly`](super::Builder::reassembly); 0:
    /// none. The largest wish of a flow's listeners counts.
    pub fn buffer(&self, side: Side, bytes: usize) -> &Self {
        change(self.monitor, self.id, |l| l.buffer[side.index()] = Some(bytes));
        self
    }

    /// No callbacks about `side`.
    pub fn ignore(&self, side: Side) -> &Self {
        change(self.monitor, self.id, |l| l.follows[side.index()] = false);
        self
    }
}

impl Raw<'_> {
    /// Calls `f` for [`Event::PktIn`], or a user event below it, on [`Hook::Null`].
    ///
    /// # Errors
    /// As [`Stream::on`].
    pub fn on(
        &self,
        event: Event,
        hook: Hook,
        f: impl FnMut(&mut Ctx<'_>) + Send + 'static,
    ) -> Result<&Self, Error> {
        on(self.monitor, self.id, Place::Raw, (event, hook), f)?;
        Ok(self)
    }

    /// Only packets that match are reported: any BPF text (see pcap-filter(7)).
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn filter(&self, text: &str) -> Result<&Self, Error> {
        let filter = RawFilter::new(text).map_err(|e| refused(text, e))?;
        change(self.monitor, self.id, |l| l.raw = Some(Arc::new(filter)));
        Ok(self)
    }
}

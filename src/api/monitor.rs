//! The monitor: listeners, user events, timers, the run.

use super::ctx::{Ctx, predicate};
use super::event::Event;
use super::listener::{Raw, Stream};
use super::summary::Summary;
use super::timer::{self, TimerCtx};
use super::{Builder, Error};
use crate::flow::token::Token;
use crate::io::output::Frames;
use crate::monitor::hookset::Filter;
use crate::monitor::listener::Kind;
use crate::runtime::context::Context;
use crate::runtime::core_loop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Emulates both endpoints of every TCP flow of its packets, and calls closures for what happens to them.
///
/// Set it up, [`run`](Monitor::run) it. Monitors are independent of each other: a process may have any number, one
/// after the other or on several threads.
///
/// ```
/// use mos::{Event, Hook, Monitor};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// monitor.stream()?.on(Event::ConnStart, Hook::Snd, |ev| println!("{}", ev.flow()))?;
/// let summary = monitor.run()?;
/// assert!(summary.counters.flows_created > 0);
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Debug)]
pub struct Monitor {
    pub(super) context: Context,
    /// Tells this monitor's user events from those of others.
    pub(super) number: u64,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) forwarded: Option<Frames>,
}

/// Ends a [`Monitor::run`] from a closure or another thread; see [`Monitor::stop_handle`].
#[derive(Clone, Debug)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// The run ends after the loop iteration in progress: the flows there are end, with their `ConnEnd`.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Monitor {
    /// A monitor of one capture file, with the default options; as `Monitor::builder().capture(path).build()`.
    ///
    /// # Errors
    /// [`Error::Open`]; see [`Builder::build`].
    pub fn open(path: impl AsRef<Path>) -> Result<Monitor, Error> {
        Self::builder().capture(path).build()
    }

    /// Where the packets come from and go to, and all options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A listener for flows.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn stream(&self) -> Result<Stream<'_>, Error> {
        Ok(Stream { monitor: self, id: self.listener(Kind::Stream)? })
    }

    /// A listener for packets.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn raw(&self) -> Result<Raw<'_>, Error> {
        Ok(Raw { monitor: self, id: self.listener(Kind::Raw)? })
    }

    fn listener(&self, kind: Kind) -> Result<u32, Error> {
        self.context.monitor.change_setup(|setup| setup.add(kind)).ok_or(Error::TooMany)
    }

    /// Defines an event that is raised when `parent` is and `predicate` says so. Predicates run only where a callback is
    /// registered for the event or one below it, once per event.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let big = monitor.define_event(Event::PktIn, |ev| ev.packet().is_some_and(|p| p.payload().len() > 1000))?;
    /// let late = monitor.define_event(big, |ev| ev.packet().and_then(|p| p.stream_offset()) > Some(10_000))?;
    /// monitor.stream()?.on(late, Hook::Rcv, |ev| println!("{} still sends much", ev.flow()))?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ForeignEvent`]: `parent` is another monitor's; [`Error::OutOfMemory`].
    pub fn define_event(
        &self,
        parent: Event,
        f: impl FnMut(&mut Ctx<'_>) -> bool + Send + 'static,
    ) -> Result<Event, Error> {
        let parent = parent.id(self.number)?;
        let core = &self.context.monitor;
        let filter = predicate(self.number, f);
        let number =
            self.with_token(|t| core.state(t).natives.add_filter(filter)).ok_or(Error::OutOfMemory)?;
        self.define(parent, Some(Filter::Native(number)))
    }

    /// Makes an event below `parent` that is raised by hand: [`Ctx::raise`].
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let refused = monitor.alloc_event(Event::StateChange)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::StateChange, Hook::Rcv, move |ev| {
    ///     if ev.packet().and_then(|p| p.tcp().map(|tcp| tcp.flags() & 4 != 0)) == Some(true) {
    ///         ev.raise(refused).expect("a callback is registered for it");
    ///     }
    /// })?;
    /// stream.on(refused, Hook::Rcv, |ev| println!("{} was reset", ev.flow()))?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Monitor::define_event`].
    pub fn alloc_event(&self, parent: Event) -> Result<Event, Error> {
        self.define(parent.id(self.number)?, None)
    }

    fn define(&self, parent: u64, filter: Option<Filter>) -> Result<Event, Error> {
        match self.context.monitor.forest().write().define(parent, filter, &[], |_| Some(0)) {
            0 => Err(Error::OutOfMemory),
            id => Ok(Event::from_id(id, self.number)),
        }
    }

    /// Calls `f` once, `after` from now: from the first packet's time on, when the run has not begun.
    ///
    /// ```
    /// # use mos::Monitor;
    /// # use std::time::Duration;
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// # monitor.stream()?;
    /// monitor.timer(Duration::from_secs(1), |timer| {
    ///     println!("{:?}: {} flows", timer.now(), timer.counters().flows_now);
    ///     timer.rearm(Duration::from_secs(1));
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn timer(
        &self,
        after: Duration,
        f: impl FnMut(&mut TimerCtx<'_>) + Send + 'static,
    ) -> Result<(), Error> {
        self.with_token(|t| timer::set(&self.context.monitor, t, after, f))
    }

    /// Something that ends the run from a closure or another thread.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let (handle, stream) = (monitor.stop_handle(), monitor.stream()?);
    /// stream.on(Event::ConnStart, Hook::Snd, move |ev| {
    ///     println!("the first flow: {}", ev.flow());
    ///     handle.stop();
    /// })?;
    /// assert!(monitor.run()?.counters.rx_packets < 100);
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone())
    }

    /// Runs on the calling thread until the packets have ended and every flow has expired (in the capture's time: no
    /// waiting), or until it is stopped. All closures are called here.
    ///
    /// # Errors
    /// [`Error::GaveUp`].
    pub fn run(&mut self) -> Result<Summary, Error> {
        let warnings = core_loop::drive(&self.context, || self.stop.load(Ordering::Acquire))
            .map_err(|_| Error::GaveUp)?;
        Ok(Summary { counters: *self.context.monitor.published.lock(), warnings })
    }

    /// Takes the packets that were forwarded so far, with the time each had (since 1970), if
    /// [`Builder::forward_to_memory`] was asked for.
    pub fn take_forwarded(&mut self) -> Vec<(Duration, Vec<u8>)> {
        let Some(frames) = &self.forwarded else { return Vec::new() };
        let frames = std::mem::take(&mut *frames.lock());
        frames.into_iter().map(|(ns, frame)| (Duration::from_nanos(ns), frame)).collect()
    }

    pub(super) fn with_token<R>(&self, work: impl FnOnce(&mut Token) -> R) -> R {
        core_loop::with_token(&self.context, work)
    }
}

//! What an application keeps with a flow.

use super::Ctx;
use std::any::Any;

impl Ctx<'_> {
    fn uctx(&self) -> Option<usize> {
        let sock = self.flow_socket().ok()?;
        self.monitor.view(self.token).sockets.get(sock).map(|s| s.uctx)
    }

    /// Keeps a value with the flow, for the callbacks of this listener; it is dropped when the flow has ended, after
    /// its last callback. A value that was there is dropped. `false`: there is no flow, the value is dropped.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// struct Seen { packets: u64 }
    ///
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::ConnStart, Hook::Snd, |ev| {
    ///     ev.set_data(Seen { packets: 0 });
    /// })?;
    /// stream.on(Event::PktIn, Hook::Snd, |ev| {
    ///     if let Some(seen) = ev.data::<Seen>() {
    ///         seen.packets += 1;
    ///     }
    /// })?;
    /// stream.on(Event::ConnEnd, Hook::Snd, |ev| {
    ///     if let Some(seen) = ev.data::<Seen>() {
    ///         println!("{} packets", seen.packets);
    ///     }
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn set_data<T: Send + 'static>(&mut self, value: T) -> bool {
        let Some(uctx) = self.uctx() else { return false };
        let state = self.monitor.state(self.token);
        let Ok((place, old)) = state.natives.keep(uctx, Box::new(value)) else {
            state.stats.no_memory += 1;
            return false;
        };
        if let Some(socket) = state.sockets.get_mut(self.call.sock) {
            socket.uctx = place;
        }
        drop(old);
        true
    }

    /// The value kept with the flow, if it is a `T`.
    pub fn data<T: Send + 'static>(&mut self) -> Option<&mut T> {
        let uctx = self.uctx()?;
        self.monitor.state(self.token).natives.kept_mut(uctx)?.downcast_mut()
    }

    /// The value kept with the flow, if it is a `T`, for reading: it may be held together with
    /// [`Ctx::packet`].
    pub fn data_ref<T: Send + 'static>(&self) -> Option<&T> {
        let uctx = self.uctx()?;
        self.monitor.view(self.token).natives.kept(uctx)?.downcast_ref()
    }

    /// Takes the value kept with the flow, if it is a `T`.
    pub fn take_data<T: Send + 'static>(&mut self) -> Option<T> {
        let uctx = self.uctx()?;
        let natives = &mut self.monitor.state(self.token).natives;
        if !natives.kept(uctx)?.is::<T>() {
            return None;
        }
        let kept: Box<dyn Any + Send> = natives.take_kept(uctx)?;
        kept.downcast().ok().map(|value| *value)
    }

    /// Works on the value kept with the flow and on the rest of the context at once: the value is taken out, and put
    /// back when `work` returns (unless `work` kept another one). `None`: there is no such value.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::open(path)?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::ConnStart, Hook::Snd, |ev| {
    ///     ev.set_data(Vec::<u8>::new());
    /// })?;
    /// stream.on(Event::NewData, Hook::Null, |ev| {
    ///     let side = ev.side();
    ///     ev.with_data(|all: &mut Vec<u8>, ev| ev.read_into(side, all));
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    pub fn with_data<T: Send + 'static, R>(
        &mut self,
        work: impl FnOnce(&mut T, &mut Self) -> R,
    ) -> Option<R> {
        let uctx = self.uctx()?;
        let natives = &mut self.monitor.state(self.token).natives;
        let mut kept: Box<T> = match natives.take_kept(uctx)?.downcast() {
            Ok(kept) => kept,
            Err(other) => {
                // Its place is still the socket's.
                let _ = natives.keep(uctx, other);
                return None;
            }
        };
        let result = work(&mut kept, self);
        let natives = &mut self.monitor.state(self.token).natives;
        if natives.kept(uctx).is_none() {
            let _ = natives.keep(uctx, kept);
        }
        Some(result)
    }
}

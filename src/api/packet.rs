//! The packet in process: a typed view of it, edits, drop.

use super::{Ctx, Error};
use crate::monitor::{Errno, State};
use crate::wire::ethernet::Ethernet;
use crate::wire::ipv4::Ipv4;
use crate::wire::parse::{Class, Parsed};
use crate::wire::tcp::Tcp;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use crate::monitor::packet::Area;

/// Whether an edit recomputes the IPv4 and TCP checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Both are recomputed.
    #[default]
    Update,
    /// They stay as they are (or as the edit makes them).
    Keep,
}

/// The packet in process, as callbacks before this one left it.
///
/// ```
/// # use mos::{Event, Hook, Monitor};
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
/// let mut monitor = Monitor::open(path)?;
/// monitor.stream()?.on(Event::ConnStart, Hook::Snd, |ev| {
///     let packet = ev.packet().expect("a SYN is in process");
///     let tcp = packet.tcp().expect("it is TCP");
///     assert_eq!(tcp.dport(), packet.destination().port());
///     assert!(packet.payload().is_empty() && packet.stream_offset().is_none());
/// })?;
/// monitor.run()?;
/// # Ok::<(), mos::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct PacketView<'a> {
    state: &'a State,
}

impl<'a> PacketView<'a> {
    fn parsed(&self) -> &'a Parsed {
        &self.state.prepared[self.state.cur.at].parsed
    }

    /// All that was captured, from the Ethernet header on.
    pub fn frame(&self) -> &'a [u8] {
        self.state.current_frame()
    }

    /// Bytes the frame had on the wire; more than `frame().len()` when the capture cut it.
    pub fn wire_len(&self) -> usize {
        (self.state.batch[self.state.cur.at].wire_len as usize).max(self.frame().len())
    }

    /// When it was captured, since 1970.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.state.batch[self.state.cur.at].ts_ns)
    }

    /// Number of the device it came from: the place of its capture in the builder's list.
    pub fn device(&self) -> usize {
        self.state.io.port_of(self.state.batch[self.state.cur.at].dev) as usize
    }

    /// The Ethernet header. Fails only for a frame that an edit made unreadable.
    pub fn ethernet(&self) -> Option<Ethernet<&'a [u8]>> {
        Ethernet::new(self.frame())
    }

    /// The IPv4 header.
    pub fn ipv4(&self) -> Option<Ipv4<&'a [u8]>> {
        if !self.parsed().is_ipv4() {
            return None;
        }
        Ipv4::new(self.frame().get(self.parsed().l3 as usize..)?)
    }

    /// The TCP header; `None` for fragments and other protocols.
    pub fn tcp(&self) -> Option<Tcp<&'a [u8]>> {
        let p = self.parsed();
        if p.class != Class::Tcp {
            return None;
        }
        let frame = self.frame();
        Tcp::new(frame.get(p.l4 as usize..p.end().min(frame.len()))?)
    }

    /// The captured TCP payload; what follows the IP header for other protocols.
    pub fn payload(&self) -> &'a [u8] {
        let p = self.parsed();
        let start = p.payload as usize;
        self.frame().get(start..start + p.payload_len as usize).unwrap_or(&[])
    }

    /// Where the payload lies in the stream that its receiver sees; `None` without payload or flow. A retransmission of
    /// bytes before the first one (a keep-alive) has 0.
    pub fn stream_offset(&self) -> Option<u64> {
        let counts = self.parsed().class == Class::Tcp && self.parsed().wire_payload_len > 0;
        (counts && self.state.cur.flow.is_some()).then(|| self.state.payload_offset())
    }

    /// Where the packet came from, now; port 0 unless it is TCP.
    pub fn source(&self) -> SocketAddr {
        let p = self.parsed();
        SocketAddr::new(IpAddr::V4(p.src_addr()), u16::from_be_bytes(p.sport.to_ne_bytes()))
    }

    /// Where the packet goes to, now; port 0 unless it is TCP.
    pub fn destination(&self) -> SocketAddr {
        let p = self.parsed();
        SocketAddr::new(IpAddr::V4(p.dst_addr()), u16::from_be_bytes(p.dport.to_ne_bytes()))
    }
}

impl std::fmt::Debug for PacketView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PacketView({} -> {}, {} bytes)", self.source(), self.destination(), self.frame().len())
    }
}

fn edit_error(e: Errno) -> Error {
    match e.0 {
        libc::ENODATA => Error::NoPacket,
        libc::ENOMEM => Error::OutOfMemory,
        libc::EACCES => Error::Edit {
            expected: "an area that the packet has, and no change of the Ethernet header's length",
        },
        _ => Error::Edit {
            expected: "a range inside the area; a header grows and shrinks by multiples of 4 behind its first 20 bytes, up to 60",
        },
    }
}

impl Ctx<'_> {
    /// The packet in process; `None` where there is none (see the table of [`Event`](super::Event)).
    pub fn packet(&self) -> Option<PacketView<'_>> {
        let state = self.monitor.view(self.token);
        (state.cur.active && state.prepared.get(state.cur.at).is_some()).then_some(PacketView { state })
    }

    /// Drops the packet: it is not forwarded. Both stacks have seen it, or will see it, all the same.
    ///
    /// ```
    /// # use mos::{Event, Hook, Monitor};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::builder().capture(path).forward_to_memory().build()?;
    /// let stream = monitor.stream()?;
    /// stream.syn_filter("dst port 7001")?;
    /// stream.on(Event::PktIn, Hook::Snd, |ev| {
    ///     ev.drop_packet().expect("a packet is in process");
    /// })?;
    /// let summary = monitor.run()?;
    /// assert_eq!(monitor.take_forwarded().len() as u64, summary.counters.rx_packets - summary.counters.drop_callback);
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPacket`].
    pub fn drop_packet(&mut self) -> Result<(), Error> {
        self.monitor.drop_packet(self.token).map_err(|_| Error::NoPacket)
    }

    /// Overwrites bytes of the packet, `offset` bytes into an area of it. On `Hook::Snd` the receiver sees the packet as
    /// edited; on `Hook::Rcv` only what is forwarded changes.
    ///
    /// ```
    /// # use mos::{Area, Checksums, Event, Hook, Monitor, Side};
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/demo.pcap");
    /// let mut monitor = Monitor::builder().capture(path).forward_to_memory().build()?;
    /// let stream = monitor.stream()?;
    /// stream.on(Event::PktIn, Hook::Snd, |ev| {
    ///     if ev.packet().is_some_and(|p| p.payload().starts_with(b"HTTP/1.0 404")) {
    ///         ev.edit(Area::Payload, 9, b"410", Checksums::Update).expect("these bytes are there");
    ///     }
    /// })?;
    /// monitor.run()?;
    /// # Ok::<(), mos::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoPacket`]; [`Error::Edit`]: no such area, or not so many bytes there; [`Error::OutOfMemory`].
    pub fn edit(
        &mut self,
        area: Area,
        offset: usize,
        bytes: &[u8],
        checksums: Checksums,
    ) -> Result<(), Error> {
        self.change(area, offset, crate::monitor::packet::Edit::Overwrite(bytes), checksums)
    }

    /// Puts bytes into the packet, before byte `offset` of an area; lengths in the headers follow. The sequence numbers
    /// of later packets are the caller's business.
    ///
    /// # Errors
    /// As [`Ctx::edit`]; also when the packet would be longer than 65535 bytes.
    pub fn insert(
        &mut self,
        area: Area,
        offset: usize,
        bytes: &[u8],
        checksums: Checksums,
    ) -> Result<(), Error> {
        self.change(area, offset, crate::monitor::packet::Edit::Insert(bytes), checksums)
    }

    /// Removes `len` bytes from byte `offset` of an area on; lengths in the headers follow.
    ///
    /// # Errors
    /// As [`Ctx::edit`].
    pub fn chomp(
        &mut self,
        area: Area,
        offset: usize,
        len: usize,
        checksums: Checksums,
    ) -> Result<(), Error> {
        self.change(area, offset, crate::monitor::packet::Edit::Chomp(len), checksums)
    }

    fn change(
        &mut self,
        area: Area,
        offset: usize,
        edit: crate::monitor::packet::Edit<'_>,
        checksums: Checksums,
    ) -> Result<(), Error> {
        let update = checksums == Checksums::Update;
        self.monitor.edit_packet(self.token, area, offset, edit, update, update).map_err(edit_error)
    }
}

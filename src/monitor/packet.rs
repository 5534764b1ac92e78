//! The packet in process: read and edited by callbacks (monitor.md §7.1–7.2 as changed by K8, D4, D9, D12).

use super::filter::StreamFilter;
use super::state::{Monitor, State};
use super::{Errno, Result};
use crate::flow::arena::Id;
use crate::flow::token::Token;
use crate::tcp::side::Side;
use crate::wire::checksum;
use crate::wire::parse::{self, Class};

/// Largest frame an edit may make.
const MOST_FRAME: usize = 65535;

/// Which packet is in process and what callbacks did to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Current {
    /// Its place in the batch.
    pub at: usize,
    /// Whether callbacks may see it.
    pub active: bool,
    /// Whether its bytes are those of `State::edit`.
    pub edited: bool,
    /// A callback asked for it to be dropped.
    pub dropped: bool,
    /// Its flow and the side that sent it.
    pub flow: Option<(Id, u8)>,
    /// Both sides of the flow are finished: it ends when the packet has been forwarded.
    pub ends: bool,
}

impl Current {
    /// Packet `at` of the batch is in process now.
    pub fn begin(&mut self, at: usize) {
        *self = Current { at, active: true, ..Current::default() };
    }

    /// No packet is in process.
    pub fn end(&mut self) {
        *self = Current::default();
    }
}

/// What `mtcp_getlastpkt` reports; offsets count from the start of `State::copy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketInfo {
    /// Milliseconds, truncated.
    pub cur_ts: u32,
    /// Index of the receiving device.
    pub in_ifidx: u8,
    /// Bytes of the frame in the copy.
    pub eth_len: u16,
    /// Total length of the IP packet.
    pub ip_len: u16,
    /// Offset of the payload in the receiver's stream (D4).
    pub offset: u64,
    /// Captured payload bytes.
    pub payload_len: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Where the IP header begins.
    pub l3: u16,
    /// Where the TCP header begins, if there is one.
    pub l4: Option<u16>,
    /// Where the payload begins.
    pub payload: u16,
}

/// What part of the packet an edit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The Ethernet header.
    Ethernet,
    /// The IP header.
    Ip,
    /// The TCP header.
    Tcp,
    /// The TCP payload.
    Payload,
}

/// What an edit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    /// Replaces bytes.
    Overwrite(&'a [u8]),
    /// Removes so many bytes.
    Chomp(usize),
    /// Puts bytes in.
    Insert(&'a [u8]),
}

impl State {
    /// Packet `at` of the batch, as it is now.
    #[inline]
    pub fn frame(&self, at: usize) -> &[u8] {
        if self.cur.edited && at == self.cur.at { &self.edit } else { self.io.frame(&self.batch[at]) }
    }

    /// The packet in process, as it is now.
    #[inline]
    pub fn current_frame(&self) -> &[u8] {
        self.frame(self.cur.at)
    }

    /// Whether a stream filter accepts the packet in process: it sees the IPv4 packet behind 14 bytes of Ethernet, without
    /// padding, and its length by the IP header even where the capture cut it (monitor.md §5).
    pub(super) fn stream_filter_matches(&self, filter: &StreamFilter) -> bool {
        let frame = self.current_frame();
        let p = &self.prepared[self.cur.at].parsed;
        let seen = &frame[..p.end().min(frame.len())];
        filter.matches_cut(seen, p.l3 as usize + p.ip_len as usize)
    }

    /// Copies the packet in process, with zeros up to its IP length and 16 more behind it (K8, D12).
    pub fn copy_packet(&mut self) -> Result<PacketInfo> {
        if !self.cur.active {
            return Err(Errno(libc::EACCES));
        }
        let at = self.cur.at;
        let p = self.prepared[at].parsed;
        let State { io, edit, copy, cur, batch, .. } = self;
        let frame = if cur.edited { edit.as_slice() } else { io.frame(&batch[at]) };
        let len = frame.len().max(p.l3 as usize + p.ip_len as usize);
        copy.clear();
        copy.try_reserve(len + 16).map_err(|_| Errno(libc::ENOMEM))?;
        copy.extend_from_slice(frame);
        copy.resize(len + 16, 0);
        let tcp = p.class == Class::Tcp;
        Ok(PacketInfo {
            cur_ts: self.now_ms as u32,
            in_ifidx: self.io.port_of(self.batch[at].dev),
            eth_len: len.min(u16::MAX as usize) as u16,
            ip_len: p.ip_len,
            offset: if tcp { self.payload_offset() } else { 0 },
            payload_len: if tcp { p.payload_len } else { 0 },
            seq: p.seq,
            ack: p.ack,
            window: p.window,
            l3: p.l3,
            l4: tcp.then_some(p.l4),
            payload: p.payload,
        })
    }

    /// Where the payload lies in the receiver's stream; 0 without payload or before the first byte.
    pub(crate) fn payload_offset(&self) -> u64 {
        let p = &self.prepared[self.cur.at].parsed;
        if p.wire_payload_len == 0 {
            return 0;
        }
        let Some((id, from)) = self.cur.flow else { return 0 };
        let Some(flow) = self.flows.get(id) else { return 0 };
        let y = &flow.sides[1 - from as usize];
        let syn = (p.flags & crate::tcp::machine::SYN != 0) as u32;
        if !y.has(Side::IRS) {
            return 0;
        }
        y.offset_of(p.seq.wrapping_add(syn)).max(0) as u64
    }

    /// Moves the packet's bytes to where they can be edited.
    pub(crate) fn edit_buffer(&mut self) -> Result<()> {
        if self.cur.edited {
            return Ok(());
        }
        let State { io, edit, batch, cur, .. } = self;
        let frame = io.frame(&batch[cur.at]);
        edit.clear();
        edit.try_reserve(frame.len()).map_err(|_| Errno(libc::ENOMEM))?;
        edit.extend_from_slice(frame);
        cur.edited = true;
        Ok(())
    }

    /// Reads the headers again after an edit. What no longer parses keeps its last good reading.
    fn read_again(&mut self) {
        let at = self.cur.at;
        let wire = (self.batch[at].wire_len as usize).max(self.edit.len()) as u32;
        let parsed = parse::parse(&self.edit, wire);
        if !matches!(parsed.class, Class::Malformed(_)) {
            self.prepared[at].reread(parsed, &self.edit);
        }
    }
}

impl Monitor {
    /// `mtcp_setlastpkt` with MOS_DROP.
    pub fn drop_packet(&self, t: &mut Token) -> Result<()> {
        let st = self.state(t);
        if !st.cur.active {
            return Err(Errno(libc::ENODATA));
        }
        st.cur.dropped = true;
        Ok(())
    }

    /// `mtcp_setlastpkt`: edits the packet in process, then recomputes the checksums asked for.
    pub fn edit_packet(
        &self,
        t: &mut Token,
        area: Area,
        off: usize,
        edit: Edit<'_>,
        ip: bool,
        tcp: bool,
    ) -> Result<()> {
        let st = self.state(t);
        if !st.cur.active {
            return Err(Errno(libc::ENODATA));
        }
        let p = st.prepared[st.cur.at].parsed;
        let (start, end) = match area {
            Area::Ethernet => (0, 14),
            Area::Ip if !p.is_ipv4() => return Err(Errno(libc::EACCES)),
            Area::Ip => (p.l3 as usize, p.l3 as usize + p.ihl as usize * 4),
            Area::Tcp | Area::Payload if p.class != Class::Tcp => return Err(Errno(libc::EINVAL)),
            Area::Tcp => (p.l4 as usize, p.payload as usize),
            Area::Payload => (p.payload as usize, p.end()),
        };
        let size = end - start;
        let touched = match edit {
            Edit::Overwrite(data) => data.len(),
            Edit::Chomp(len) => len,
            Edit::Insert(_) => 0,
        };
        let fits = off <= size && touched <= size - off;
        if area == Area::Ethernet && !matches!(edit, Edit::Overwrite(_)) {
            return Err(Errno(if fits { libc::EACCES } else { libc::EINVAL }));
        }
        if !fits {
            return Err(Errno(libc::EINVAL));
        }
        let frame_len = st.current_frame().len();
        let delta = match edit {
            Edit::Overwrite(_) => 0,
            Edit::Chomp(len) => -(len as isize),
            Edit::Insert(data) => data.len() as isize,
        };
        if delta != 0 {
            // A header changes by whole words, and only in its options.
            let min = if matches!(area, Area::Ip | Area::Tcp) { 20 } else { 0 };
            let new_size = size as isize + delta;
            let header_ok = min == 0 || (off >= min && delta % 4 == 0 && (20..=60).contains(&new_size));
            let new_len = p.ip_len as isize + delta;
            if !header_ok
                || !(20..=MOST_FRAME as isize).contains(&new_len)
                || frame_len as isize + delta > MOST_FRAME as isize
            {
                return Err(Errno(libc::EINVAL));
            }
        }
        st.edit_buffer()?;
        let at = start + off;
        match edit {
            Edit::Overwrite(data) => match st.edit.get_mut(at..at + data.len()) {
                Some(bytes) => bytes.copy_from_slice(data),
                None => return Err(Errno(libc::EINVAL)),
            },
            Edit::Chomp(len) => {
                if at + len > st.edit.len() {
                    return Err(Errno(libc::EINVAL));
                }
                st.edit.drain(at..at + len);
            }
            Edit::Insert(data) => {
                if at > st.edit.len() {
                    return Err(Errno(libc::EINVAL));
                }
                st.edit.try_reserve(data.len()).map_err(|_| Errno(libc::ENOMEM))?;
                st.edit.splice(at..at, data.iter().copied());
            }
        }
        if delta != 0 {
            let l3 = p.l3 as usize;
            let total = (p.ip_len as isize + delta) as u16;
            st.edit[l3 + 2..l3 + 4].copy_from_slice(&total.to_be_bytes());
            let words = ((size as isize + delta) / 4) as u8;
            match area {
                Area::Ip => st.edit[l3] = (st.edit[l3] & 0xf0) | words,
                Area::Tcp => st.edit[start + 12] = (st.edit[start + 12] & 0x0f) | (words << 4),
                _ => {}
            }
            let rx = &mut st.batch[st.cur.at];
            rx.wire_len = (rx.wire_len as isize + delta).max(0) as u32;
        }
        st.read_again();
        let p = st.prepared[st.cur.at].parsed;
        let l3 = (p.l3 as usize).min(st.edit.len());
        if ip && p.is_ipv4() {
            let _ = checksum::fill_ipv4(&mut st.edit[l3..]);
        }
        if tcp && p.class == Class::Tcp && !p.truncated {
            let _ = checksum::fill_tcp(&mut st.edit[l3..]);
        }
        Ok(())
    }
}

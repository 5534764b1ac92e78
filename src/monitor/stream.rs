//! Streams: payload into the receiver's reassembly, NEW_DATA, ERROR (decisions D4–D6, D11, D12). What a side keeps is in
//! `cold.rs`, holes that are given up in `holes.rs`.

use super::cold::Cold;
use super::event::{Hook, ON_ERROR, ON_NEW_DATA, on_null};
use super::state::{Monitor, State};
use crate::flow::arena::Id;
use crate::flow::record::{CLI, Flow, SVR};
use crate::flow::token::Token;
use crate::tcp::machine::{self, FIN, Segment};
use crate::tcp::side::{NO_COLD, Side};
use std::collections::VecDeque;
use std::ops::Range;

impl State {
    /// Whether the segment's payload overlaps what side `to` accepted before (D4).
    pub(super) fn retransmits(&self, id: Id, to: usize, seg: &Segment) -> bool {
        let Some(flow) = self.flows.get(id) else { return false };
        let y = &flow.sides[to];
        match self.cold.get(y.cold) {
            None => machine::overlap(y, seg) && y.offset_of(seg.seq) + seg.len as i64 > 0,
            Some(cold) => {
                if !y.has(Side::IRS) {
                    return false;
                }
                let start = y.offset_of(seg.seq);
                let end = start + seg.len as i64;
                end > 0 && cold.stream.retransmits(y.data_tail(), start.max(0) as u64, end as u64)
            }
        }
    }

    /// Keeps the payload of a SYN aside until its receiver acknowledges it (D5b).
    pub(super) fn keep_syn_data(&mut self, id: Id, to: usize, at: usize) {
        let p = self.prepared[at].parsed;
        let range = p.payload as usize..p.payload as usize + p.payload_len as usize;
        let mut copy = Vec::new();
        if copy.try_reserve_exact(range.len()).is_err() {
            return;
        }
        copy.extend_from_slice(self.frame(at).get(range).unwrap_or(&[]));
        if self.cold_of(id, to).is_none() || self.syn_data.try_reserve(1).is_err() {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id) {
            self.syn_data.insert(flow.sides[to].cold, copy);
            flow.sides[to].set(Side::SYN_DATA);
        }
    }
}

/// Where the bytes of a segment are.
#[derive(Clone, Copy)]
enum From {
    /// In the packet in process, from this offset on.
    Packet(usize),
    /// Put aside (`State::aside`).
    Aside,
}

/// What storing one piece found.
enum Piece {
    /// So many bytes were dealt with.
    Stored(usize),
    /// Announced bytes would be evicted before they were delivered.
    DeliverFirst,
    /// Bytes below this offset will be evicted unread: tell those who have not read them.
    WillEvict(u64),
    /// Out-of-order bytes find no room.
    Refused,
    /// No memory.
    NoMemory,
}

impl Monitor {
    /// Stores a good segment's payload at side `to` and takes its FIN; returns the side's events.
    pub(super) fn store(&self, t: &mut Token, id: Id, to: usize, at: usize, seg: &Segment) -> u16 {
        let mut events = 0;
        if self.state(t).flows.get(id).is_some_and(|f| f.sides[to].has(Side::SYN_DATA)) {
            events |= self.take_syn_data(t, id, to);
        }
        let Some(flow) = self.state(t).flows.get(id) else { return 0 };
        let y = &flow.sides[to];
        if !y.state.receives() {
            return events;
        }
        let start = y.offset_of(seg.seq);
        let end = start + seg.len as i64;
        if seg.len > 0 && end > 0 {
            self.store_payload(t, id, to, at, start, seg.len);
        }
        if seg.has(FIN) {
            events |= self.take_fin(t, id, to, end);
        }
        events | self.remembered_fin(t, id, to)
    }

    /// A FIN at stream offset `end`: taken in order, remembered beyond a hole (D5c).
    fn take_fin(&self, t: &mut Token, id: Id, to: usize, end: i64) -> u16 {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        let y = &mut flow.sides[to];
        let tail = y.tail() as i64;
        if end == tail {
            return machine::finish(y);
        }
        if end < tail || !y.state.receives() {
            return 0;
        }
        if y.has(Side::NO_BUFFER) {
            // Without a buffer a FIN counts wherever it is (monitor.md §6.9).
            y.set_tail(end as u64);
            return machine::finish(y);
        }
        if let Some(cold) = st.cold_of(id, to) {
            let held = cold.stream.allocated_bytes();
            let noted = cold.stream.remember_fin(end as u64).is_ok();
            let holds = cold.stream.allocated_bytes();
            st.account(held, holds);
            st.stats.no_memory += !noted as u64;
        }
        0
    }

    /// A remembered FIN that the tail has reached now.
    fn remembered_fin(&self, t: &mut Token, id: Id, to: usize) -> u16 {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        let y = &mut flow.sides[to];
        let Some(cold) = st.cold.get_mut(y.cold) else { return 0 };
        if !y.state.receives() || cold.stream.fin().is_none() {
            return 0;
        }
        let held = cold.stream.allocated_bytes();
        let events = if cold.stream.take_fin(y.tail()) { machine::finish(y) } else { 0 };
        let holds = cold.stream.allocated_bytes();
        st.account(held, holds);
        events
    }

    /// The acknowledged part of a SYN's payload enters the stream at offset 0 (D5b).
    pub(super) fn take_syn_data(&self, t: &mut Token, id: Id, side: usize) -> u16 {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return 0 };
        let s = &mut flow.sides[side];
        if !s.has(Side::SYN_DATA) || !s.state.receives() {
            return 0;
        }
        let Some(acked) = s.acked_offset() else { return 0 };
        s.clear(Side::SYN_DATA);
        let Some(mut data) = st.syn_data.remove(&s.cold) else { return 0 };
        data.truncate(acked.clamp(0, data.len() as i64) as usize);
        if data.is_empty() || s.tail() > 0 {
            return 0;
        }
        let len = data.len();
        st.aside = data;
        self.store_bytes(t, id, side, 0, len, len, From::Aside);
        self.remembered_fin(t, id, side)
    }

    /// Stores the payload of packet `at`, which begins at stream offset `start` (negative: before the first byte).
    fn store_payload(&self, t: &mut Token, id: Id, to: usize, at: usize, start: i64, wire_len: u32) {
        let st = self.state(t);
        let before = (-start).max(0) as usize;
        let p = st.prepared[at].parsed;
        let captured = (p.payload_len as usize).saturating_sub(before);
        let wire = wire_len as usize - before;
        let start = start.max(0) as u64;
        let Some(flow) = st.flows.get_mut(id) else { return };
        let y = &mut flow.sides[to];
        if y.has(Side::NO_BUFFER) && y.cold == NO_COLD && start <= y.tail() {
            // Nobody wants the bytes and nothing is out of order: only the tail moves.
            let end = start + wire as u64;
            if end > y.tail() {
                st.stats.stream_bytes += end - y.tail();
                y.set_tail(end);
            }
            return;
        }
        if captured == 0 {
            return;
        }
        let first = p.payload as usize + before;
        self.store_bytes(t, id, to, start, captured, wire, From::Packet(first));
    }

    /// Stores `captured` bytes of `wire` at stream offset `start`, in as many pieces as the ring needs.
    #[allow(clippy::too_many_arguments)]
    fn store_bytes(
        &self,
        t: &mut Token,
        id: Id,
        to: usize,
        start: u64,
        captured: usize,
        wire: usize,
        mut from: From,
    ) {
        let mut done = 0;
        let mut told = Told::default();
        loop {
            let st = self.state(t);
            let piece = st.store_piece(id, to, start, done..captured, wire, &told, from);
            if matches!(piece, Piece::WillEvict(_) | Piece::Refused)
                && let From::Packet(first) = from
                && st.cur.active
            {
                // ERROR's callbacks may edit the packet: what is stored is the packet as it arrived.
                if !st.put_aside(first..first + captured) {
                    return;
                }
                from = From::Aside;
            }
            match self.after_piece(t, id, to, piece, &mut told, (captured - done) as u64) {
                Some(n) => done += n,
                None => break,
            }
            if done >= captured {
                break;
            }
        }
        if let From::Aside = from {
            self.state(t).aside = Vec::new();
        }
    }

    /// Acts on what a piece found. `Some(n)`: go on after `n` more bytes; `None`: the segment is done.
    fn after_piece(
        &self,
        t: &mut Token,
        id: Id,
        to: usize,
        piece: Piece,
        told: &mut Told,
        left: u64,
    ) -> Option<usize> {
        match piece {
            // A callback took the bytes out of the packet while they were being stored.
            Piece::Stored(0) => None,
            Piece::Stored(n) => {
                if (n as u64) < left {
                    // Larger than the ring: what is stored goes out before the rest comes in (D6).
                    self.deliver(t, id, to);
                }
                Some(n)
            }
            Piece::DeliverFirst => {
                self.deliver(t, id, to);
                Some(0)
            }
            Piece::WillEvict(below) => {
                told.evict = below;
                self.raise_eviction(t, id, to, below);
                Some(0)
            }
            Piece::Refused => {
                // The ring needs room; a receiver not heard since the hole opened will not fill it (D5).
                let heard = self.state(t).flows.get(id).is_none_or(|f| f.sides[to].has(Side::HEARD));
                if !heard && self.skip_first_hole(t, id, to) {
                    return Some(0);
                }
                if told.refused {
                    return None;
                }
                told.refused = true;
                self.raise(t, id, Hook::Null, to, ON_ERROR);
                Some(0)
            }
            Piece::NoMemory => {
                let st = self.state(t);
                st.stats.no_memory += 1;
                st.stats.refused_bytes += left;
                None
            }
        }
    }

    /// ERROR to the sockets that have not read what is about to be evicted.
    fn raise_eviction(&self, t: &mut Token, id: Id, to: usize, below: u64) {
        let Some(flow) = self.state(t).flows.get(id) else { return };
        if flow.interest & on_null(ON_ERROR) == 0 {
            return;
        }
        let first = flow.socket;
        if self.state(t).sockets.all_read(first, to, below) {
            return;
        }
        let mut chain = self.chain(t, first);
        if to == CLI {
            chain.reverse();
        }
        for sock in chain {
            if self.state(t).sockets.get(sock).is_some_and(|s| s.peeked[to] < below) {
                self.tell(t, sock, Hook::Null, to, ON_ERROR);
            }
        }
    }

    /// Puts a side on the list of what the end of the iteration looks at.
    pub(super) fn look_later(&self, t: &mut Token, id: Id, side: usize) {
        self.state(t).look_later(id, side);
    }

    /// Delivers a pending NEW_DATA at once, as a dispatch of its own without current packet (D6).
    pub(super) fn deliver(&self, t: &mut Token, id: Id, side: usize) {
        let st = self.state(t);
        let Some(flow) = st.flows.get_mut(id) else { return };
        let s = &mut flow.sides[side];
        if !s.has(Side::NEW_DATA) {
            return;
        }
        s.clear(Side::NEW_DATA);
        let tail = s.data_tail();
        if let Some(cold) = st.cold.get_mut(s.cold) {
            cold.stream.mark_told(tail);
        }
        if flow.interest & on_null(ON_NEW_DATA) == 0 {
            return;
        }
        let outer = st.cur.active;
        st.cur.active = false;
        self.raise(t, id, Hook::Null, side, ON_NEW_DATA);
        self.state(t).cur.active = outer;
    }

    /// The end of a loop iteration: NEW_DATA of all sides that have it, holes given up (monitor.md §2.1 step 5).
    pub fn flush(&self, t: &mut Token) {
        // What callbacks put on the list now waits for the next iteration.
        let mut left = self.state(t).due.len();
        while left > 0 {
            left -= 1;
            let st = self.state(t);
            let Some((id, side)) = st.due.pop_front() else { return };
            let side = side as usize;
            let Some(flow) = st.flows.get_mut(id) else { continue };
            let (first, interest) = (flow.socket, flow.interest);
            let s = &mut flow.sides[side];
            if s.more & Side::SKIP_DUE != 0 {
                self.flush_hole(t, id, side);
                continue;
            }
            let pending = s.has(Side::NEW_DATA);
            s.clear(Side::QUEUED | Side::NEW_DATA);
            if !pending {
                continue;
            }
            if let Some(cold) = st.cold.get_mut(s.cold) {
                cold.stream.mark_told(s.data_tail());
            }
            if interest & on_null(ON_NEW_DATA) != 0 {
                // Between packets there is no current one.
                self.raise_one(t, first, Hook::Null, side, ON_NEW_DATA.trailing_zeros());
            }
        }
    }
}

/// What the application was told about the segment being stored.
#[derive(Default)]
struct Told {
    /// Eviction below this offset was announced.
    evict: u64,
    /// ERROR for refused bytes was raised.
    refused: bool,
}

impl State {
    pub(super) fn look_later(&mut self, id: Id, side: usize) {
        if let Some(flow) = self.flows.get_mut(id) {
            queue(flow, id, side, &mut self.due);
        }
    }

    /// Whether nothing of a segment at the in-order tail can have come before: nothing is out of order, no hole was given up.
    #[inline]
    pub(super) fn is_unbroken(&self, cold: u32) -> bool {
        self.cold.get(cold).is_none_or(|cold| cold.stream.is_unbroken())
    }

    /// Takes a FIN that the in-order tail has reached; the side's events.
    pub(super) fn finish(&mut self, id: Id, to: usize) -> u16 {
        self.flows.get_mut(id).map_or(0, |flow| machine::finish(&mut flow.sides[to]))
    }

    /// Stores the payload of packet `at`, `len` bytes from `seq` on without its FIN, in the common case: the next bytes of an unbroken stream that fit,
    /// with nobody to be told first. `false`: it is another case, and nothing was done.
    #[inline]
    pub(super) fn store_plain(&mut self, id: Id, to: usize, at: usize, seq: u32, len: u32) -> bool {
        let left = self.memory_left();
        let State { io, edit, batch, cur, prepared, flows, cold, chunks, sockets, stats, due, .. } = self;
        let Some(flow) = flows.get_mut(id) else { return false };
        let (first_socket, interest) = (flow.socket, flow.interest);
        let y = &mut flow.sides[to];
        let plain = seq == y.rcv_nxt && y.flags & (Side::SYN_DATA | Side::NO_BUFFER) == 0;
        if !plain || !y.state.receives() {
            return false;
        }
        let Some(cold) = cold.get_mut(y.cold) else {
            // The side's first bytes.
            let none = y.cold == NO_COLD;
            return none && self.cold_of(id, to).is_some() && self.store_plain(id, to, at, seq, len);
        };
        let p = &prepared[at].parsed;
        let (first, len) = (p.payload as usize, len as usize);
        let frame = if cur.edited && at == cur.at { edit.as_slice() } else { io.frame(&batch[at]) };
        let Some(bytes) = frame.get(first..first + len) else { return false };
        if p.payload_len as usize != len || len as u64 > left {
            return false;
        }
        let (tail, stream) = (y.tail(), &mut cold.stream);
        let Some(head) = stream.plan_plain(tail, len) else { return false };
        if head > stream.head(tail) {
            // Bytes go: announced ones are delivered first, and whoever has not read them hears of it.
            if y.has(Side::NEW_DATA) && stream.is_untold(tail, head) {
                return false;
            }
            if interest & on_null(ON_ERROR) != 0 && !sockets.all_read(first_socket, to, head) {
                return false;
            }
        }
        let (mut held, mut holds) = (0, 0);
        if !stream.take_short(tail, bytes) {
            held = stream.allocated_bytes();
            if stream.take_plain(tail, bytes, Some(chunks)).is_err() {
                // A part of what it takes may have been had.
                holds = stream.allocated_bytes();
                self.account(held, holds);
                return false;
            }
            holds = stream.allocated_bytes();
        }
        stream.mark_used();
        stats.stream_bytes += len as u64;
        y.set_tail(tail + len as u64);
        y.set(Side::NEW_DATA);
        queue(flow, id, to, due);
        self.account(held, holds);
        true
    }

    /// Stores what the ring takes at once of bytes `range` of a segment that begins at `start`.
    #[allow(clippy::too_many_arguments)]
    fn store_piece(
        &mut self,
        id: Id,
        to: usize,
        start: u64,
        range: Range<usize>,
        wire: usize,
        told: &Told,
        from: From,
    ) -> Piece {
        if self.cold_of(id, to).is_none() {
            return Piece::NoMemory;
        }
        let left = self.memory_left();
        let State { io, edit, batch, cur, flows, cold, aside, .. } = self;
        let (source, first) = match from {
            From::Packet(first) => {
                (if cur.edited { edit.as_slice() } else { io.frame(&batch[cur.at]) }, first)
            }
            From::Aside => (aside.as_slice(), 0),
        };
        let bytes = source.get(first + range.start..first + range.end).unwrap_or(&[]);
        let Some(flow) = flows.get_mut(id) else { return Piece::NoMemory };
        let y = &mut flow.sides[to];
        let Some(cold) = cold.get_mut(y.cold) else { return Piece::NoMemory };
        let found =
            accept(y, cold, start + range.start as u64, bytes, wire.saturating_sub(range.start), told, left);
        self.note_piece(id, to, found)
    }

    /// Copies bytes of the packet in process to where no callback reaches. `false`: no memory.
    fn put_aside(&mut self, range: Range<usize>) -> bool {
        let mut copy = Vec::new();
        let bytes = self.current_frame().get(range).unwrap_or(&[]);
        if copy.try_reserve_exact(bytes.len()).is_err() {
            self.stats.no_memory += 1;
            return false;
        }
        copy.extend_from_slice(bytes);
        self.aside = copy;
        true
    }

    fn note_piece(&mut self, id: Id, to: usize, found: Found) -> Piece {
        self.stats.stream_bytes += found.stored as u64;
        self.stats.refused_bytes += found.refused as u64;
        self.account(found.held, found.holds);
        if found.later {
            self.look_later(id, to);
        }
        found.piece
    }
}

/// Puts a side on the list of what the end of the iteration looks at, once.
#[inline]
fn queue(flow: &mut Flow, id: Id, side: usize, due: &mut VecDeque<(Id, u8)>) {
    let mut room = || due.len() < due.capacity() || due.try_reserve(1).is_ok();
    if flow.sides[side].has(Side::QUEUED) || !room() {
        return;
    }
    if !flow.sides[1 - side].has(Side::QUEUED) {
        flow.clear(Flow::SVR_DUE_FIRST);
        flow.set(if side == SVR { Flow::SVR_DUE_FIRST } else { 0 });
    }
    flow.sides[side].set(Side::QUEUED);
    due.push_back((id, side as u8));
}

/// What [`accept`] did, for the counters.
struct Found {
    piece: Piece,
    stored: usize,
    refused: usize,
    /// Bytes of memory before and after.
    held: usize,
    holds: usize,
    later: bool,
}

/// Stores what can be stored now of a segment at `off`.
fn accept(
    y: &mut Side,
    cold: &mut Cold,
    off: u64,
    bytes: &[u8],
    wire: usize,
    told: &Told,
    left: u64,
) -> Found {
    let nothing = |piece| Found { piece, stored: 0, refused: 0, held: 0, holds: 0, later: false };
    let tail = y.tail();
    let plan = cold.stream.plan(tail, off, bytes.len());
    if y.has(Side::NEW_DATA) && cold.stream.is_untold(tail, plan.evict_to) {
        cold.stream.mark_read(tail);
        return nothing(Piece::DeliverFirst);
    }
    if plan.evict_to > cold.stream.head(tail) && plan.evict_to > told.evict {
        cold.stream.mark_read(tail);
        return nothing(Piece::WillEvict(plan.evict_to));
    }
    if plan.refused > 0 && !told.refused {
        return nothing(Piece::Refused);
    }
    if bytes.len() as u64 > left {
        return nothing(Piece::NoMemory);
    }
    let (held, had_hole) = (cold.stream.allocated_bytes(), cold.stream.has_hole());
    let Ok(accepted) = cold.stream.accept(tail, off, bytes, wire) else {
        return Found { held, holds: cold.stream.allocated_bytes(), ..nothing(Piece::NoMemory) };
    };
    let buffered = cold.stream.is_buffered();
    if buffered {
        cold.stream.mark_used();
    }
    let mut later = false;
    if accepted.tail > tail {
        y.set_tail(accepted.tail);
        if buffered {
            y.set(Side::NEW_DATA);
            later = true;
        }
    }
    if cold.stream.has_hole() && !had_hole {
        y.clear(Side::HEARD);
    }
    Found {
        piece: Piece::Stored(accepted.consumed),
        stored: accepted.stored,
        refused: accepted.refused,
        held,
        holds: cold.stream.allocated_bytes(),
        later,
    }
}

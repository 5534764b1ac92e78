//! What the application asks of its connection (RFC 9293 3.9.1, 3.10), and what the network layer reports.

use super::*;

/// Which direction of a connection is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// No more reads: what comes is acknowledged and thrown away.
    Read,
    /// No more writes: a FIN follows the last byte.
    Write,
    /// Both.
    Both,
}

impl Tcb {
    /// Copies received bytes to `out`; how many. 0: the stream has ended, or `out` is empty. What was received in order can be
    /// read after an error.
    pub fn read(&mut self, now: u64, out: &mut [u8]) -> Result<usize, Refusal> {
        let count = self.peek(out)?;
        self.consume(now, count);
        Ok(count)
    }

    /// As [`Tcb::read`], without taking the bytes.
    pub fn peek(&self, out: &mut [u8]) -> Result<usize, Refusal> {
        if self.unread() > 0 || out.is_empty() {
            return Ok(self.recv.peek(out));
        }
        self.at_end()
    }

    /// What a read says when there is nothing to read.
    fn at_end(&self) -> Result<usize, Refusal> {
        if self.state.peer_closed() || self.recv.discard {
            return Ok(0);
        }
        match (self.cause, self.state) {
            (Some(cause), _) => Err(Refusal::Failed(cause)),
            // Over without an error: both ends have closed.
            (None, State::Closed) => Ok(0),
            _ => Err(Refusal::WouldBlock),
        }
    }

    /// The bytes a read would give, in pieces: for reads that copy to several places. Then [`Tcb::consume`].
    pub fn unread_slices(&self) -> impl Iterator<Item = &[u8]> {
        self.recv.slices()
    }

    /// Bytes that a read would give (FIONREAD). What came with the peer's SYN waits for the handshake (RFC 9293 3.10.3).
    pub fn unread(&self) -> usize {
        if self.state == State::SynRcvd { 0 } else { self.recv.unread() }
    }

    /// Takes `count` bytes that were looked at.
    pub fn consume(&mut self, now: u64, count: usize) {
        if count == 0 {
            return;
        }
        self.recv.consume(count, now, self.rtt.srtt());
        // RFC 9293 3.8.6.2.2: the peer is told when the window opened far enough.
        if self.state.receives() && self.recv.update_due(self.rcv_shift, self.max_payload()) {
            self.acks_due = self.acks_due.max(1);
        }
    }

    /// Takes bytes to send, as many as fit (at least one, or an error); how many. Before the handshake is over they wait for it
    /// (RFC 9293 3.10.2).
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        if let Some(cause) = self.cause {
            return Err(Refusal::Failed(cause));
        }
        if self.fin_queued {
            return Err(Refusal::Closed);
        }
        match self.state {
            State::SynSent | State::SynRcvd | State::Established | State::CloseWait => {}
            _ => return Err(Refusal::NotConnected),
        }
        match self.send.write(bytes) {
            Ok(0) if !bytes.is_empty() => Err(Refusal::WouldBlock),
            Ok(count) => Ok(count),
            Err(_) => Err(Refusal::OutOfMemory),
        }
    }

    /// Bytes that a write would take.
    pub fn write_room(&self) -> usize {
        let writes = matches!(self.state, State::Established | State::CloseWait) && !self.fin_queued;
        if writes { self.send.room() } else { 0 }
    }

    /// Bytes written and not yet acknowledged (SIOCOUTQ), the FIN not counted.
    pub fn unacknowledged(&self) -> usize {
        self.send.len()
    }

    /// Whether a write is worth a wake-up: a third of the buffer is free.
    pub(super) fn has_space(&self) -> bool {
        self.send.room() >= (self.send.limit as usize).div_ceil(3)
    }

    /// What the connection is ready for.
    pub fn readiness(&self) -> Readiness {
        let mut ready = Readiness::default();
        if self.unread() > 0 || self.at_end().is_ok() || self.cause.is_some() {
            ready |= Readiness::READABLE;
        }
        let over = self.state == State::Closed;
        let writes = matches!(self.state, State::Established | State::CloseWait);
        // After a shutdown a write has an answer at once, as on Linux.
        if over || (self.fin_queued && self.is_synchronized()) || (writes && self.has_space()) {
            ready |= Readiness::WRITABLE;
        }
        if self.state.peer_closed() || (over && self.state_was_synchronized()) {
            ready |= Readiness::READ_CLOSED;
        }
        if over || self.state == State::TimeWait || (self.fin_queued && self.state.peer_closed()) {
            ready |= Readiness::HUNG_UP;
        }
        if self.cause.is_some() {
            ready |= Readiness::ERROR;
        }
        ready
    }

    /// Whether the peer's SYN has come.
    pub(super) fn state_was_synchronized(&self) -> bool {
        self.recv.nxt > 0
    }

    /// Shuts a direction down. After [`Shutdown::Write`] the peer's direction stays open (half-close).
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), Refusal> {
        if !self.is_synchronized() && self.state != State::SynRcvd {
            return Err(Refusal::NotConnected);
        }
        // Who waits in that direction, or for the end of both, is to look again.
        if how != Shutdown::Write {
            self.recv.stop();
            self.events |= Events::FIN;
        }
        if how != Shutdown::Read {
            self.queue_fin();
            self.events |= Events::SPACE;
            if self.state.peer_closed() {
                self.events |= Events::FIN;
            }
        }
        Ok(())
    }

    /// No more is written: the state that follows (RFC 9293 3.10.4).
    fn queue_fin(&mut self) {
        if self.fin_queued {
            return;
        }
        match self.state {
            // Waits for the handshake.
            State::SynRcvd => {}
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => return,
        }
        self.fin_queued = true;
    }

    /// The application is done with the connection (RFC 9293 3.10.4): what was written is still delivered, then the FIN.
    /// Bytes it has not read, or that come later, are answered with a reset (3.6.1): the peer must not take them for received.
    pub fn close(&mut self, now: u64) {
        if self.closed {
            return;
        }
        self.closed = true;
        match self.state {
            State::SynSent => self.end(None),
            State::Closed | State::Listen => {}
            // In TIME_WAIT the peer has forgotten the connection.
            State::TimeWait => {}
            _ if self.recv.unread() > 0 => self.end_with_reset(None),
            _ => {
                self.queue_fin();
                if self.state == State::FinWait2 {
                    self.close_at = now.saturating_add(self.config.fin_wait_2);
                }
            }
        }
        self.recv.stop();
    }

    /// Ends the connection at once (RFC 9293 3.10.5), also for a close with a linger time of zero: data is thrown away and the
    /// peer gets a reset, which the next [`Tcb::poll_transmit`] hands out.
    pub fn abort(&mut self) {
        self.closed = true;
        match self.state {
            // The peer has said its last word, and has ours: nothing to reset (3.10.5).
            State::Closing | State::LastAck | State::TimeWait => self.end(None),
            _ => self.end_with_reset(Some(Cause::Aborted)),
        }
        self.recv.stop();
    }

    /// Whether everything written, and the FIN, is acknowledged: what a lingering close waits for.
    pub fn is_drained(&self) -> bool {
        self.state == State::Closed || self.fin_acked()
    }

    // ---- Options --------------------------------------------------------------------------------------------

    /// `TCP_NODELAY`.
    pub fn set_nodelay(&mut self, on: bool) {
        self.nodelay = on;
    }

    /// `SO_KEEPALIVE`.
    pub fn set_keepalive(&mut self, on: bool) {
        self.keepalive = on;
        self.keepalives = 0;
    }

    /// Whether `TCP_NODELAY` and `SO_KEEPALIVE` are on.
    pub fn asked(&self) -> (bool, bool) {
        (self.nodelay, self.keepalive)
    }

    /// `SO_SNDBUF`. What is buffered stays.
    pub fn set_send_limit(&mut self, bytes: u32) {
        self.send.limit = bytes.max(1);
    }

    /// `SO_RCVBUF`. What was offered to the peer stays so; the window's scale is that of the handshake.
    pub fn set_recv_limit(&mut self, bytes: u32) {
        self.recv.set_max(bytes);
    }

    /// Most bytes written and unacknowledged, most bytes received and unread.
    pub fn limits(&self) -> (u32, u32) {
        (self.send.limit, self.recv.max())
    }

    // ---- Memory ---------------------------------------------------------------------------------------------

    /// Memory behind what was written and behind what was received.
    pub fn held(&self) -> (usize, usize) {
        (self.send.allocated_bytes(), self.recv.allocated_bytes())
    }

    /// Bytes that may be received as [`Tcb::set_room`] said; those that nobody will read need none.
    pub fn room(&self) -> usize {
        if self.recv.discard { usize::MAX } else { self.recv.room as usize }
    }

    /// No more than `bytes` may be received from now on beyond what is held: the window opens no further, and what comes beyond is
    /// refused. While memory is `scarce`, so is what is not in order.
    pub fn set_room(&mut self, bytes: usize, scarce: bool) {
        self.recv.room = bytes.try_into().unwrap_or(u32::MAX);
        self.recv.scarce = scarce;
    }

    /// There may be more room than the peer knows: it hears, if that is worth it (RFC 9293 3.8.6.2.2).
    pub fn tell_room(&mut self) {
        if self.state.receives() && self.recv.update_due(self.rcv_shift, self.max_payload()) {
            self.acks_due = self.acks_due.max(1);
        }
    }

    /// A segment has come for which there is no room. If it is the next one, what lies ahead of it gives way: that comes again
    /// (RFC 2018 8). Whether anything did.
    pub fn make_room(&mut self, seg: &Segment<'_>) -> bool {
        let next = seq::unwrap(seg.seq, self.irs, self.recv.nxt) <= self.recv.nxt as i64;
        let gives = next && seg.payload.len() > self.room() && self.recv.has_hole();
        if gives {
            self.recv.drop_ahead();
        }
        gives
    }

    // ---- From below -----------------------------------------------------------------------------------------

    /// The network says for certain that the peer cannot be reached: a connection that is being opened fails.
    pub fn fail(&mut self, cause: Cause) {
        if matches!(self.state, State::SynSent | State::SynRcvd) {
            self.end(Some(cause));
        }
    }

    /// An ICMP error came about the segment that began with `seq`.
    pub fn on_icmp(&mut self, icmp: Icmp, seq: u32) {
        // RFC 5927 4.1: it must be about something in flight.
        let offset = seq::unwrap(seq, self.iss, self.snd.una);
        if self.state == State::Closed || offset < self.snd.una as i64 || offset >= self.snd.max as i64 {
            return;
        }
        let opening = matches!(self.state, State::SynSent | State::SynRcvd);
        match icmp {
            Icmp::TooBig(mtu) => self.shrink(mtu),
            // RFC 1122 4.2.3.9: hard errors abort; RFC 5927 5.2: not a connection that has been established.
            Icmp::PortUnreachable if opening => self.end(Some(Cause::Refused)),
            Icmp::PortUnreachable | Icmp::HostUnreachable => self.soft = Some(Cause::HostUnreachable),
            Icmp::NetUnreachable => self.soft = Some(Cause::NetUnreachable),
        }
    }

    /// Path MTU discovery (RFC 1191 6): smaller segments from now on; those in flight were too big and are sent again.
    fn shrink(&mut self, mtu: u16) {
        // A router that does not say gets the next plateau below (RFC 1191 7).
        let mtu = if mtu == 0 { next_plateau(self.mss.saturating_add(40)) } else { mtu };
        let mss = mtu.max(self.config.mtu_floor).saturating_sub(40).max(self.config.mss_floor);
        if mss < self.mss {
            self.mss = mss;
            self.resend_all();
        }
    }

    /// The path's MTU, as the IP layer has learned it: bounds the segments to come.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.shrink(mtu.max(68));
    }
}

/// RFC 1191 7.1, the common ones.
fn next_plateau(mtu: u16) -> u16 {
    [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508]
        .into_iter()
        .find(|plateau| *plateau < mtu)
        .unwrap_or(296)
}

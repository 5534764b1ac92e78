//! What is worth keeping of a connection in TIME_WAIT that its application has closed: a fraction of its size. When a segment still
//! comes for it, the connection is made again from that, answers, and goes back to rest.

use super::*;

/// A connection in TIME_WAIT, at rest.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    snd_nxt: u64,
    max_wnd: u32,
    rcv_nxt: u64,
    edge: u64,
    ts_recent_at: u64,
    close_at: u64,
    challenged_at: u64,
    iss: u32,
    irs: u32,
    ts_offset: u32,
    ts_recent: u32,
    mss: u16,
    snd_shift: u8,
    rcv_shift: u8,
    challenges: u8,
    timestamps: bool,
    sack: bool,
    scaling: bool,
    active: bool,
}

impl Rest {
    /// When TIME_WAIT is over, µs.
    pub fn deadline(&self) -> u64 {
        self.close_at
    }
}

impl Tcb {
    /// What to keep, if nothing else is left to do but to wait (RFC 9293 3.6.1: both ends have said and heard everything).
    pub fn rest(&mut self) -> Option<Rest> {
        if self.state != State::TimeWait || !self.closed || self.wants_transmit() {
            return None;
        }
        Some(Rest {
            snd_nxt: self.snd.nxt,
            max_wnd: self.snd.max_wnd,
            rcv_nxt: self.recv.nxt,
            edge: self.recv.edge,
            ts_recent_at: self.ts_recent_at,
            close_at: self.close_at,
            challenged_at: self.challenged_at,
            iss: self.iss,
            irs: self.irs,
            ts_offset: self.ts_offset,
            ts_recent: self.ts_recent,
            mss: self.mss,
            snd_shift: self.snd_shift,
            rcv_shift: self.rcv_shift,
            challenges: self.challenges,
            timestamps: self.timestamps,
            sack: self.sack,
            scaling: self.scaling,
            active: self.active,
        })
    }

    /// The connection that was put to rest.
    pub fn from_rest(config: Arc<Config>, now: u64, rest: &Rest) -> Self {
        let mut tcb = Tcb::new(config, now, &Open::new(rest.iss), State::TimeWait);
        tcb.active = rest.active;
        tcb.timestamps = rest.timestamps;
        tcb.sack = rest.sack;
        tcb.scaling = rest.scaling;
        (tcb.snd_shift, tcb.rcv_shift) = (rest.snd_shift, rest.rcv_shift);
        (tcb.fin_queued, tcb.closed, tcb.syn_due) = (true, true, false);
        (tcb.irs, tcb.ts_offset, tcb.mss) = (rest.irs, rest.ts_offset, rest.mss);
        (tcb.snd.una, tcb.snd.nxt, tcb.snd.max) = (rest.snd_nxt, rest.snd_nxt, rest.snd_nxt);
        (tcb.snd.max_wnd, tcb.snd.wl1, tcb.snd.wl2) = (rest.max_wnd, rest.rcv_nxt, rest.snd_nxt);
        tcb.send.begin_at(rest.snd_nxt.saturating_sub(1));
        (tcb.recv.nxt, tcb.recv.edge, tcb.last_ack) = (rest.rcv_nxt, rest.edge, rest.rcv_nxt);
        tcb.recv.stop();
        (tcb.ts_recent, tcb.ts_recent_at) = (rest.ts_recent, rest.ts_recent_at);
        (tcb.challenged_at, tcb.challenges) = (rest.challenged_at, rest.challenges);
        tcb.close_at = rest.close_at;
        tcb
    }
}

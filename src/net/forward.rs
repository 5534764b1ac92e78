//! Sending packets on: the NIC forwarding table as a transparent bump in the wire (D16).

use crate::monitor::State;
use crate::monitor::process::Fate;
use crate::net::prepare::Sum;
use crate::wire::checksum;
use crate::wire::parse::Class;

/// Sends the packet on, or counts why not.
pub fn packet(st: &mut State, at: usize, fate: Fate, forward: bool) {
    match fate {
        Fate::Malformed => st.stats.drop_malformed += 1,
        Fate::Consume => st.stats.consumed += 1,
        Fate::Forward if !forward => st.stats.drop_config += 1,
        Fate::Forward if st.cur.dropped => st.stats.drop_callback += 1,
        Fate::Forward => send(st, at),
    }
}

fn send(st: &mut State, at: usize) {
    let Some(to) = st.io.mate(st.batch[at].dev) else {
        st.stats.drop_no_route += 1;
        return;
    };
    let p = st.prepared[at].parsed;
    if st.prepared[at].sum == Sum::Unfinished && !complete(st, at) {
        st.stats.drop_memory += 1;
        return;
    }
    let State { io, edit, cur, batch, stats, .. } = st;
    let edited = cur.edited.then_some(edit.as_slice());
    // Padding behind the IP packet stays behind (monitor.md §2.4).
    let end = if p.is_ipv4() { p.end() } else { usize::MAX };
    match io.send_frame(to, &batch[at], edited, end) {
        Some(sent) => {
            stats.forwarded += 1;
            stats.forwarded_bytes += sent as u64;
        }
        None => stats.drop_tx += 1,
    }
}

/// Fills in the TCP checksum that the sender left to its network card. `false`: no memory.
fn complete(st: &mut State, at: usize) -> bool {
    let p = st.prepared[at].parsed;
    let State { io, edit, cur, batch, .. } = st;
    if !cur.edited {
        let frame = io.frame(&batch[at]);
        edit.clear();
        if edit.try_reserve(frame.len()).is_err() {
            return false;
        }
        edit.extend_from_slice(frame);
        cur.edited = true;
    }
    if let Some(ip) = edit.get_mut(p.l3 as usize..)
        && p.class == Class::Tcp
        && !checksum::tcp_ok(ip, p.ihl, p.ip_len)
    {
        // What cannot be completed was cut or edited out of shape: it leaves as it is.
        let _ = checksum::fill_tcp(ip);
    }
    true
}

/// Ends the iteration's sending: what was forwarded leaves, then what callbacks queued.
pub fn outbox(st: &mut State) {
    let (lost, bytes, mut waiting) = st.io.flush();
    st.stats.forwarded -= lost.min(st.stats.forwarded);
    st.stats.forwarded_bytes -= bytes.min(st.stats.forwarded_bytes);
    st.stats.drop_tx += lost;
    if !st.outbox.is_empty() {
        let (mut lost, mut lost_bytes) = (0, 0);
        for (to, frame) in std::mem::take(&mut st.outbox) {
            let now = st.now_ns;
            if st.io.send(to, now, &frame).is_none() {
                lost += 1;
                lost_bytes += frame.len() as u64;
            }
        }
        let (more, more_bytes, wait) = st.io.flush();
        (lost, lost_bytes, waiting) = (lost + more, lost_bytes + more_bytes, waiting | wait);
        st.stats.sent_packets -= lost.min(st.stats.sent_packets);
        st.stats.sent_bytes -= lost_bytes.min(st.stats.sent_bytes);
        st.stats.sent_lost += lost;
    }
    st.tx_waiting = waiting;
}

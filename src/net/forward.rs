//! Sending packets on: the NIC forwarding table as a transparent bump in the wire (D16).

use crate::monitor::State;
use crate::monitor::process::Fate;

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

/// Sends what callbacks queued.
pub fn outbox(st: &mut State) {
    if st.outbox.is_empty() {
        return;
    }
    for (to, frame) in std::mem::take(&mut st.outbox) {
        let now = st.now_ns;
        if st.io.send(to, now, &frame).is_none() {
            st.stats.drop_tx += 1;
        }
    }
}

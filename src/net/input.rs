//! Packets for this host below TCP: ARP and ICMP of ports with an own address, bump in the wire or not (mOS issue #1).

use crate::monitor::State;
use crate::net::forward;
use crate::net::prepare::Sum;
use crate::wire::ipv4;
use crate::wire::parse::Class;

/// A frame that is not IPv4. Whether it was for us; ARP for others is learned from all the same.
#[inline(never)]
pub fn frame(st: &mut State, at: usize) -> bool {
    let State { host, io, batch, .. } = st;
    let rx = &batch[at];
    let taken = host.arp(io.port_of(rx.dev), io.frame(rx), st.now_ms);
    forward::settle(st);
    taken
}

/// An IPv4 packet that is not TCP. Whether it was taken: whole ICMP messages to an own address are.
#[inline(never)]
pub fn datagram(st: &mut State, at: usize) -> bool {
    let prep = &st.prepared[at];
    let p = prep.parsed;
    let ours = p.class == Class::OtherIpv4
        && p.proto == ipv4::PROTO_ICMP
        && prep.sum == Sum::Good
        && !p.truncated
        && !st.cur.dropped
        && st.host.local.is_own(p.dst);
    if !ours {
        return false;
    }
    if st.host.local.answers(p.dst) {
        let State { host, io, batch, edit, cur, .. } = st;
        let rx = &batch[at];
        let frame = if cur.edited { edit.as_slice() } else { io.frame(rx) };
        let packet = &frame[usize::from(p.l3)..p.end()];
        if !host.icmp(io.port_of(rx.dev), frame, packet, st.now_ms) {
            st.stats.echo_limited += 1;
        }
        forward::settle(st);
    }
    true
}

//! Sending packets on: by the NIC forwarding table, as a transparent bump in the wire (D16), else by route and ARP.
//!
//! The time to live is left as it is, also by route, as it ever was: to its users the box is no hop, the packet a
//! callback saw is the packet that leaves, and its checksums are the application's. A loop of such boxes is the
//! configuration's to avoid; what is kept from here is the loop that needs no second box: a packet that was not
//! addressed to us never goes back to the link it came from, where its addressee heard it already.

use super::host::Next;
use super::route::Hop;
use super::waiting::Lost;
use crate::monitor::Result;
use crate::monitor::State;
use crate::monitor::process::Fate;
use crate::net::prepare::Sum;
use crate::wire::checksum;
use crate::wire::ethernet::{self, Ethernet, HEADER_LEN};
use crate::wire::ipv4;
use crate::wire::parse::Class;
use crate::wire::udp;

/// Bytes that a VLAN tag adds to a frame (IEEE 802.1Q).
const VLAN_TAG: usize = 4;

/// Sends the packet on, or counts why not.
#[inline(always)]
pub fn packet(st: &mut State, at: usize, fate: Fate, forward: bool) {
    match fate {
        Fate::Malformed => st.stats.drop_malformed += 1,
        Fate::Consume => st.stats.consumed += 1,
        Fate::Forward if !forward => st.stats.drop_config += 1,
        Fate::Forward if st.cur.dropped => st.stats.drop_callback += 1,
        Fate::Forward => send(st, at),
    }
}

#[inline(always)]
fn send(st: &mut State, at: usize) {
    let Some(to) = st.io.mate(st.batch[at].dev) else { return route(st, at) };
    let prep = &st.prepared[at];
    if st.cur.edited || prep.sum == Sum::Unfinished {
        return send_edited(st, at, to);
    }
    let p = &prep.parsed;
    // Padding behind the IP packet stays behind (monitor.md §2.4).
    let end = if p.is_ipv4() { p.end() } else { usize::MAX };
    let State { io, batch, stats, .. } = st;
    match io.send_frame(to, &batch[at], end) {
        Some(sent) => {
            stats.forwarded += 1;
            stats.forwarded_bytes += sent as u64;
        }
        None => not_taken(st, at, to, end),
    }
}

/// The output takes the first `end` bytes of a packet not now, or, because of their number, never.
#[cold]
fn not_taken(st: &mut State, at: usize, to: u8, end: usize) {
    let len = end.min(st.io.frame(&st.batch[at]).len());
    let mtu = st.host.local.port(to).and_then(|p| p.mtu);
    if is_too_long(st.io.frame(&st.batch[at]), len, mtu) {
        st.stats.drop_too_long += 1;
    } else {
        st.stats.drop_tx += 1;
    }
}

/// Whether a port with this MTU never takes `len` bytes of a frame. A VLAN tag is no part of what the MTU counts.
#[inline]
fn is_too_long(frame: &[u8], len: usize, mtu: Option<u16>) -> bool {
    let Some(most) = mtu.map(|mtu| HEADER_LEN + usize::from(mtu)) else { return false };
    let tagged = || Ethernet::new(frame).is_some_and(|e| e.ethertype() == ethernet::TYPE_VLAN);
    len > most && (len > most + VLAN_TAG || !tagged())
}

/// [`packet`] where it is not the rule.
#[inline(never)]
pub fn rare_packet(st: &mut State, at: usize, fate: Fate, forward: bool) {
    packet(st, at, fate, forward);
}

/// Sends on what callbacks edited, or what is to be completed here.
#[inline(never)]
fn send_edited(st: &mut State, at: usize, to: u8) {
    if st.cur.edited
        && let Some(hop) = new_next_hop(st, at)
    {
        return send_by(st, at, hop);
    }
    if complete(st, at).is_err() {
        return;
    }
    let p = st.prepared[at].parsed;
    let end = if p.is_ipv4() { p.end() } else { st.edit.len() };
    send_edit(st, at, to, end);
}

/// The first `end` bytes of the edited frame leave by `to`, if it takes them.
fn send_edit(st: &mut State, at: usize, to: u8, end: usize) {
    let end = end.min(st.edit.len());
    let mtu = st.host.local.port(to).and_then(|p| p.mtu);
    let State { io, edit, batch, stats, .. } = st;
    if is_too_long(edit, end, mtu) {
        stats.drop_too_long += 1;
        return;
    }
    match io.send(to, batch[at].ts_ns, &edit[..end]) {
        Some(sent) => {
            stats.forwarded += 1;
            stats.forwarded_bytes += sent as u64;
        }
        None => stats.drop_tx += 1,
    }
}

/// Moves the packet to where it can be written to, and fills in the checksum that the sender left to its network
/// card. An error is counted.
fn complete(st: &mut State, at: usize) -> Result<()> {
    // One that passed the monitor silently was never the packet in process.
    st.cur.at = at;
    st.edit_buffer().inspect_err(|_| st.stats.drop_memory += 1)?;
    let p = st.prepared[at].parsed;
    if st.prepared[at].sum == Sum::Unfinished
        && let Some(ip) = st.edit.get_mut(p.l3 as usize..)
    {
        // What cannot be completed was cut or edited out of shape: it leaves as it is.
        let _ = match p.class {
            Class::Tcp if !checksum::tcp_ok(ip, p.ihl, p.ip_len) => checksum::fill_tcp(ip),
            Class::OtherIpv4 if udp::is_unfinished(ip) => udp::fill_checksum(ip),
            _ => None,
        };
    }
    Ok(())
}

/// A packet whose addresses callbacks changed (NAT) is for another next hop than the one it was handed to us for: by
/// route, if there is one and its hardware address is to be had. Else the addresses stay as the callbacks left them.
fn new_next_hop(st: &State, at: usize) -> Option<Hop> {
    let p = st.prepared[at].parsed;
    let before = st.io.frame(&st.batch[at]);
    let l3 = usize::from(p.l3);
    let addrs = |frame: &[u8]| {
        frame.get(l3 + ipv4::OFF_SRC..l3 + ipv4::OFF_SRC + 8).and_then(|b| <[u8; 8]>::try_from(b).ok())
    };
    let same_macs = before.get(..12) == st.edit.get(..12);
    if !p.is_ipv4() || !same_macs || addrs(before) == addrs(&st.edit) {
        return None;
    }
    st.host.next_hop(p.dst_addr()).filter(|&hop| st.host.can_resolve(hop))
}

/// Sends the packet where the routes say.
#[inline(never)]
fn route(st: &mut State, at: usize) {
    let p = st.prepared[at].parsed;
    if p.is_ipv4() && st.host.local.is_own(p.dst) {
        // Nobody else is to have it.
        st.stats.consumed += 1;
        return;
    }
    let hop = if p.is_ipv4() { st.host.next_hop(p.dst_addr()) } else { None };
    let dev = st.batch[at].dev;
    let from = st.io.port_of(dev);
    match hop {
        Some(hop) if hop.port != from || addressed_to_us(st, at, from) => send_by(st, at, hop),
        _ => st.stats.drop_no_route += 1,
    }
}

fn addressed_to_us(st: &State, at: usize, port: u8) -> bool {
    let frame = st.io.frame(&st.batch[at]);
    st.host.local.port(port).is_some_and(|p| frame.get(..6) == Some(&p.mac))
}

/// Hands the packet to a next hop, or lets it wait for its hardware address.
fn send_by(st: &mut State, at: usize, hop: Hop) {
    // What waited longer goes first.
    st.host.tick(st.now_ms);
    settle(st);
    let end = st.prepared[at].parsed.end();
    match st.host.resolve(hop, st.now_ms) {
        Next::Mac(mac) => {
            if complete(st, at).is_err() {
                return;
            }
            let State { host, edit, .. } = st;
            host.write_macs(hop.port, mac, edit);
            send_edit(st, at, hop.port, end);
        }
        Next::Wait => hold(st, at, hop, end),
        Next::Never => st.stats.drop_unresolved += 1,
    }
    settle(st);
}

fn hold(st: &mut State, at: usize, hop: Hop, end: usize) {
    if st.prepared[at].sum == Sum::Unfinished && complete(st, at).is_err() {
        return;
    }
    let frame = st.frame(at);
    let frame = &frame[..end.min(frame.len())];
    let mtu = st.host.local.port(hop.port).and_then(|p| p.mtu);
    if is_too_long(frame, frame.len(), mtu) {
        st.stats.drop_too_long += 1;
        return;
    }
    let mut copy = Vec::new();
    if copy.try_reserve_exact(frame.len()).is_err() {
        st.stats.drop_memory += 1;
        return;
    }
    copy.extend_from_slice(frame);
    st.host.hold(hop, copy, true, st.now_ms);
}

/// Sends what the host has made ready, and counts what it lost.
#[inline]
pub fn settle(st: &mut State) {
    let host = &st.host;
    if !host.ready.is_empty() || host.lost != Lost::default() || host.waiting() != st.stats.waiting {
        settle_now(st);
    }
}

#[inline(never)]
fn settle_now(st: &mut State) {
    let mut ready = std::mem::take(&mut st.host.ready);
    for out in ready.drain(..) {
        let (len, sent) = (out.frame.len() as u64, st.io.send(out.port, st.now_ns, &out.frame).is_some());
        let s = &mut st.stats;
        match (out.forwarded, sent) {
            (true, true) => (s.forwarded, s.forwarded_bytes) = (s.forwarded + 1, s.forwarded_bytes + len),
            (true, false) => s.drop_tx += 1,
            (false, true) => (s.sent_packets, s.sent_bytes) = (s.sent_packets + 1, s.sent_bytes + len),
            (false, false) => s.sent_lost += 1,
        }
    }
    st.host.ready = ready;
    let lost = std::mem::take(&mut st.host.lost);
    st.stats.drop_unresolved += lost.forwarded;
    st.stats.sent_lost += lost.own;
    st.stats.waiting = st.host.waiting();
}

/// At the end of an iteration: what was forwarded leaves, then what callbacks queued and what waited.
pub fn outbox(st: &mut State) {
    let (lost, bytes, mut waiting) = st.io.flush();
    st.stats.take_back_sent(lost, bytes);
    st.host.tick(st.now_ms);
    if !st.host.ready.is_empty() || st.host.lost != Lost::default() {
        settle_now(st);
        let (lost, bytes, wait) = st.io.flush();
        st.stats.take_back_sent(lost, bytes);
        waiting |= wait;
    }
    st.tx_waiting = waiting;
}

/// The core ends: what waits is given up.
pub fn abandon(st: &mut State) {
    st.host.abandon();
    outbox(st);
    settle(st);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Mos};
    use crate::io::live::{Live, LiveDevice};
    use crate::io::memory::Cable;
    use crate::io::output::Output;
    use crate::io::source::{Port, Source};
    use crate::monitor::state::ForeignCalls;
    use crate::net::host::Host;
    use crate::net::local::{Local, LocalPort, made_up_mac};
    use crate::net::prepare;
    use crate::runtime::context::Context;
    use std::sync::Arc;

    /// As a bump in the wire, with a device behind that takes no frame over its MTU.
    #[test]
    fn what_a_device_never_takes_is_too_long_and_not_too_much() {
        for native in [false, true] {
            let cables = [Cable::default(), Cable::default()];
            cables[1].takes_bytes(1514);
            let device = |n: usize| LiveDevice::new(n as u8, true, Box::new(cables[n].device(native)));
            let port = |mate, n| Port { mate, output: Some(Output::Device(n)), ..Port::default() };
            let ports = vec![port(Some(1), 0), port(Some(0), 1)];
            let calls = ForeignCalls { callback: |_, _, _, _, _, _| {}, filter: |_, _, _, _, _, _| false };
            let config = Arc::new(Config { apps: Vec::new(), mos: Mos::default() });
            let source = Source::live(Live::new(vec![device(0), device(1)]), ports);
            let mut context = Context::detached(0, config, calls, source);
            let st = context.monitor.cell.get_mut();
            let local = |n| LocalPort { mac: made_up_mac(n), own: None, mtu: Some(1500) };
            let local = Arc::new(Local::new(vec![local(0), local(1)]));
            st.host = Host::new(local, Arc::default(), Arc::default(), 1);
            let mut pass_typed = |frames: usize, len: usize, kind: u16| {
                let mut frame = vec![0x88; len];
                frame[ethernet::OFF_TYPE..HEADER_LEN].copy_from_slice(&kind.to_be_bytes());
                for _ in 0..frames {
                    cables[0].arrive(&frame);
                }
                prepare::receive(st, false);
                prepare::batch(st, false);
                for at in 0..st.batch.len() {
                    packet(st, at, Fate::Forward, true);
                }
                let s = &st.stats;
                (s.forwarded, s.drop_too_long, s.drop_tx)
            };
            let mut pass = |frames: usize, len: usize| pass_typed(frames, len, 0x8888);
            assert_eq!(pass(2, 1514), (2, 0, 0), "native: {native}");
            assert_eq!(pass(2, 1515), (2, 2, 0), "native: {native}");
            cables[1].takes(0);
            assert_eq!(pass(64, 60), (64, 2, 2), "native: {native}");
            // Its tag is no part of what the MTU counts.
            assert_eq!(pass_typed(1, 1518, ethernet::TYPE_VLAN), (64, 2, 3), "native: {native}");
            assert_eq!(pass_typed(1, 1519, ethernet::TYPE_VLAN), (64, 3, 3), "native: {native}");
            cables[1].goes_down();
            assert_eq!(pass_typed(1, 60, 0x8888), (64, 3, 4), "native: {native}");
        }
    }
}

//! Below TCP: forwarding by pair and by route, ARP and ICMP of ports with an address, packets of our own, and the counters
//! that say what became of each packet (monitor.md §2.4–2.6, endpoint-io.md §5; D15, D16, D20, D22; mOS issues #1, #4, #18).

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;
use mos::config::{ArpEntry, Mos, NetDev, Route};
use mos::flow::hash::FlowHash;
use mos::io::device::Vouch;
use mos::net::prepare::{Prepared, Sum};
use std::net::Ipv4Addr;

/// Our address on the client's link.
const LAN: [u8; 4] = [10, 0, 0, 254];
/// Our address on the server's link.
const WAN: [u8; 4] = [10, 0, 1, 254];
const LAN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const WAN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ANY_MAC: [u8; 6] = [0xff; 6];

fn netdev(name: &str, addr: Option<[u8; 4]>, mac: [u8; 6]) -> NetDev {
    NetDev { name: name.into(), mask: 1, addr: addr.map(|a| (a.into(), 24)), mac: Some(mac) }
}

fn with_addresses(mos: &mut Mos) {
    mos.netdevs = vec![netdev("client", Some(LAN), LAN_MAC), netdev("server", Some(WAN), WAN_MAC)];
}

/// Routes and fixed neighbours, no address of our own: how configurations for the C library do it.
fn with_fixed_neighbours(mos: &mut Mos) {
    mos.netdevs = vec![netdev("client", None, LAN_MAC), netdev("server", None, WAN_MAC)];
    let route = |net: [u8; 4], device: &str| Route {
        addr: net.into(),
        prefix: 24,
        gateway: None,
        device: device.into(),
    };
    mos.routes = vec![route([10, 0, 0, 0], "client"), route([10, 0, 1, 0], "server")];
    let arp = |addr: [u8; 4], mac| ArpEntry { addr: addr.into(), prefix: 32, mac };
    mos.arp = vec![arp(CLIENT.0, CLIENT_MAC), arp(SERVER.0, SERVER_MAC)];
}

/// Two ports that are no pair: packets go by route.
fn routed(change: impl FnOnce(&mut Mos)) -> Lab {
    let mut lab = Lab::between(change, |port| port.mate = None);
    lab.listen();
    lab
}

/// An ARP frame as it arrives; a request or a reply.
fn arp(dev: u8, reply: bool, sender_mac: [u8; 6], sender: [u8; 4], to: [u8; 6], target: [u8; 4]) -> Frame {
    let mut f = [&to[..], &sender_mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + reply as u8]].concat();
    f.extend([&sender_mac[..], &sender, if reply { &to } else { &[0; 6] }, &target].concat());
    f.resize(60, 0);
    Frame { dev, bytes: f }
}

fn arp_reply(dev: u8, mac: [u8; 6], addr: [u8; 4]) -> Frame {
    let (to, target) = if dev == CLIENT_DEV { (LAN_MAC, LAN) } else { (WAN_MAC, WAN) };
    arp(dev, true, mac, addr, to, target)
}

fn cut(mut frame: Frame, len: usize) -> Frame {
    frame.bytes.truncate(len);
    frame
}

/// Hardware addresses of a frame: destination, source.
fn macs(f: &[u8]) -> ([u8; 6], [u8; 6]) {
    (f[..6].try_into().unwrap(), f[6..12].try_into().unwrap())
}

/// `who-has` in a frame of ours: target and sender.
fn asked(f: &[u8]) -> ([u8; 4], [u8; 4]) {
    assert_eq!((&f[12..14], f[21], macs(f).0), (&[8, 6][..], 1, ANY_MAC), "an ARP request");
    (f[38..42].try_into().unwrap(), f[28..32].try_into().unwrap())
}

/// An echo request from the client to `dst`.
fn ping(dst: [u8; 4], id: u16) -> Frame {
    let mut f = icmp().bytes;
    f[30..34].copy_from_slice(&dst);
    f[38..40].copy_from_slice(&id.to_be_bytes());
    f.extend_from_slice(b"data");
    f[16..18].copy_from_slice(&32u16.to_be_bytes());
    ip_sum(&mut f);
    icmp_sum(&mut f);
    Frame { dev: CLIENT_DEV, bytes: f }
}

/// The Internet checksum of `bytes`, whose own field is zero.
fn internet_sum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

fn ip_sum(f: &mut [u8]) {
    f[24..26].fill(0);
    let sum = internet_sum(&f[14..34]);
    f[24..26].copy_from_slice(&sum);
}

fn icmp_sum(f: &mut [u8]) {
    f[36..38].fill(0);
    let sum = internet_sum(&f[34..]);
    f[36..38].copy_from_slice(&sum);
}

/// A UDP datagram from the client to `dst`.
fn udp_to(dst: [u8; 4]) -> Frame {
    let mut frame = udp();
    frame.bytes[30..34].copy_from_slice(&dst);
    ip_sum(&mut frame.bytes);
    frame
}

/// The frame as it arrives at a router: addressed to it.
fn to_us(packet: impl Into<Frame>) -> Frame {
    let mut frame: Frame = packet.into();
    let mac = if frame.dev == CLIENT_DEV { LAN_MAC } else { WAN_MAC };
    frame.bytes[..6].copy_from_slice(&mac);
    frame
}

#[test]
fn by_route_to_fixed_neighbours() {
    let mut lab = routed(with_fixed_neighbours);
    lab.packet(syn()).gives("SYN1");
    let out = lab.to_server();
    assert_eq!(macs(&out[0]), (SERVER_MAC, WAN_MAC), "the next hop's address, and our port's");
    assert_eq!(out[0][14..], syn().bytes()[14..], "the IP packet as it was: time to live, checksums");
    lab.feed([syn_ack()]);
    assert_eq!(macs(&lab.to_client()[0]), (CLIENT_MAC, LAN_MAC));
    let s = lab.stats();
    assert_eq!((s.forwarded, s.sent_packets), (2, 0));
}

/// Packets that nobody hears of pass the monitor quickly; each of them leaves all the same, not another of its burst.
#[test]
fn by_route_a_burst_that_nobody_hears_of() {
    let mut lab = Lab::between(with_fixed_neighbours, |port| port.mate = None);
    let sock = lab.socket(MOS_SOCK_MONITOR_STREAM);
    lab.register(sock, MOS_ON_CONN_END, MOS_HK_SND);
    lab.feed([syn(), syn_ack(), ack()]);
    lab.to_server();
    let _ = lab.batch([data(0, b"one"), data(3, b"two"), data(6, b"three")]);
    let payloads: Vec<Vec<u8>> = lab.to_server().iter().map(|f| f[54..].to_vec()).collect();
    assert_eq!(payloads, [&b"one"[..], b"two", b"three"]);
    let s = lab.stats();
    assert_eq!((s.rx_packets, s.forwarded, s.in_flow), (6, 6, 6));
}

/// A stack of this machine leaves checksums to its network card: they are to be completed on the way through, also where
/// none are verified.
#[test]
fn x5_unfinished_checksums_are_seen_also_unverified() {
    let sum_of = |frame: &[u8], verify, vouch| {
        Prepared::new(frame, frame.len() as u32, verify, vouch, &FlowHash::with_seed(1)).sum
    };
    let right = data(0, b"odd").bytes();
    let mut unfinished = right.clone();
    let pseudo = [&right[26..34], &[0, 6, 0, 23][..]].concat();
    unfinished[50..52].copy_from_slice(&internet_sum(&pseudo).map(|byte| !byte));
    let mut wrong = right.clone();
    wrong[50] ^= 1;
    // UDP's as well; behind a TCP checksum that is cut off, there is nothing to complete.
    let mut datagram = udp().bytes;
    let len = datagram.len() as u16 - 34;
    let pseudo = [&datagram[26..34], &[0, 17], &len.to_be_bytes()].concat();
    datagram[38..40].copy_from_slice(&len.to_be_bytes());
    datagram[40..42].copy_from_slice(&internet_sum(&pseudo).map(|byte| !byte));
    for verify in [true, false] {
        assert_eq!(sum_of(&datagram, verify, Vouch::Local), Sum::Unfinished);
        assert_eq!(sum_of(&datagram, verify, Vouch::Unknown), Sum::Good);
        assert_eq!(sum_of(&udp().bytes, verify, Vouch::Local), Sum::Good);
    }
    for (vouch, verify, of_unfinished, of_wrong) in [
        (Vouch::Local, true, Sum::Unfinished, Sum::BadTcp),
        (Vouch::Local, false, Sum::Unfinished, Sum::Good),
        (Vouch::Unknown, true, Sum::BadTcp, Sum::BadTcp),
        (Vouch::Unknown, false, Sum::Good, Sum::Good),
    ] {
        let sums = [&right, &unfinished, &wrong].map(|frame| sum_of(frame, verify, vouch));
        assert_eq!(sums, [Sum::Good, of_unfinished, of_wrong], "{vouch:?}, verified: {verify}");
    }
}

#[test]
fn by_route_whatever_is_in_the_packet() {
    let mut lab = routed(with_fixed_neighbours);
    let fragment = syn().bent(|f| {
        f[20] = 0x20;
        ip_sum(f);
    });
    lab.packet(udp()).gives("");
    lab.packet(fragment).gives("");
    lab.packet(ping(SERVER.0, 1)).gives("");
    assert_eq!(lab.to_server().iter().map(|f| macs(f)).collect::<Vec<_>>(), [(SERVER_MAC, WAN_MAC); 3]);
    lab.packet(ethernet(0x86dd, 60)).gives("");
    assert_eq!(lab.sent(), 0, "only the forwarding table carries what is not IPv4");
    let s = lab.stats();
    assert_eq!((s.in_non_tcp, s.in_fragment, s.in_non_ip, s.drop_no_route), (2, 1, 1, 1));
}

#[test]
fn no_route_is_counted() {
    let mut lab = routed(with_fixed_neighbours);
    lab.packet(syn().bent(|f| f[30] = 99)).gives("");
    assert_eq!(lab.stats().drop_malformed, 1, "its checksum is wrong");
    for addr in [[99, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0; 4]] {
        lab.packet(udp_to(addr)).gives("");
    }
    assert_eq!((lab.sent(), lab.stats().drop_no_route), (0, 4));
}

#[test]
fn what_was_not_for_us_does_not_go_back_where_it_came_from() {
    let mut lab = routed(with_fixed_neighbours);
    // The client's packet to its neighbour, heard because the port is promiscuous.
    let neighbours = |mac: [u8; 6]| {
        let mut frame = ping([10, 0, 0, 1], 1);
        frame.bytes[..6].copy_from_slice(&mac);
        frame
    };
    lab.packet(neighbours(SERVER_MAC)).gives("");
    assert_eq!((lab.sent(), lab.stats().drop_no_route), (0, 1));
    lab.packet(neighbours(LAN_MAC)).gives("");
    assert_eq!(lab.to_client().len(), 1, "handed to us as to a router on one link");
}

#[test]
fn d15_a_gateway_is_the_next_hop() {
    let mut lab = routed(|mos| {
        with_addresses(mos);
        let gateway = Some([10, 0, 1, 7].into());
        mos.routes = vec![Route { addr: [0; 4].into(), prefix: 0, gateway, device: "server".into() }];
    });
    lab.packet(udp_to([8, 8, 8, 8])).gives("");
    assert_eq!(asked(&lab.to_server()[0]), ([10, 0, 1, 7], WAN));
}

#[test]
fn arp_is_asked_and_what_waited_leaves_in_order() {
    let mut lab = routed(with_addresses);
    lab.packet(to_us(syn())).gives("SYN1");
    let out = lab.to_server();
    assert_eq!((out.len(), asked(&out[0])), (1, (SERVER.0, WAN)));
    assert_eq!(macs(&out[0]).1, WAN_MAC);
    let s = lab.stats();
    assert_eq!((s.forwarded, s.waiting, s.sent_packets), (0, 1, 1));
    lab.packet(to_us(ping(SERVER.0, 5))).gives("");
    assert_eq!((lab.sent(), lab.stats().waiting), (0, 2), "one request a second");
    // The answer, and behind it in the same burst another packet.
    lab.batch([arp_reply(SERVER_DEV, SERVER_MAC, SERVER.0), to_us(ping(SERVER.0, 6))]).gives("");
    let out = lab.to_server();
    assert_eq!(out.iter().map(|f| macs(f)).collect::<Vec<_>>(), [(SERVER_MAC, WAN_MAC); 3]);
    assert_eq!((seen(&out[0]).flags, out[1][39], out[2][39]), (S, 5, 6));
    let s = lab.stats();
    assert_eq!((s.forwarded, s.waiting, s.consumed, s.in_local), (3, 0, 1, 1));
}

#[test]
fn who_does_not_answer_is_given_up_after_three_requests() {
    let mut lab = routed(with_addresses);
    lab.feed([to_us(syn())]);
    for second in 1..=3 {
        lab.until(second * 1000).gives("");
    }
    assert_eq!(lab.to_server().len(), 3, "requests");
    let s = lab.stats();
    assert_eq!((s.drop_unresolved, s.waiting, s.sent_packets, s.forwarded), (1, 0, 3, 0));
    lab.packet(to_us(syn().port(7))).tokens();
    assert_eq!((lab.sent(), lab.stats().drop_unresolved), (0, 2), "for a second nobody is asked again");
    lab.until(4000).gives("");
    lab.feed([to_us(syn().port(8))]);
    assert_eq!(asked(&lab.to_server()[0]).0, SERVER.0);
}

#[test]
fn more_than_may_wait_is_counted() {
    let mut lab = routed(with_addresses);
    lab.feed((0..40).map(|n| to_us(ping(SERVER.0, n))));
    let s = lab.stats();
    assert_eq!((s.waiting, s.drop_unresolved), (16, 24));
    lab.feed([arp_reply(SERVER_DEV, SERVER_MAC, SERVER.0)]);
    let ids: Vec<u8> = lab.to_server()[1..].iter().map(|f| f[39]).collect();
    assert_eq!(ids, (24..40).collect::<Vec<u8>>(), "the latest");
    let mut lab = routed(with_addresses);
    lab.feed([to_us(syn())]);
    let _ = lab.end_all();
    let s = lab.stats();
    assert_eq!((s.waiting, s.drop_unresolved, s.fates()), (0, 1, s.rx_packets), "the core's end");
}

#[test]
fn without_an_address_nobody_is_asked() {
    let mut lab = routed(|mos| {
        with_fixed_neighbours(mos);
        mos.arp.clear();
    });
    lab.feed([syn()]);
    assert_eq!((lab.sent(), lab.stats().drop_unresolved), (0, 1));
}

#[test]
fn arp_for_a_ports_own_address_is_answered_bump_in_the_wire_or_not() {
    for pair in [true, false] {
        let mut lab = Lab::between(with_addresses, |port| port.mate = port.mate.filter(|_| pair));
        lab.listen();
        lab.packet(arp(CLIENT_DEV, false, CLIENT_MAC, CLIENT.0, ANY_MAC, LAN)).gives("");
        let out = lab.to_client();
        assert_eq!((out.len(), macs(&out[0])), (1, (CLIENT_MAC, LAN_MAC)), "pair: {pair}");
        assert_eq!((out[0][21], &out[0][22..28], &out[0][28..32]), (2, &LAN_MAC[..], &LAN[..]));
        // The other port's address is not on this link.
        lab.packet(arp(CLIENT_DEV, false, CLIENT_MAC, CLIENT.0, ANY_MAC, WAN)).gives("");
        // Somebody else's question passes where there is a way.
        lab.packet(arp(CLIENT_DEV, false, CLIENT_MAC, CLIENT.0, ANY_MAC, SERVER.0)).gives("");
        assert_eq!((lab.to_client().len(), lab.to_server().len()), (0, if pair { 2 } else { 0 }));
        let s = lab.stats();
        assert_eq!((s.in_local, s.consumed, s.in_non_ip), (1, 1, 2));
    }
}

#[test]
fn r7_arp_frames_nobody_asked_for_teach_nothing() {
    let mut lab = routed(with_addresses);
    lab.feed((0..200).map(|n| arp_reply(SERVER_DEV, SERVER_MAC, [10, 0, 1, n])));
    lab.feed([arp(SERVER_DEV, false, SERVER_MAC, SERVER.0, ANY_MAC, SERVER.0)]);
    lab.sent();
    lab.feed([to_us(syn())]);
    assert_eq!(asked(&lab.to_server()[0]).0, SERVER.0, "the server is asked for all the same");
    // An answer under our own address, one that is cut, one from the wrong link.
    lab.feed([
        arp_reply(SERVER_DEV, SERVER_MAC, WAN),
        cut(arp_reply(SERVER_DEV, SERVER_MAC, SERVER.0), 41),
        arp(CLIENT_DEV, true, CLIENT_MAC, SERVER.0, LAN_MAC, LAN),
    ]);
    assert_eq!((lab.to_server().len(), lab.stats().waiting), (0, 1));
    // A request of the server's own is an answer too.
    lab.feed([arp(SERVER_DEV, false, SERVER_MAC, SERVER.0, ANY_MAC, [10, 0, 1, 9])]);
    assert_eq!(macs(&lab.to_server()[0]), (SERVER_MAC, WAN_MAC));
}

#[test]
fn an_echo_request_to_an_own_address_is_answered() {
    for pair in [true, false] {
        let mut lab = Lab::between(with_addresses, |port| port.mate = port.mate.filter(|_| pair));
        lab.listen();
        for (n, own) in [LAN, WAN].into_iter().enumerate() {
            lab.packet(to_us(ping(own, 77))).gives("");
            let out = lab.to_client();
            assert_eq!((out.len(), macs(&out[0])), (1, (CLIENT_MAC, LAN_MAC)));
            assert_eq!((&out[0][26..30], &out[0][30..34], out[0][34]), (&own[..], &CLIENT.0[..], 0));
            assert_eq!((out[0][39], &out[0][42..46]), (77, &b"data"[..]));
            assert_eq!(lab.stats().in_local, n as u64 + 1);
        }
        assert_eq!(lab.to_server().len(), 0);
    }
    // R4: shorter than its header.
    let mut lab = routed(with_addresses);
    for len in [24, 20, 27] {
        let mut short = ping(LAN, 1);
        short.bytes.truncate(14 + len);
        short.bytes[16..18].copy_from_slice(&(len as u16).to_be_bytes());
        ip_sum(&mut short.bytes);
        if len >= 24 {
            icmp_sum(&mut short.bytes);
        }
        lab.packet(short).gives("");
    }
    assert_eq!((lab.sent(), lab.stats().consumed), (0, 3));
}

#[test]
fn echo_replies_are_limited() {
    let mut lab = routed(with_addresses);
    lab.feed((0..1500).map(|n| to_us(ping(LAN, n))));
    let s = lab.stats();
    assert_eq!((lab.to_client().len(), s.consumed, s.echo_limited), (1000, 1500, 500));
    lab.at(100).feed([to_us(ping(LAN, 1))]);
    assert_eq!(lab.to_client().len(), 1);
}

#[test]
fn a_raw_callback_may_forbid_the_answer() {
    let mut lab = routed(with_addresses);
    lab.listen_raw();
    lab.on("B:nb.PKT", |c| said(c.api.drop_packet(c.sock)));
    lab.packet(to_us(ping(LAN, 1))).gives("B:nb.PKT=0");
    assert_eq!((lab.sent(), lab.stats().drop_callback), (0, 1));
}

#[test]
fn by_route_nothing_for_ourselves_goes_on() {
    let mut lab = routed(with_addresses);
    lab.packet(to_us(udp_to(WAN))).gives("");
    assert_eq!((lab.sent(), lab.stats().consumed, lab.stats().in_non_tcp), (0, 1, 1));
}

#[test]
fn forwarding_off_answers_for_own_addresses_and_sends_nothing_on() {
    let mut lab = routed(|mos| {
        with_addresses(mos);
        mos.forward = false;
    });
    lab.feed([to_us(ping(LAN, 1)), to_us(syn())]);
    assert_eq!((lab.to_client().len(), lab.to_server().len()), (1, 0));
    assert_eq!((lab.stats().drop_config, lab.stats().consumed), (1, 1));
}

/// What a NAT does: the client's packets leave under `PUBLIC`, the server's answers come back to it.
const PUBLIC: [u8; 4] = WAN;

fn translate(lab: &Lab) {
    lab.on("sc.PKT", |c| {
        said(c.api.setlastpkt(
            c.sock,
            12,
            &PUBLIC,
            MOS_OVERWRITE | MOS_IP_HDR | MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM,
        ))
    });
    lab.on("sv.PKT", |c| {
        said(c.api.setlastpkt(
            c.sock,
            16,
            &CLIENT.0,
            MOS_OVERWRITE | MOS_IP_HDR | MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM,
        ))
    });
}

fn answer_to_public() -> Frame {
    let mut frame: Frame = syn_ack().client(PUBLIC, CLIENT.1).into();
    frame.bytes[..6].copy_from_slice(&WAN_MAC);
    frame
}

#[test]
fn mos_issue_4_translated_packets_find_their_new_next_hop() {
    for pair in [true, false] {
        let mut lab = Lab::between(with_addresses, |port| port.mate = port.mate.filter(|_| pair));
        lab.listen();
        translate(&lab);
        let _ = lab.packet(to_us(syn()));
        assert_eq!(asked(&lab.to_server()[0]).0, SERVER.0, "pair: {pair}");
        lab.feed([arp_reply(SERVER_DEV, SERVER_MAC, SERVER.0)]);
        let out = lab.to_server();
        assert_eq!(macs(&out[0]), (SERVER_MAC, WAN_MAC));
        assert_eq!((seen(&out[0]).src, checksums_hold(&out[0])), ((PUBLIC, CLIENT.1), true));
        let step = lab.packet(answer_to_public());
        step.only(|t| t.starts_with("sv")).gives("sv.PKT=0");
        assert_eq!(asked(&lab.to_client()[0]).0, CLIENT.0);
        lab.feed([arp_reply(CLIENT_DEV, CLIENT_MAC, CLIENT.0)]);
        let out = lab.to_client();
        assert_eq!((out.len(), macs(&out[0])), (1, (CLIENT_MAC, LAN_MAC)));
        assert_eq!((seen(&out[0]).dst, checksums_hold(&out[0])), (CLIENT, true));
    }
}

#[test]
fn d16_translated_packets_keep_their_addresses_without_a_route_or_under_an_edit() {
    let mut lab = Lab::new();
    translate(&lab);
    let _ = lab.packet(syn());
    assert_eq!(lab.to_server()[0][..12], syn().bytes()[..12]);
    let mut lab = Lab::bare(with_addresses);
    lab.listen();
    translate(&lab);
    lab.on("rv.PKT", |c| said(c.api.setlastpkt(c.sock, 0, &[6; 12], MOS_OVERWRITE | MOS_ETH_HDR)));
    let _ = lab.packet(syn());
    assert_eq!(lab.to_server()[0][..12], [6; 12]);
}

#[test]
fn a_packet_that_grew_beyond_what_the_port_takes_is_counted() {
    let lab_of = |pair: bool| {
        let mut lab = Lab::between(with_fixed_neighbours, |port| {
            port.mate = port.mate.filter(|_| pair);
            port.info.mtu = 1500;
        });
        lab.listen();
        lab.handshake();
        lab.sent();
        lab
    };
    for pair in [true, false] {
        let mut lab = lab_of(pair);
        lab.on("sc.PKT", |c| {
            said(c.api.setlastpkt(
                c.sock,
                0,
                b"more",
                MOS_INSERT | MOS_TCP_PAYLOAD | MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM,
            ))
        });
        let _ = lab.packet(data(0, bytes(1456)));
        let out = lab.to_server();
        assert_eq!((out.len(), out[0].len(), checksums_hold(&out[0])), (1, 1514, true), "pair: {pair}");
        let _ = lab.packet(data(1456, bytes(1457)));
        assert_eq!((lab.sent(), lab.stats().drop_too_long), (0, 1));
    }
    // By route also what nobody edited; as a bump in the wire the two links are as one.
    let mut lab = lab_of(false);
    lab.feed([data(0, bytes(1461))]);
    assert_eq!((lab.sent(), lab.stats().drop_too_long), (0, 1));
}

#[test]
fn a_packet_the_capture_cut_leaves_as_it_is_also_when_edited() {
    let mut lab = Lab::established();
    lab.sent();
    lab.on("sc.PKT", |c| {
        said(c.api.setlastpkt(
            c.sock,
            8,
            &[9],
            MOS_OVERWRITE | MOS_IP_HDR | MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM,
        ))
    });
    let mut grown = data(0, bytes(100)).bytes();
    grown.extend([0; 6]); // padding behind the packet
    lab.feed([Frame { dev: CLIENT_DEV, bytes: grown }]);
    let out = lab.to_server();
    assert_eq!((out[0].len(), out[0][22], checksums_hold(&out[0])), (154, 9, true));
}

/// Source, destination, sequence number.
type Reset = (([u8; 4], u16), ([u8; 4], u16), u32);

fn resets(frames: &[Vec<u8>]) -> Vec<Reset> {
    frames.iter().map(|f| seen(f)).filter(|p| p.flags & R != 0).map(|p| (p.src, p.dst, p.seq)).collect()
}

#[test]
fn d20_a_reset_without_a_packet_in_process() {
    // On a bump in the wire with the addresses the flow's packets carry; by route with ours.
    let ways: [(Lab, [u8; 12], [u8; 12]); 2] = [
        (Lab::new(), syn().bytes()[..12].try_into().unwrap(), syn_ack().bytes()[..12].try_into().unwrap()),
        (
            routed(with_fixed_neighbours),
            [SERVER_MAC, WAN_MAC].concat().try_into().unwrap(),
            [CLIENT_MAC, LAN_MAC].concat().try_into().unwrap(),
        ),
    ];
    for (mut lab, to_server, to_client) in ways {
        lab.handshake();
        lab.feed([data(0, "HELLO"), reply(0, "abc").acks(5)]);
        lab.sent();
        let sock = lab.sock();
        lab.ask(|api| assert_eq!(api.reset(sock), (0, 0)));
        lab.until(1).gives("");
        let (out, back) = (lab.to_server(), lab.to_client());
        assert_eq!(resets(&out), [(CLIENT, SERVER, CLIENT_ISN + 6)]);
        assert_eq!(resets(&back), [(SERVER, CLIENT, SERVER_ISN + 4)]);
        assert_eq!((&out[0][..12], &back[0][..12]), (&to_server[..], &to_client[..]));
        assert_eq!((lab.stats().sent_packets, lab.stats().sent_lost), (2, 0));
    }
}

#[test]
fn d20_a_reset_inside_a_callback_fits_what_the_packet_leaves_behind() {
    for (drop, at_server) in [(false, 5), (true, 0)] {
        let mut lab = Lab::established();
        lab.sent();
        lab.on("sc.PKT", move |c| {
            if drop {
                assert_eq!(c.api.drop_packet(c.sock), (0, 0));
            }
            said(c.api.reset(c.sock))
        });
        let _ = lab.packet(data(0, "HELLO"));
        assert_eq!(
            resets(&lab.to_server()),
            [(CLIENT, SERVER, CLIENT_ISN + 1 + at_server)],
            "dropped: {drop}"
        );
        assert_eq!(resets(&lab.to_client()), [(SERVER, CLIENT, SERVER_ISN + 1)]);
    }
    // It leaves also when the same callback stops monitoring.
    let mut lab = Lab::established();
    lab.sent();
    lab.on("sc.PKT", |c| {
        assert_eq!(c.api.reset(c.sock), (0, 0));
        said(c.api.set(c.sock, MOS_STOP_MON, BOTH))
    });
    let _ = lab.packet(data(0, "HELLO"));
    assert_eq!((resets(&lab.to_server()).len(), resets(&lab.to_client()).len()), (1, 1));
}

#[test]
fn d20_a_reset_of_a_translated_flow_names_it_to_each_end_as_that_end_knows_it() {
    let mut lab = routed(|mos| {
        with_addresses(mos);
        with_addresses_fixed(mos);
    });
    translate(&lab);
    lab.feed([to_us(syn()), answer_to_public()]);
    lab.sent();
    let sock = lab.sock();
    lab.ask(|api| assert_eq!(api.reset(sock), (0, 0)));
    lab.until(1).gives("");
    let (to_server, to_client) = (lab.to_server(), lab.to_client());
    assert_eq!(resets(&to_server), [((PUBLIC, CLIENT.1), SERVER, CLIENT_ISN + 1)]);
    assert_eq!(resets(&to_client), [(SERVER, CLIENT, SERVER_ISN + 1)]);
    assert_eq!((macs(&to_server[0]), macs(&to_client[0])), ((SERVER_MAC, WAN_MAC), (CLIENT_MAC, LAN_MAC)));
}

fn with_addresses_fixed(mos: &mut Mos) {
    let arp = |addr: [u8; 4], mac| ArpEntry { addr: addr.into(), prefix: 32, mac };
    mos.arp = vec![arp(CLIENT.0, CLIENT_MAC), arp(SERVER.0, SERVER_MAC)];
}

#[test]
fn c130_sendpkt_by_route() {
    let mut lab = routed(with_fixed_neighbours);
    lab.handshake();
    lab.sent();
    lab.on("sc.PKT", |c| {
        let mut p = no_packet();
        assert_eq!(c.api.lastpkt_into(c.sock, &mut p), (0, 0));
        let mut payload = *b"made by hand";
        (p.payload, p.payloadlen) = (payload.as_mut_ptr(), payload.len() as u16);
        said(c.api.sendpkt(c.sock, &p))
    });
    let _ = lab.packet(data(0, "y"));
    let out = lab.to_server();
    let made = out.iter().find(|f| seen(f).payload == b"made by hand").expect("the packet made by hand");
    assert_eq!(macs(made), (SERVER_MAC, WAN_MAC));
    assert!(checksums_hold(made));
}

#[test]
fn sums_hold_over_a_mix_of_everything() {
    let mut lab = Lab::between(
        |mos| {
            with_addresses(mos);
            mos.tcp_timeout = 5;
        },
        |port| port.info.mtu = 1500,
    );
    lab.listen();
    lab.listen_raw();
    let mut random = 12345u32;
    let mut next = |n: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % n
    };
    let mut dropped = 0u32;
    lab.on("A:sc.PKT", move |c| {
        dropped += 1;
        match dropped % 5 {
            0 => said(c.api.drop_packet(c.sock)),
            1 => said(c.api.reset(c.sock)),
            2 => said(c.api.setlastpkt(c.sock, 0, &bytes(1400), MOS_INSERT | MOS_TCP_PAYLOAD)),
            _ => String::new(),
        }
    });
    for n in 0..400 {
        let port = 1000 + next(20) as u16;
        let packets = (0..1 + next(6)).map(|_| {
            let mut frame: Frame = match next(14) {
                0 => syn().port(port).into(),
                1 => syn_ack().port(port).into(),
                2 => ack().port(port).into(),
                3 => data(next(9000), bytes(next(300) as usize)).port(port).into(),
                4 => c(F | A, next(5)).port(port).into(),
                5 => s(R, next(5)).port(port).into(),
                6 => udp(),
                7 => ping(if next(2) == 0 { LAN } else { SERVER.0 }, port),
                8 => arp(CLIENT_DEV, next(2) == 0, CLIENT_MAC, CLIENT.0, ANY_MAC, LAN),
                9 => arp_reply(SERVER_DEV, SERVER_MAC, SERVER.0),
                10 => ethernet(0x86dd, next(80) as usize),
                11 => to_us(data(0, bytes(1460)).port(port)),
                _ => data(0, "x").port(port).into(),
            };
            if next(8) == 0 {
                let len = frame.bytes.len() as u32;
                frame.bytes[next(len) as usize] ^= 1 << next(8);
            }
            if next(10) == 0 {
                let len = frame.bytes.len() as u32;
                frame.bytes.truncate(next(len) as usize);
            }
            frame
        });
        let packets: Vec<Frame> = packets.collect();
        lab.at(n * 37);
        let _ = lab.batch(packets);
    }
    let _ = lab.end_all();
    let s = lab.stats();
    for (name, count) in [
        ("in a flow", s.in_flow),
        ("orphan", s.in_orphan),
        ("not TCP", s.in_non_tcp),
        ("not IP", s.in_non_ip),
        ("local", s.in_local),
        ("Ethernet", s.bad_eth),
        ("IP length", s.bad_ip_len),
        ("IP checksum", s.bad_ip_checksum),
        ("TCP checksum", s.bad_tcp_checksum),
        ("forwarded", s.forwarded),
        ("consumed", s.consumed),
        ("dropped by a callback", s.drop_callback),
        ("malformed", s.drop_malformed),
        ("too long", s.drop_too_long),
        ("sent", s.sent_packets),
    ] {
        assert!(count > 0, "{name}: the mix has some: {s:?}");
    }
}

#[test]
fn own_addresses_are_what_the_configuration_says() {
    // A host of ours may be asked from anywhere; an address that is not ours never is.
    let mut lab = routed(with_addresses);
    for (dst, answered) in [(LAN, 1), (WAN, 1), (SERVER.0, 0), ([10, 0, 0, 255], 0)] {
        lab.sent();
        lab.feed([to_us(ping(dst, 1))]);
        assert_eq!(lab.to_client().len(), answered, "{}", Ipv4Addr::from(dst));
    }
}

//! §10.5, second part: the packet in process, dropped, edited, sent.

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;

const SUMS: i32 = MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM;

#[test]
fn c120_drop_in_snd() {
    let mut lab = Lab::established();
    lab.sent();
    lab.on("sc.PKT", |c| said(c.api.drop_packet(c.sock)));
    lab.packet(data(0, "x")).gives("sc.PKT=0 | rv.PKT | nv.NEW");
    lab.packet(c(F | A, 1)).gives("sc.PKT=0 sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.sent(), 0);
    lab.packet(s(A, 0).acks(2)).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(lab.sent(), 1);
}

#[test]
fn c121_drop_in_rcv_orphan_raw() {
    let mut lab = Lab::established();
    lab.sent();
    for token in ["rv.PKT", "nb.ORPH"] {
        lab.on(token, |c| said(c.api.drop_packet(c.sock)));
    }
    lab.packet(data(0, "x")).gives("sc.PKT | rv.PKT=0 | nv.NEW");
    lab.packet(data(0, "x").port(9)).gives("nb.ORPH=0");
    assert_eq!(lab.sent(), 0);
    lab.no_handlers();
    lab.listen_raw();
    lab.on("B:nb.PKT", |c| said(c.api.drop_packet(c.sock)));
    lab.packet(data(1, "x")).gives("B:nb.PKT=0 A:sc.PKT | A:rv.PKT | A:nv.NEW");
    lab.packet(udp()).gives("B:nb.PKT=0");
    assert_eq!(lab.sent(), 0);
}

#[test]
fn c121_drop_in_rexmit_and_error() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO")]);
    lab.sent();
    for token in ["rv.REX", "nv.ERR"] {
        lab.on(token, |c| said(c.api.drop_packet(c.sock)));
    }
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.REX=0 | rv.PKT");
    lab.packet(data(70_000, "x")).gives("sc.PKT | nv.ERR=0 | rv.PKT");
    assert_eq!(lab.sent(), 0);
}

#[test]
fn c122_payload_overwritten() {
    for (token, in_ring) in [("sc.PKT", "jello"), ("rv.PKT", "hello")] {
        let mut lab = Lab::established();
        lab.on(token, |c| {
            said(c.api.setlastpkt(c.sock, 0, b"j", MOS_OVERWRITE | MOS_TCP_PAYLOAD | MOS_UPDATE_TCP_CHKSUM))
        });
        lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 10));
        lab.sent();
        let step = lab.packet(data(0, "hello"));
        step.only(|t| t.starts_with("nv")).gives(&format!("nv.NEW={in_ring}"));
        assert_eq!(seen(&lab.to_server()[0]).payload, b"jello", "edited in {token}");
    }
}

#[test]
fn c123_sequence_number_overwritten_in_snd() {
    let mut lab = Lab::established();
    lab.once("sc.PKT", |c| {
        let seq = (CLIENT_ISN + 1 + 10).to_be_bytes();
        said(c.api.setlastpkt(c.sock, 4, &seq, MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_TCP_CHKSUM))
    });
    lab.on("rv.PKT", |c| c.api.lastpkt(c.sock).map_or_else(name_of, |p| format!("{}@{}", p.seq, p.offset)));
    lab.packet(data(0, "HELLO")).gives("sc.PKT=0 | rv.PKT=1011@10");
    assert_eq!(lab.ask(|api| api.fragments(lab.sock(), SVR)), "[10+5]");
}

#[test]
fn c124_option_combinations() {
    let mut lab = Lab::established();
    lab.sent();
    // (offset, bytes, option, expected): a 40-byte packet with 5 bytes of payload.
    let cases: [(i64, usize, i32, Ret); 22] = [
        (0, 1, 0, (-1, libc::EAGAIN)),
        (0, 1, MOS_TCP_PAYLOAD, (-1, libc::EAGAIN)),
        (0, 1, MOS_OVERWRITE | MOS_DROP | MOS_TCP_PAYLOAD, (-1, libc::EAGAIN)),
        (0, 1, MOS_OVERWRITE | MOS_CHOMP | MOS_TCP_PAYLOAD, (-1, libc::EAGAIN)),
        (0, 1, MOS_OVERWRITE, (-1, libc::EINVAL)),
        (0, 1, MOS_OVERWRITE | SUMS, (-1, libc::EINVAL)),
        (-1, 1, MOS_OVERWRITE | MOS_TCP_PAYLOAD, (-1, libc::EINVAL)),
        (0, 14, MOS_OVERWRITE | MOS_ETH_HDR, (0, 0)),
        (0, 15, MOS_OVERWRITE | MOS_ETH_HDR, (-1, libc::EINVAL)),
        (13, 2, MOS_OVERWRITE | MOS_ETH_HDR, (-1, libc::EINVAL)),
        (0, 1, MOS_CHOMP | MOS_ETH_HDR, (-1, libc::EACCES)),
        (0, 1, MOS_INSERT | MOS_ETH_HDR, (-1, libc::EACCES)),
        (8, 12, MOS_OVERWRITE | MOS_IP_HDR | SUMS, (0, 0)),
        (8, 13, MOS_OVERWRITE | MOS_IP_HDR | SUMS, (-1, libc::EINVAL)),
        (i64::MAX, 1, MOS_OVERWRITE | MOS_IP_HDR, (-1, libc::EINVAL)),
        (14, 6, MOS_OVERWRITE | MOS_TCP_HDR | SUMS, (0, 0)),
        (14, 7, MOS_OVERWRITE | MOS_TCP_HDR | SUMS, (-1, libc::EINVAL)),
        (0, 5, MOS_OVERWRITE | MOS_TCP_PAYLOAD, (0, 0)),
        (0, 6, MOS_OVERWRITE | MOS_TCP_PAYLOAD, (-1, libc::EINVAL)),
        (5, 1, MOS_OVERWRITE | MOS_TCP_PAYLOAD, (-1, libc::EINVAL)),
        (0, 0, MOS_OVERWRITE | MOS_TCP_PAYLOAD | SUMS, (0, 0)),
        (99, 9, MOS_DROP | MOS_ETH_HDR | SUMS, (0, 0)),
    ];
    lab.on("rv.PKT", move |c| {
        let frame = c.api.lastpkt(c.sock).expect("a packet").frame;
        for (off, len, option, expected) in cases {
            // The packet's own bytes, so that nothing changes.
            let area = match option & 15 {
                MOS_IP_HDR => 14,
                MOS_TCP_HDR => 34,
                MOS_TCP_PAYLOAD => 54,
                _ => 0,
            };
            let at = usize::try_from(off).ok().and_then(|off| frame.get(area + off..area + off + len));
            let data = at.map_or_else(|| vec![0; len], <[u8]>::to_vec);
            assert_eq!(c.api.setlastpkt(c.sock, off, &data, option), expected, "{off} {len} {option:#x}");
        }
        ""
    });
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW");
    assert_eq!(lab.sent(), 0, "the last one was MOS_DROP");
    lab.no_handlers();
    lab.on("nv.NEW", |c| said(c.api.drop_packet(c.sock)));
    lab.packet(data(5, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=-1/ENODATA");
}

#[test]
fn c124_areas_by_precedence_and_packets_that_are_not_tcp() {
    let mut lab = Lab::bare(|_| {});
    lab.listen_raw();
    lab.once("nb.PKT", |c| {
        let all = MOS_ETH_HDR | MOS_IP_HDR | MOS_TCP_HDR | MOS_TCP_PAYLOAD;
        said(c.api.setlastpkt(c.sock, 0, &[0xee; 6], MOS_OVERWRITE | all))
    });
    lab.packet(syn()).gives("nb.PKT=0");
    let mut expected = syn().bytes();
    expected[..6].fill(0xee);
    assert_eq!(lab.to_server(), [expected], "ETH comes first");
    lab.on("nb.PKT", |c| {
        [MOS_TCP_HDR, MOS_TCP_PAYLOAD, MOS_IP_HDR]
            .map(|area| said(c.api.setlastpkt(c.sock, 1, &[0], MOS_OVERWRITE | area)))
            .join(",")
    });
    lab.packet(udp()).gives("nb.PKT=-1/EINVAL,-1/EINVAL,0");
}

const PUBLIC: ([u8; 4], u16) = ([192, 0, 2, 1], 4000);

/// Rewrites the client's packets to come from `PUBLIC` and the server's to go to the client, as the NAT sample does.
fn nat(lab: &Lab) {
    lab.on("sc.PKT", |c| {
        let ip = c.api.setlastpkt(c.sock, 12, &PUBLIC.0, MOS_OVERWRITE | MOS_IP_HDR);
        let port = c.api.setlastpkt(c.sock, 0, &PUBLIC.1.to_be_bytes(), MOS_OVERWRITE | MOS_TCP_HDR | SUMS);
        assert_eq!((ip, port), ((0, 0), (0, 0)));
        ""
    });
    lab.on("sv.PKT", |c| {
        let ip = c.api.setlastpkt(c.sock, 16, &CLIENT.0, MOS_OVERWRITE | MOS_IP_HDR);
        let port = c.api.setlastpkt(c.sock, 2, &CLIENT.1.to_be_bytes(), MOS_OVERWRITE | MOS_TCP_HDR | SUMS);
        assert_eq!((ip, port), ((0, 0), (0, 0)));
        ""
    });
}

#[test]
fn c125_address_translation() {
    let mut lab = Lab::new();
    nat(&lab);
    let from_server = |p: Packet| p.client(PUBLIC.0, PUBLIC.1);
    lab.packet(syn()).gives("SYN1");
    assert_eq!((seen(&lab.to_server()[0]).src, lab.to_client().len()), (PUBLIC, 0));
    lab.packet(from_server(syn_ack())).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(seen(&lab.to_client()[0]).dst, CLIENT);
    lab.packet(ack()).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW");
    lab.packet(from_server(reply(0, "WORLD").acks(5))).gives("sv.PKT | rc.PKT | nc.NEW");
    assert_eq!(lab.ask(|api| api.peername(lab.sock(), BOTH, 32)), ((0, 0), vec![CLIENT, SERVER]));
    // The server's packets are those of the translated tuple only.
    lab.packet(s(A, 5)).gives("nb.ORPH");
    lab.packet(from_server(s(R, 5))).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
    lab.packet(from_server(s(A, 5))).gives("nb.ORPH");
}

#[test]
fn the_newest_flow_has_the_translated_tuple() {
    let mut lab = Lab::new();
    nat(&lab);
    let from_server = |p: Packet| p.client(PUBLIC.0, PUBLIC.1);
    lab.feed([syn().port(1111), from_server(syn_ack()), ack().port(1111)]);
    let older = lab.sock();
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    // The same public tuple for another client.
    lab.feed([syn().port(2222)]);
    let newer = lab.sock();
    assert_ne!(older, newer);
    let states = |lab: &Lab, sock| lab.ask(|api| api.states(sock));
    lab.packet(from_server(syn_ack())).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(ack().port(2222)).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(states(&lab, newer), "ESTABLISHED/ESTABLISHED");
    // The older keeps its client's packets.
    lab.packet(data(0, "HELLO").port(1111)).gives("sc.PKT | rv.PKT | nv.NEW");
    // A client that has the public address by itself is newer still.
    lab.feed([from_server(syn())]);
    let own = lab.sock();
    assert!(own != older && own != newer);
    lab.packet(from_server(syn_ack())).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(states(&lab, own), "ESTABLISHED/SYN_RCVD");
    // And loses the server's packets to the next one that is translated.
    lab.feed([syn().port(3333)]);
    let last = lab.sock();
    lab.packet(from_server(syn_ack())).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(states(&lab, last), "ESTABLISHED/SYN_RCVD");
    // All end, and nothing is left under the tuple.
    for (sock, port) in [(last, 3333), (newer, 2222), (older, 1111)] {
        let off = if sock == older { 5 } else { 0 };
        lab.feed([c(R | A, off).port(port)]);
    }
    lab.feed([from_server(c(R | A, 0))]);
    lab.packet(from_server(s(A, 5))).gives("nb.ORPH");
    lab.packet(from_server(c(A, 5))).gives("nb.ORPH");
}

#[test]
fn c130_sendpkt() {
    let mut lab = Lab::established();
    lab.feed([data(0, "x")]);
    lab.sent();
    lab.on("sc.PKT", |c| {
        let mut p = no_packet();
        assert_eq!(c.api.lastpkt_into(c.sock, &mut p), (0, 0));
        let mut payload = *b"made by hand";
        (p.payload, p.payloadlen) = (payload.as_mut_ptr(), payload.len() as u16);
        said(c.api.sendpkt(c.sock, &p))
    });
    lab.packet(c(F | P | A, 1).with("y")).gives("sc.PKT=0 sc.ST | rv.PKT rv.ST | nv.NEW");
    let out: Vec<Seen> = lab.to_server().iter().map(|f| seen(f)).collect();
    assert_eq!((out.len(), lab.to_client().len()), (2, 0), "both leave towards the server");
    let made = out.iter().find(|p| p.payload == b"made by hand").expect("the packet made by hand");
    assert_eq!((made.src, made.dst, made.flags), (CLIENT, SERVER, F | P | A));
    assert_eq!((made.seq, made.ack), (CLIENT_ISN + 2, SERVER_ISN + 1));
    assert!(out.iter().any(|p| p.payload == b"y"), "the packet in process goes on");
}

#[test]
fn c130_sendpkt_towards_the_client() {
    let mut lab = Lab::established();
    lab.sent();
    let raw = lab.listen_raw();
    assert!(raw > 0);
    lab.on("A:rc.PKT", |c| {
        let mut p = no_packet();
        assert_eq!(c.api.lastpkt_into(c.sock, &mut p), (0, 0));
        p.seq += 5;
        let sent = said(c.api.sendpkt(c.sock, &p));
        // The packet in process is still the current one.
        format!("{sent},{}", c.api.lastpkt(c.sock).map_or_else(name_of, |p| p.seq.to_string()))
    });
    lab.packet(reply(0, "HELLO")).only(|t| t.starts_with("A:rc")).gives("A:rc.PKT=0,5001");
    let to_client: Vec<u32> = lab.to_client().iter().map(|f| seen(f).seq).collect();
    assert_eq!((to_client.len(), lab.to_server().len()), (2, 0));
    assert!(to_client.contains(&5001) && to_client.contains(&5006), "{to_client:?}");
}

#[test]
fn c130_sendpkt_of_nothing() {
    let lab = Lab::established();
    lab.ask(|api| {
        assert_eq!(api.sendpkt(lab.sock(), &no_packet()), (-1, libc::ENODATA));
    });
}

#[test]
fn k10_sendpkt_of_too_much() {
    let mut lab = Lab::established();
    lab.sent();
    lab.on("sc.PKT", |c| {
        let mut p = no_packet();
        assert_eq!(c.api.lastpkt_into(c.sock, &mut p), (0, 0));
        let mut payload = bytes(1473);
        (p.payload, p.payloadlen) = (payload.as_mut_ptr(), payload.len() as u16);
        said(c.api.sendpkt(c.sock, &p))
    });
    lab.packet(data(0, "y")).gives("sc.PKT=0 | rv.PKT | nv.NEW");
    let stats = lab.stats();
    assert_eq!((lab.sent(), stats.sent_lost, stats.drop_tx), (1, 1, 0));
}

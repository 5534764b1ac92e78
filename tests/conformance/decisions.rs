//! What decisions.md says beyond the cases of §10: one test or more named after each entry.

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::rc::Rc;

/// Reads all there is on the side of the event; what precedes a loss, the loss, and what follows, joined by `,`.
fn read_all(c: &Call) -> String {
    let mut parts = Vec::new();
    loop {
        let read = c.api.peek(c.sock, c.side, 65536);
        if read.ret == 0 {
            return parts.join(",");
        }
        let lost = read.ret < 0;
        parts.push(read.to_string());
        if lost && read.errno != libc::ENODATA {
            return parts.join(",");
        }
    }
}

fn fragments(lab: &Lab) -> String {
    lab.ask(|api| api.fragments(lab.sock(), SVR))
}

#[test]
fn d1_a_side_that_is_neither() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO")]);
    for side in [BOTH, 3, -1, i32::MIN] {
        let (peek, ppeek) = lab.ask(|api| (api.peek(lab.sock(), side, 5), api.ppeek(lab.sock(), side, 5, 0)));
        assert_eq!(
            (peek.to_string().as_str(), ppeek.to_string().as_str()),
            ("-1/EINVAL", "-1/EINVAL"),
            "{side}"
        );
    }
    // A side that has received nothing: nothing unread.
    assert_eq!(lab.ask(|api| api.peek(lab.sock(), CLI, 5)).to_string(), "0");
}

#[test]
fn d3_unregister() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    lab.register(sock, MOS_ON_PKT_IN, MOS_HK_SND);
    lab.register(sock, MOS_ON_PKT_IN, MOS_HK_RCV);
    assert_eq!(lab.api.unregister(sock, MOS_ON_PKT_IN, MOS_HK_RCV), (0, 0));
    lab.packet(syn()).gives("sc.PKT");
    // On one flow, from a callback: the dispatch in progress goes on with what it began with.
    lab.once("sv.PKT", |c| said(c.api.unregister(c.sock, MOS_ON_PKT_IN, MOS_HK_SND)));
    lab.packet(syn_ack()).gives("sv.PKT=0");
    lab.packet(ack()).gives("");
    lab.packet(syn().port(2222)).gives("sc.PKT");
}

#[test]
fn d3_raised_events() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let child = Rc::new(Cell::new([0; 3]));
    let ids = child.clone();
    let yes = Rc::new(Cell::new(true));
    let answer = yes.clone();
    let u = lab.define(MOS_ON_PKT_IN, "u", move |c| {
        let [a, b, silent] = ids.get();
        // Each once, in this order; one without callback, a defined one and a built-in are refused.
        assert_eq!([b, a, b].map(|e| c.api.raise(e)), [(0, 0); 3]);
        assert_eq!([silent, c.event, MOS_ON_PKT_IN].map(|e| c.api.raise(e)), [(-1, 0); 3]);
        answer.get()
    });
    let a = lab.alloc(u, "a");
    let b = lab.alloc(u, "b");
    let below = lab.define(b, "below", |_| true);
    child.set([a, b, lab.alloc(u, "silent")]);
    for event in [u, a, b, below] {
        lab.register(sock, event, MOS_HK_SND);
    }
    lab.packet(syn()).gives("c?u sc.u sc.b c?below sc.below sc.a");
    yes.set(false);
    lab.packet(syn_ack()).gives("v?u");
    lab.ask(|api| assert_eq!(api.raise(a), (-1, 0), "outside a dispatch"));
}

#[test]
fn d3_siblings_in_registration_order() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let all = ["a", "b", "c", "d"].map(|n| lab.define(MOS_ON_PKT_IN, n, |_| true));
    for at in [2, 0, 3, 1] {
        lab.register(sock, all[at], MOS_HK_SND);
    }
    lab.packet(syn()).gives("c?c sc.c c?a sc.a c?d sc.d c?b sc.b");
}

#[test]
fn d4_what_is_no_retransmission() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack().window(14600), ack(), s(A, 0).window(14600)]);
    // A byte before offset 0.
    lab.packet(c(A, 0).seq(CLIENT_ISN).with("x")).gives("sc.PKT | rv.PKT");
    // Bytes the window refused, twice.
    for _ in 0..2 {
        lab.packet(data(14600, bytes(10))).gives("sc.PKT | nv.ERR | rv.PKT");
    }
    // Out-of-order bytes do count.
    lab.feed([data(20, bytes(10))]);
    lab.packet(data(15, bytes(10))).gives("sc.PKT | rv.REX | rv.PKT");
}

#[test]
fn d4_offset_of_the_payload() {
    let mut lab = Lab::established();
    let offset = |c: &Call| c.api.lastpkt(c.sock).map_or_else(name_of, |p| p.offset.to_string());
    lab.on("sc.PKT", offset);
    lab.on("rv.PKT", offset);
    lab.on("sv.PKT", offset);
    lab.packet(data(0, "HELLO")).gives("sc.PKT=0 | rv.PKT=0 | nv.NEW");
    lab.packet(data(5, "WORLD")).gives("sc.PKT=5 | rv.PKT=5 | nv.NEW");
    lab.packet(data(100, "x")).gives("sc.PKT=100 | rv.PKT=100");
    lab.packet(c(A, 10)).gives("sc.PKT=0 | rv.PKT=0");
    lab.packet(c(A, 0).seq(CLIENT_ISN).with("x")).gives("sc.PKT=0 | rv.PKT=0");
    lab.packet(reply(0, "abc")).gives("sv.PKT=0 | rc.PKT | nc.NEW");
    lab.packet(reply(3, "def")).gives("sv.PKT=3 | rc.PKT | nc.NEW");
}

#[test]
fn d4_original_bytes_are_there_in_rexmit() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO")]);
    lab.on("rv.REX", |c| {
        let p = c.api.lastpkt(c.sock).expect("a packet");
        let original = c.api.ppeek(c.sock, SVR, p.payload.len(), p.offset);
        format!("{original},{}", String::from_utf8_lossy(&p.payload))
    });
    lab.packet(data(1, "XXX")).gives("sc.PKT | rv.REX=ELL,XXX | rv.PKT");
}

#[test]
fn d5_a_hole_the_receiver_acknowledged() {
    let mut lab = Lab::established();
    lab.feed([data(0, "abc"), data(1003, "xyz")]);
    lab.on("nv.ERR", |c| c.api.lastpkt(c.sock).map_or_else(name_of, |_| "packet".into()));
    // At the end of the iteration that read the ACK: ERROR without packet, the head moves, NEW_DATA.
    lab.packet(s(A, 0).acks(1006)).gives("sv.PKT | rc.PKT | nv.ERR=EACCES | nv.NEW");
    let peek = || lab.ask(|api| api.peek(lab.sock(), SVR, 100)).to_string();
    assert_eq!([peek(), peek(), peek(), peek()], ["abc", "-1000/ENODATA", "xyz", "0"]);
    let at = |off| lab.ask(|api| api.ppeek(lab.sock(), SVR, 100, off)).to_string();
    assert_eq!([at(3), at(1002), at(1003)], ["-1/0", "-1/0", "xyz"]);
    // The missing bytes come after all: discarded, no REXMIT.
    lab.packet(data(3, bytes(1000))).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.ask(|api| api.ppeek(lab.sock(), SVR, 100, 3)).to_string(), "-1/0");
    lab.packet(data(1006, "more")).gives("sc.PKT | rv.PKT | nv.NEW");
}

#[test]
fn d5_a_hole_is_skipped_only_up_to_what_was_sent() {
    let mut lab = Lab::established();
    lab.feed([data(10, "xyz")]);
    // The receiver acknowledges what the sender was never seen to send.
    lab.on("nv.NEW", read_all);
    lab.packet(s(A, 0).acks(500)).gives("sv.PKT | rc.PKT | nv.ERR | nv.NEW=-10/ENODATA,xyz");
    lab.packet(data(13, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
}

#[test]
fn d5_pending_data_comes_first() {
    let mut lab = Lab::established();
    lab.on("nv.NEW", read_all);
    lab.batch([data(0, "abc"), data(10, "xyz"), s(A, 0).acks(13)])
        .gives("sc.PKT rv.PKT sc.PKT rv.PKT sv.PKT rc.PKT | nv.NEW=abc | nv.ERR | nv.NEW=-7/ENODATA,xyz");
}

#[test]
fn d5_an_unacknowledged_hole_stays() {
    let mut lab = Lab::established();
    lab.feed([data(10, "xyz")]);
    lab.packet(s(A, 0)).gives("sv.PKT | rc.PKT");
    lab.on("nv.NEW", read_all);
    lab.packet(data(0, "abcdefghij")).gives("sc.PKT | rv.PKT | nv.NEW=abcdefghijxyz");
}

#[test]
fn d5b_data_on_the_syn_that_was_acknowledged() {
    let mut lab = Lab::new();
    let all = Rc::new(RefCell::new(String::new()));
    let to = all.clone();
    lab.on("nv.NEW", move |c| {
        to.borrow_mut().push_str(&read_all(c));
        ""
    });
    lab.packet(syn().with("ABCDE")).gives("SYN1");
    lab.feed([syn_ack().acks(5), c(A, 5), data(5, "FGHIJ")]);
    assert_eq!(*all.borrow(), "ABCDEFGHIJ");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn d5c_a_fin_beyond_a_hole_that_is_skipped() {
    let mut lab = Lab::established();
    lab.packet(c(F | P | A, 10).with("xyz")).gives("sc.PKT sc.ST | rv.PKT");
    assert_eq!(lab.states(), "FIN_WAIT_1/ESTABLISHED");
    // The server acknowledges everything: the hole is skipped, the FIN takes effect on SND of its next packet.
    lab.packet(s(A, 0).acks(14)).gives("sv.PKT | rc.PKT rc.ST | nv.ERR | nv.NEW");
    lab.packet(s(F | A, 0).acks(14)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    assert_eq!(lab.states(), "TIME_WAIT/LAST_ACK");
    lab.packet(c(A, 14).acks(1)).gives("sc.PKT | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn d6_one_burst_larger_than_the_ring() {
    let mut lab = Lab::established();
    let all = Rc::new(RefCell::new(Vec::new()));
    let to = all.clone();
    lab.on("nv.NEW", move |c| {
        assert_eq!(c.api.lastpkt(c.sock).unwrap_err(), libc::EACCES, "no packet in NEW_DATA");
        to.borrow_mut().extend(c.api.peek(c.sock, SVR, 1 << 20).bytes);
        ""
    });
    lab.on("rv.PKT", |c| if c.api.lastpkt(c.sock).is_ok() { "" } else { "no packet" });
    let sent = bytes(50_000);
    let burst: Vec<Packet> = sent.chunks(1000).enumerate().map(|(n, b)| data(n as u32 * 1000, b)).collect();
    let tokens = lab.batch(burst).tokens();
    assert!(!tokens.iter().any(|t| t.contains("ERR") || t.contains("no packet")), "{tokens:?}");
    assert!(*all.borrow() == sent, "a reader that peeks on every NEW_DATA loses nothing");
    // The first eight segments fill the ring; the ninth would evict the announced bytes.
    let early = tokens.iter().position(|t| t == "nv.NEW").expect("an early NEW_DATA");
    assert_eq!(tokens[..early].join(" "), ["sc.PKT"; 9].join(" rv.PKT "), "between SND and RCV of the ninth");
    assert_eq!(tokens.last().map(String::as_str), Some("nv.NEW"));
}

#[test]
fn d6_eviction_error_after_the_early_delivery() {
    let mut lab = Lab::new();
    lab.listen();
    lab.handshake();
    lab.on("B:nv.NEW", read_all);
    let burst: Vec<Packet> = (0..9).map(|n| data(n * 1000, bytes(1000))).collect();
    let step = lab.batch(burst).only(|t| t.contains(":n"));
    // A has not read: ERROR for A alone.
    step.gives("A:nv.NEW B:nv.NEW=8000B A:nv.ERR A:nv.NEW B:nv.NEW=1000B");
}

#[test]
fn d6_out_of_order_beyond_the_ring() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), s(A, 0).acks(5)]);
    lab.packet(data(5 + 8192 - 9, bytes(10))).tokens();
    let mut lab = Lab::established();
    lab.packet(data(8193, bytes(10))).gives("sc.PKT | nv.ERR | rv.PKT");
    assert!(!fragments(&lab).contains('['), "discarded");
}

#[test]
fn d7_sides_are_whole_in_every_end_callback() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), reply(0, "WORLD").acks(5)]);
    lab.on(".END", |c| {
        assert_eq!(c.api.peername(c.sock, BOTH, 32).0, (0, 0));
        assert!(c.api.state(c.sock, CLI).0.is_some() && c.api.state(c.sock, SVR).0.is_some());
        c.api.set_uctx(c.sock, c.api.uctx(c.sock).0 + 1);
        let bytes = |side| c.api.ppeek(c.sock, side, 5, 0).to_string();
        format!("{}{}{}", bytes(CLI), bytes(SVR), c.api.uctx(c.sock).0)
    });
    lab.packet(c(R, 5))
        .only(|t| t.contains("END"))
        .gives("rv.END=WORLDHELLO1 sv.END=WORLDHELLO2 rc.END=WORLDHELLO3 sc.END=WORLDHELLO4");
}

#[test]
fn d8_resets_that_count() {
    // The receiver's last ACK, while the tail is further.
    let mut lab = Lab::established();
    lab.feed([data(0, bytes(100))]);
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
    // The in-order tail.
    let mut lab = Lab::established();
    lab.feed([data(0, bytes(100))]);
    lab.packet(c(R, 100)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
    // The end of anything sent, beyond a hole.
    let mut lab = Lab::established();
    lab.feed([data(50, bytes(50))]);
    lab.packet(c(R, 100)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
    // After its FIN also one less.
    for off in [10, 11] {
        let mut lab = Lab::established();
        lab.feed([c(F | P | A, 0).with(bytes(10))]);
        lab.packet(c(R, off)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
    }
}

#[test]
fn d8_resets_that_do_not_count() {
    for off in [1, 50, 101, 65000, 100_000, u32::MAX - 5] {
        let mut lab = Lab::established();
        lab.feed([data(0, bytes(100))]);
        lab.packet(c(R, off)).gives("sc.PKT | rv.PKT");
        assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED", "RST at {off}");
    }
}

#[test]
fn d8_window_is_scaled_and_never_shrinks() {
    let scale = |n: u8| [3, 3, n, 1];
    let mut lab = Lab::with(|mos| mos.rmem_size = 4 << 20);
    lab.feed([syn().options(&scale(2)), syn_ack().options(&scale(5)).window(1000), ack()]);
    lab.feed([s(A, 0).window(1000)]);
    lab.feed([s(A, 0).window(10)]);
    lab.packet(data(32_000, bytes(10))).gives("sc.PKT | nv.ERR | rv.PKT");
    lab.packet(data(31_990, bytes(10))).gives("sc.PKT | rv.PKT");
    assert_eq!(fragments(&lab), "[31990+10]");
}

#[test]
fn d8_window_until_one_is_known() {
    let mut lab = Lab::with(|mos| mos.rmem_size = 4 << 20);
    // The SYN/ACK is not seen, so no window is known with its scale.
    lab.feed([syn(), ack()]);
    lab.packet(data(65_536, bytes(10))).gives("sc.PKT | nv.ERR | rv.PKT");
    lab.packet(data(65_526, bytes(10))).gives("sc.PKT | rv.PKT");
}

#[test]
fn d8_new_syn_after_the_senders_fin() {
    for (isn, starts) in [(90_000, true), (CLIENT_ISN - 500, false)] {
        let mut lab = Lab::established();
        lab.feed([c(F | A, 0), s(A, 0).acks(1)]);
        lab.on(".END", |c| c.api.lastpkt(c.sock).map_or_else(name_of, |_| "packet".into()));
        let tokens = lab.packet(syn().seq(isn)).tokens();
        if starts {
            assert_eq!(tokens.iter().filter(|t| t.ends_with("END=EACCES")).count(), 4, "{tokens:?}");
            assert_eq!(tokens[8..].join(" "), "sc.PKT sc.START sc.ST rv.PKT rv.START rv.ST");
        } else {
            assert_eq!(tokens.join(" "), "sc.PKT rv.PKT", "an ISN before the old stream's end");
        }
    }
}

#[test]
fn d8_new_syn_on_an_open_flow() {
    let mut lab = Lab::established();
    lab.packet(syn().seq(90_000)).gives("sc.PKT | rv.PKT");
    // The server has not sent its FIN: a SYN of the client's does not count either.
    lab.feed([s(F | A, 0)]);
    lab.packet(syn().seq(90_000)).gives("sc.PKT | rv.PKT");
}

#[test]
fn d9_buffer_is_resized() {
    let mut lab = Lab::established();
    lab.feed([data(0, bytes(1000))]);
    assert_eq!(lab.ask(|api| api.set(lab.sock(), MOS_SVRBUF, 16384)), (0, 0));
    for n in 1..16 {
        lab.packet(data(n * 1000, bytes(1000))).gives("sc.PKT | rv.PKT | nv.NEW");
    }
    assert_eq!(fragments(&lab), "[0+16000]");
    assert_eq!(lab.ask(|api| api.set(lab.sock(), MOS_CLIBUF, 1024)), (0, 0));
    lab.feed((0..3).map(|n| reply(n * 1000, bytes(1000))));
    assert_eq!(lab.ask(|api| api.fragments(lab.sock(), CLI)), "[1976+1024]");
}

#[test]
fn d9_fraginfo_never_writes_more_than_there_is_room_for() {
    let mut lab = Lab::established();
    lab.feed([data(0, bytes(10)), data(20, bytes(10)), data(40, bytes(10))]);
    let ask = |room| lab.ask(|api| api.fragments_of(lab.sock(), room));
    assert_eq!(ask(1), ((0, 0), 1, vec![(0, 10)]));
    assert_eq!(ask(2), ((0, 0), 2, vec![(0, 10), (20, 10)]));
    assert_eq!(ask(3), ((0, 0), 3, vec![(0, 10), (20, 10), (40, 10)]));
    let (ret, count, found) = ask(5);
    assert_eq!((ret, count, &found[..4]), ((0, 0), 3, &[(0, 10), (20, 10), (40, 10), (0, 0)][..]));
    assert_eq!(ask(0).0, (-1, 0));
}

#[test]
fn d9_chomp_and_insert() {
    const SUMS: c_int = MOS_UPDATE_IP_CHKSUM | MOS_UPDATE_TCP_CHKSUM;
    let mut lab = Lab::established();
    lab.sent();
    lab.once("sc.PKT", |c| said(c.api.chomp(c.sock, 1, 3, MOS_TCP_PAYLOAD | SUMS)));
    lab.on("nv.NEW", read_all);
    lab.packet(data(0, "HELLO")).gives("sc.PKT=0 | rv.PKT | nv.NEW=HO");
    assert_eq!(seen(&lab.to_server()[0]).payload, b"HO");

    let mut lab = Lab::established();
    lab.sent();
    lab.once("sc.PKT", |c| {
        said(c.api.setlastpkt(c.sock, 5, b", world", MOS_INSERT | MOS_TCP_PAYLOAD | SUMS))
    });
    lab.on("rv.PKT", |c| {
        c.api.lastpkt(c.sock).map_or_else(name_of, |p| format!("{},{}", p.ip_len, p.payload.len()))
    });
    lab.packet(data(0, "HELLO")).gives("sc.PKT=0 | rv.PKT=52,12 | nv.NEW");
    assert_eq!(seen(&lab.to_server()[0]).payload, b"HELLO, world");
    // More than there is.
    lab.on("sc.PKT", |c| said(c.api.chomp(c.sock, 1, 5, MOS_TCP_PAYLOAD | SUMS)));
    lab.packet(data(12, "HELLO")).only(|t| t.starts_with("sc")).gives("sc.PKT=-1/EINVAL");
}

#[test]
fn d12_lengths_are_checked_before_any_callback() {
    let mut lab = Lab::new();
    lab.listen_raw();
    let malformed = [
        ("no Ethernet header", syn().bent(|f| f.truncate(13))),
        ("no IP header", syn().bent(|f| f.truncate(20))),
        ("ihl below 5", syn().bent(|f| f[14] = 0x44)),
        ("ihl beyond the packet", syn().bent(|f| f[14] = 0x4f)),
        ("tot_len beyond the frame", syn().bent(|f| f[17] = 200)),
        (
            "TCP header cut",
            syn().bent(|f| {
                f[17] = 30;
                f.truncate(44);
            }),
        ),
        ("doff below 5", syn().bent(|f| f[46] = 0x40)),
        ("doff beyond the packet", syn().bent(|f| f[46] = 0xf0)),
        ("empty", syn().bent(Vec::clear)),
    ];
    for (what, frame) in malformed {
        let tokens = lab.packet(frame).tokens();
        assert!(tokens.is_empty(), "{what}: {tokens:?}");
        assert_eq!(lab.sent(), 0, "{what}");
    }
    let stats = lab.stats();
    assert_eq!(stats.bad_eth + stats.bad_ip_len + stats.bad_tcp_len, 9, "each is counted");
    lab.packet(syn()).gives("B:nb.PKT A{ SYN1 }");
}

#[test]
fn d12_fragments_are_not_parsed_as_tcp() {
    let mut lab = Lab::established();
    lab.sent();
    let fragment = |p: Packet, field: [u8; 2]| {
        p.bent(|f| {
            f[20..22].copy_from_slice(&field);
            fill_checksums(f);
        })
    };
    for field in [[0x20, 0], [0, 1], [0x20, 1]] {
        lab.packet(fragment(data(0, bytes(16)), field)).gives("");
        assert_eq!(lab.sent(), 1, "forwarded");
    }
    assert_eq!(lab.stats().in_fragment, 3);
}

#[test]
fn d12_options_always_advance() {
    let broken: [&[u8]; 8] = [
        &[8, 0, 0, 0],
        &[8, 1, 0, 0],
        &[3, 0, 0, 0],
        &[2, 40, 0, 0],
        &[8, 10, 0, 0],
        &[99, 1, 99, 1],
        &[1, 1, 1, 8],
        &[3, 2, 3, 3],
    ];
    for (n, options) in broken.into_iter().enumerate() {
        let mut lab = Lab::new();
        lab.packet(syn().options(options)).gives("SYN1");
        lab.packet(syn_ack().options(options)).gives("sv.PKT | rc.PKT rc.ST");
        assert_eq!(lab.sent(), 2, "options {n}");
    }
}

/// `max` ids, one of them the listener's.
fn few_ids(max: i32) -> Lab {
    Lab::with(|mos| mos.max_concurrency = max)
}

#[test]
fn d13_new_syn_evicts_the_oldest_half_open_flow() {
    let mut lab = few_ids(4);
    lab.handshake_from(1);
    lab.at(2000).feed([syn().port(2)]);
    let oldest = lab.sock();
    lab.at(4000).feed([syn().port(3)]);
    lab.on(".END", move |c| {
        assert_eq!(c.sock, oldest);
        c.api.lastpkt(c.sock).map_or_else(name_of, |_| "packet".into())
    });
    lab.on("sc.PKT", |c| c.api.lastpkt(c.sock).map_or_else(name_of, |p| p.frame[35].to_string()));
    lab.at(10_000).packet(syn().port(4)).gives(
        "rc.ST rc.END=EACCES sc.ST sc.END=EACCES rv.ST rv.END=EACCES sv.ST sv.END=EACCES \
         sc.PKT=4 sc.START sc.ST rv.PKT rv.START rv.ST",
    );
    assert_eq!((lab.api.connections(), lab.stats().flows_evicted), (3, 1));
    lab.packet(syn_ack().port(2)).gives("nb.ORPH");
}

#[test]
fn d13_else_the_one_idle_longest() {
    let mut lab = few_ids(4);
    lab.handshake_from(1);
    lab.at(3000).handshake_from(2);
    let idlest = lab.sock();
    lab.at(6000).handshake_from(3);
    lab.at(9000).feed([data(0, "x").port(1)]);
    lab.on(".END", move |c| (c.sock == idlest).to_string());
    let step = lab.at(20_000).packet(syn().port(4)).only(|t| t.contains("END") || t.contains("START"));
    step.gives("rc.END=true sc.END=true rv.END=true sv.END=true sc.START rv.START");
}

#[test]
fn d13_a_flow_of_the_last_second_stays() {
    let mut lab = few_ids(2);
    lab.handshake_from(1);
    lab.at(999).packet(syn().port(2)).gives("nb.ORPH");
    assert_eq!((lab.api.connections(), lab.stats().flows_refused), (1, 1));
    let step = lab.at(2000).packet(syn().port(2)).only(|t| t.contains("END") || t.contains("START"));
    step.gives("rc.END sc.END rv.END sv.END sc.START rv.START");
}

#[test]
fn d13_a_flow_uses_an_id_per_listener() {
    let mut lab = Lab::with(|mos| mos.max_concurrency = 6);
    lab.listen();
    lab.feed([syn().port(1), syn().port(2)]);
    assert_eq!(lab.api.connections(), 2);
    lab.packet(syn().port(3)).gives("A:nb.ORPH B:nb.ORPH");
    lab.at(5000)
        .packet(syn().port(3))
        .only(|t| t.contains("START"))
        .gives("A:sc.START B:sc.START A:rv.START B:rv.START");
    assert_eq!(lab.api.connections(), 2);
}

#[test]
fn d13_mtcp_socket_evicts_likewise() {
    let mut lab = few_ids(3);
    lab.feed([syn().port(1), syn().port(2)]);
    // In a callback there is no eviction.
    lab.on("rv.PKT", |c| said(c.api.socket(STREAM)));
    let full = format!("rv.PKT=-1/errno{}", libc::ENFILE);
    lab.packet(syn().port(1)).only(|t| t.starts_with("rv.PKT")).gives(&full);
    lab.no_handlers();
    let api = lab.api;
    let _ = lab.until(5000);
    let other = std::thread::spawn(move || api.socket(STREAM));
    let mut ended = 0;
    for _ in 0..2000 {
        ended += lab.until(5000).tokens().iter().filter(|t| t.ends_with("END")).count();
        if other.is_finished() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let (sock, errno) = other.join().expect("the application thread");
    assert!((0..3).contains(&sock), "{sock}, errno {errno}");
    assert_eq!((ended, lab.api.connections()), (4, 1));
}

#[test]
fn d16_both_addresses_are_kept() {
    let mut lab = Lab::new();
    lab.packet(syn()).gives("SYN1");
    assert_eq!(lab.to_server()[0][..12], syn().bytes()[..12]);
    lab.on("sv.PKT", |c| said(c.api.setlastpkt(c.sock, 0, &[7; 12], MOS_OVERWRITE | MOS_ETH_HDR)));
    lab.packet(syn_ack()).gives("sv.PKT=0 | rc.PKT rc.ST");
    assert_eq!(lab.to_client()[0][..12], [7; 12], "as the packet has them after edits");
}

#[test]
fn d18_all_flows_get_their_end() {
    let mut lab = Lab::new();
    lab.handshake_from(1);
    lab.feed([syn().port(2), data(0, "x").port(1)]);
    let tokens = lab.end_all().tokens();
    assert_eq!(tokens.iter().filter(|t| t.ends_with("END")).count(), 8, "{tokens:?}");
    assert_eq!(lab.api.connections(), 0);
}

#[test]
fn d18_closing_a_listener_is_for_later_flows() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    lab.feed([syn()]);
    assert_eq!(lab.api.close(listener), (0, 0));
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(syn().port(2)).gives("");
    assert_eq!(lab.api.close(listener), (-1, libc::EBADF));
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn d20_mtcp_reset_conn() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), reply(0, "abc").acks(5)]);
    lab.sent();
    lab.once("rv.PKT", |c| said(c.api.reset(c.sock)));
    lab.packet(data(5, "WORLD").acks(3)).only(|t| t.starts_with("rv")).gives("rv.PKT=0");
    let resets = |frames: Vec<Vec<u8>>| -> Vec<Seen> {
        frames.iter().map(|f| seen(f)).filter(|p| p.flags & R != 0).collect()
    };
    let (to_server, to_client) = (resets(lab.to_server()), resets(lab.to_client()));
    assert_eq!((to_server.len(), to_client.len()), (1, 1), "one RST to each end");
    assert_eq!((to_server[0].src, to_server[0].dst), (CLIENT, SERVER));
    assert_eq!((to_client[0].src, to_client[0].dst), (SERVER, CLIENT));
    assert!(
        [CLIENT_ISN + 1 + 5, CLIENT_ISN + 1 + 10].contains(&to_server[0].seq),
        "the number the server expects: {}",
        to_server[0].seq
    );
    assert_eq!(to_client[0].seq, SERVER_ISN + 1 + 3);
}

#[test]
fn d20_no_resets_of_our_own_accord() {
    let mut lab = Lab::new();
    for packet in [data(0, "x"), syn_ack(), c(F | A, 0)] {
        lab.packet(packet).gives("nb.ORPH");
    }
    assert_eq!(lab.sent(), 3, "the packets themselves, nothing else");
    let mut lab = Lab::bare(|_| {});
    lab.feed([syn()]);
    assert_eq!(lab.sent(), 1);
}

#[test]
fn x3_flows_seen_in_the_middle() {
    let mut lab = Lab::with(|mos| mos.midstream = true);
    lab.on(".NEW", read_all);
    let tokens = lab.packet(data(100, "HELLO")).tokens();
    assert!(tokens.contains(&"nv.NEW=HELLO".to_owned()), "{tokens:?}");
    assert!(!tokens.iter().any(|t| t.contains("ORPH")), "{tokens:?}");
    lab.packet(reply(0, "WORLD").acks(105)).gives("sv.PKT | rc.PKT | nc.NEW=WORLD");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.packet(s(R, 5)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
}

#[test]
fn x3_what_opens_nothing() {
    let mut lab = Lab::with(|mos| mos.midstream = true);
    for flags in [R, R | A, S | F, S | R, S | F | A] {
        lab.packet(c(flags, 0)).gives("nb.ORPH");
    }
}

#[test]
fn x5_checksums_are_not_verified_on_request() {
    let bad = || syn().bent(|f| f[51] ^= 1);
    Lab::new().packet(bad()).gives("");
    Lab::with(|mos| mos.verify_checksums = false).packet(bad()).gives("SYN1");
}

#[test]
fn x5_memory_limit() {
    let mut lab = Lab::established_with(|mos| {
        mos.rmem_size = 1 << 20;
        mos.memory_limit = Some(64 << 10);
    });
    for n in 0..200 {
        lab.feed([data(n * 1000, bytes(1000))]);
    }
    let held = lab.ask(|api| api.fragments_of(lab.sock(), 1)).2[0];
    assert!(held.1 > 0 && held.1 <= 64 << 10, "{held:?}");
    assert!(lab.stats().no_memory > 0);
    // Everything else goes on.
    lab.packet(s(R, 0)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
}

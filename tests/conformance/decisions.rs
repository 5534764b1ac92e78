//! Decisions D1 to D9 beyond the cases of §10: one test or more named after each entry. The rest is in `limits`.

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::rc::Rc;

/// Reads all there is on the side of the event; what precedes a loss, the loss, and what follows, joined by `,`.
pub fn read_all(c: &Call) -> String {
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
fn d3_raw_edits_come_before_the_flow_is_found() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    assert_eq!(lab.api.bind(listener, Some("dst port 80"), None), (0, 0));
    lab.listen_raw();
    lab.on("B:nb.PKT", |c| {
        let sums = MOS_UPDATE_TCP_CHKSUM;
        said(c.api.setlastpkt(c.sock, 2, &80u16.to_be_bytes(), MOS_OVERWRITE | MOS_TCP_HDR | sums))
    });
    lab.packet(syn().server_port(81)).gives("B:nb.PKT=0 A{ SYN1 }");
    assert_eq!(seen(&lab.to_server()[0]).dst, SERVER);
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
fn d2_a_side_begins_once() {
    // The client's RST takes effect for the client; callbacks made something else of it, so not for the server.
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.once("sc.PKT", |c| {
        said(c.api.setlastpkt(c.sock, 13, &[A], MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_TCP_CHKSUM))
    });
    lab.packet(c(R, 0)).gives("sc.PKT=0 sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "CLOSED/ESTABLISHED");
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT");
    // A connection seen in the middle, closed, and its first SYN late.
    let mut lab = Lab::with(|mos| {
        mos.midstream = true;
        mos.tcp_tw_interval = 5;
    });
    lab.packet(data(0, "x")).gives("sc.PKT sc.START sc.ST | rv.PKT rv.START rv.ST | nv.NEW");
    lab.feed([s(F | A, 0).acks(1), c(F | A, 1).acks(1), s(A, 1).acks(2)]);
    assert_eq!(lab.states(), "CLOSED/TIME_WAIT");
    lab.packet(syn()).gives("sc.PKT | rv.PKT");
}

#[test]
fn d8_a_reset_with_other_flags_is_a_reset() {
    // To the first SYN, with SYN and ACK: both sides are over, and no later SYN/ACK begins the client anew.
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(s(S | R | A, 0).seq(5000).acks(0)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
    lab.packet(syn_ack()).gives("nb.ORPH");
    let mut lab = Lab::established();
    lab.packet(c(S | R | P | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
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
fn d8_out_of_order_stamps_do_not_count_as_recent() {
    let mut lab = Lab::new();
    lab.feed([syn().stamp(100, 0), syn_ack().stamp(900, 100), ack().stamp(101, 900)]);
    lab.feed([data(20, bytes(10)).stamp(300, 900)]);
    // RFC 7323 4.3: the segment before did not begin at or below the last ACK sent.
    lab.packet(data(0, bytes(10)).stamp(250, 900)).gives("sc.PKT | rv.PKT | nv.NEW");
    lab.packet(data(10, bytes(10)).stamp(200, 900)).gives("sc.PKT | rv.PKT");
    // Acknowledged now; stamps wrap.
    lab.feed([s(A, 0).acks(10).stamp(950, 250), data(10, bytes(10)).stamp(u32::MAX / 2, 950)]);
    lab.feed([s(A, 0).acks(30).stamp(951, 300), data(30, "x").stamp(u32::MAX - 9, 951)]);
    lab.feed([s(A, 0).acks(31).stamp(952, 300)]);
    lab.packet(data(31, "y").stamp(5, 951)).gives("sc.PKT | rv.PKT | nv.NEW");
}

#[test]
fn d8_new_syn_with_a_newer_stamp() {
    let mut lab = Lab::with(|mos| mos.tcp_tw_interval = 5);
    lab.feed([syn().stamp(100, 0), syn_ack().stamp(900, 100), ack().stamp(101, 900)]);
    lab.feed([c(F | A, 0).stamp(102, 900), s(A, 0).acks(1).stamp(901, 102)]);
    // An ISN before the old stream's end.
    lab.packet(syn().seq(500).stamp(90, 0)).gives("sc.PKT | rv.PKT");
    let tokens = lab.packet(syn().seq(500).stamp(5000, 0)).tokens();
    assert_eq!(tokens[8..].join(" "), "sc.PKT sc.START sc.ST rv.PKT rv.START rv.ST");
}

#[test]
fn d8_time_wait_ends_without_an_idle_timeout() {
    let mut lab = Lab::established_with(|mos| {
        mos.tcp_timeout = -1;
        mos.tcp_tw_interval = 2;
    });
    lab.feed([c(F | A, 0), s(F | A, 0).acks(1), c(A, 1).acks(1)]);
    lab.until(1999).gives("");
    lab.until(2000).gives("KILL(c,v)");
}

#[test]
fn d8_a_packet_refreshes_time_wait() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 2);
    lab.feed([c(F | A, 0), s(F | A, 0).acks(1), c(A, 1).acks(1)]);
    lab.at(1500).packet(s(F | A, 0).acks(1)).gives("sv.PKT | rc.PKT rc.REX");
    lab.until(3499).gives("");
    lab.until(3500).gives("KILL(c,v)");
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

//! §10.3: closing, reset, timeout.

use crate::calls::said;
use crate::lab::*;
use crate::packets::*;

#[test]
fn c59_client_closes_first() {
    let mut lab = Lab::established();
    lab.packet(c(F | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "FIN_WAIT_1/CLOSE_WAIT");
    lab.packet(s(A, 0).acks(1)).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(lab.states(), "FIN_WAIT_2/CLOSE_WAIT");
    lab.packet(s(F | A, 0).acks(1)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    assert_eq!(lab.states(), "TIME_WAIT/LAST_ACK");
    lab.packet(c(A, 1).acks(1)).gives("sc.PKT | rv.PKT rv.ST | KILL(v,c)");
    lab.packet(c(A, 1).acks(1)).gives("nb.ORPH");
    assert_eq!(lab.api.connections(), 0);
}

#[test]
fn c60_server_closes_first() {
    let mut lab = Lab::established();
    lab.packet(s(F | A, 0)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    assert_eq!(lab.states(), "CLOSE_WAIT/FIN_WAIT_1");
    lab.packet(c(A, 0).acks(1)).gives("sc.PKT | rv.PKT rv.ST");
    lab.packet(c(F | A, 0).acks(1)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "LAST_ACK/TIME_WAIT");
    lab.packet(s(A, 1).acks(1)).gives("sv.PKT | rc.PKT rc.ST | KILL(c,v)");
}

#[test]
fn c61_close_in_three_packets() {
    let mut lab = Lab::established();
    lab.packet(c(F | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    lab.packet(s(F | A, 0).acks(1)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    assert_eq!(lab.states(), "TIME_WAIT/LAST_ACK");
    lab.packet(c(A, 1).acks(1)).gives("sc.PKT | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c62_crossing_fins() {
    let mut lab = Lab::established();
    lab.packet(c(F | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "FIN_WAIT_1/CLOSE_WAIT");
    lab.packet(s(F | A, 0)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    assert_eq!(lab.states(), "CLOSING/CLOSING");
    lab.packet(c(A, 1).acks(1)).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(lab.states(), "CLOSING/TIME_WAIT");
    lab.packet(s(A, 1).acks(1)).gives("sv.PKT | rc.PKT rc.ST | KILL(c,v)");
}

#[test]
fn c63_fin_repeated() {
    let mut lab = Lab::established();
    lab.feed([c(F | A, 0)]);
    lab.packet(c(F | A, 0)).gives("sc.PKT | rv.PKT rv.REX");
    lab.feed([s(A, 0).acks(1)]);
    lab.packet(c(F | A, 0)).gives("sc.PKT | rv.PKT rv.REX");
}

#[test]
fn c64_fin_with_data_repeated() {
    let mut lab = Lab::established();
    let fin = || c(F | P | A, 0).with(bytes(10));
    lab.packet(fin()).gives("sc.PKT sc.ST | rv.PKT rv.ST | nv.NEW");
    lab.packet(fin()).gives("sc.PKT | rv.REX | rv.PKT");
}

#[test]
fn c65_fin_before_its_data() {
    let mut lab = Lab::established();
    lab.packet(c(F | A, 10)).gives("sc.PKT sc.ST | rv.PKT");
    assert_eq!(lab.states(), "FIN_WAIT_1/ESTABLISHED");
    // D5c: it takes effect with the packet that fills the hole; the second FIN is then a repeat.
    lab.packet(data(0, bytes(10))).gives("sc.PKT | rv.PKT rv.ST | nv.NEW");
    assert_eq!(lab.states(), "FIN_WAIT_1/CLOSE_WAIT");
    lab.packet(c(F | A, 10)).gives("sc.PKT | rv.PKT rv.REX");
}

/// What a CONN_END callback can read: both sides' bytes, and both addresses.
fn readable(c: &Call) -> String {
    let (ret, ends) = c.api.peername(c.sock, BOTH, 32);
    assert_eq!((ret, ends), ((0, 0), vec![CLIENT, SERVER]));
    format!("{},{}", c.api.ppeek(c.sock, CLI, 20, 0), c.api.ppeek(c.sock, SVR, 20, 0))
}

#[test]
fn c66_client_resets() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), reply(0, "WORLD").acks(5)]);
    lab.on("rv.END", readable);
    lab.on("rc.END", readable);
    lab.packet(c(R, 5)).gives(
        "sc.PKT sc.ST | rv.PKT rv.ST | rv.ST rv.END=WORLD,HELLO sv.ST sv.END | rc.ST rc.END=WORLD,HELLO sc.ST sc.END",
    );
}

#[test]
fn c67_server_resets() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), reply(0, "WORLD").acks(5)]);
    lab.on("rv.END", readable);
    lab.on("rc.END", readable);
    lab.packet(s(R, 5)).gives(
        "sv.PKT sv.ST | rc.PKT rc.ST | rc.ST rc.END=WORLD,HELLO sc.ST sc.END | rv.ST rv.END=WORLD,HELLO sv.ST sv.END",
    );
}

#[test]
fn c68_bare_fin_after_data() {
    let mut lab = Lab::established();
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 100));
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
    lab.packet(c(F | A, 5)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
}

#[test]
fn c69_data_for_a_half_closed_client() {
    let mut lab = Lab::established();
    lab.feed([c(F | A, 0), s(A, 0).acks(1)]);
    lab.on("nc.NEW", |c| c.api.peek(c.sock, CLI, 100).ret.to_string());
    lab.packet(reply(0, bytes(30)).acks(1)).gives("sv.PKT | rc.PKT | nc.NEW=30");
    lab.packet(s(F | A, 30).acks(1)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
}

#[test]
fn c70_data_and_fin_for_a_half_closed_client() {
    let mut lab = Lab::established();
    lab.feed([c(F | A, 0)]);
    lab.packet(s(F | P | A, 0).acks(1).with(bytes(30))).gives("sv.PKT sv.ST | rc.PKT rc.ST | nc.NEW");
    assert_eq!(lab.states(), "TIME_WAIT/LAST_ACK");
}

#[test]
fn c71_data_and_fin_for_an_open_client() {
    let mut lab = Lab::established();
    lab.packet(s(F | P | A, 0).with(bytes(30))).gives("sv.PKT sv.ST | rc.PKT rc.ST | nc.NEW");
    assert_eq!(lab.states(), "CLOSE_WAIT/FIN_WAIT_1");
}

#[test]
fn c72_refused() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(s(R | A, 0).seq(0)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
}

#[test]
fn c73_refusal_that_acknowledges_nothing() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(s(R, 0).seq(0)).gives("sv.PKT | rc.PKT");
    assert_eq!(lab.states(), "SYN_SENT/SYN_RCVD");
}

#[test]
fn c74_client_gives_up_after_its_syn() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c75_client_resets_after_the_syn_ack() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c76_client_resets_with_an_ack() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(c(R | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c77_reset_of_an_open_connection() {
    let mut lab = Lab::established();
    // D8: inside the window, but not a number the server may be expecting.
    lab.packet(c(R, 100)).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c78_reset_far_outside_the_window() {
    let mut lab = Lab::established();
    lab.packet(s(R, 50_000_000)).gives("sv.PKT | rc.PKT");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn c79_data_and_reset_in_one_batch() {
    let mut lab = Lab::established();
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 100));
    lab.batch([data(0, "HELLO"), c(R, 5)])
        .gives("sc.PKT | rv.PKT | sc.PKT sc.ST | rv.PKT rv.ST | nv.NEW=HELLO | KILL(v,c)");
}

#[test]
fn c80_idle() {
    let mut lab = Lab::established();
    lab.on(".END", |c| c.api.lastpkt(c.sock).map_or_else(crate::calls::name_of, |_| "packet".into()));
    lab.until(29_999).gives("");
    lab.until(30_000)
        .gives("rc.ST rc.END=EACCES sc.ST sc.END=EACCES | rv.ST rv.END=EACCES sv.ST sv.END=EACCES");
}

#[test]
fn c81_an_older_flow_does_not_delay_a_younger_one() {
    let mut lab = Lab::new();
    lab.handshake_from(1111);
    lab.at(1000).handshake_from(2222);
    let younger = lab.sock();
    lab.on(".END", move |c| if c.sock == younger { "younger" } else { "older" });
    lab.at(20_000).feed([data(0, bytes(10))]);
    lab.until(30_999).gives("");
    lab.until(31_000)
        .only(|t| t.contains("END"))
        .gives("rc.END=younger sc.END=younger rv.END=younger sv.END=younger");
    lab.until(49_999).gives("");
    lab.until(50_000)
        .only(|t| t.contains("END"))
        .gives("rc.END=older sc.END=older rv.END=older sv.END=older");
}

#[test]
fn c82_only_the_server_speaks() {
    let mut lab = Lab::established();
    for second in 1..=20 {
        lab.at(second * 1000).feed([reply(second as u32 * 10 - 10, bytes(10))]);
    }
    lab.until(49_999).gives("");
    lab.until(50_000).gives("KILL(c,v)");
}

#[test]
fn c83_time_wait() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 2);
    lab.feed([c(F | A, 0), s(A, 0).acks(1)]);
    lab.at(1000).feed([s(F | A, 0).acks(1)]);
    lab.at(1500).packet(c(A, 1).acks(1)).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(lab.states(), "TIME_WAIT/CLOSED");
    lab.until(2999).gives("");
    lab.until(3000).gives("KILL(c,v)");
    assert_eq!((lab.stats().flows_ended, lab.stats().flows_timed_out), (1, 0), "it was not silent");
}

#[test]
fn d2_an_old_syn_opens_no_closed_side_again() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 2);
    lab.feed([c(F | A, 0), s(A, 0).acks(1), s(F | A, 0).acks(1), c(A, 1).acks(1)]);
    assert_eq!(lab.states(), "TIME_WAIT/CLOSED");
    lab.packet(syn()).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.states(), "TIME_WAIT/CLOSED");
    lab.until(2000).gives("KILL(c,v)");

    // The client's own side is the closed one when the server closes first.
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 2);
    lab.feed([s(F | A, 0), c(A, 0).acks(1), c(F | A, 0).acks(1), s(A, 1).acks(1)]);
    assert_eq!(lab.states(), "CLOSED/TIME_WAIT");
    lab.packet(syn()).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.states(), "CLOSED/TIME_WAIT");
}

#[test]
fn d5c_time_wait_begins_when_the_remembered_fin_takes_effect() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 2);
    lab.feed([c(F | A, 0), s(A, 0).acks(1), s(F | A, 10).acks(1)]);
    lab.at(10_000).feed([c(A, 1).acks(11)]);
    assert_eq!(lab.states(), "FIN_WAIT_2/CLOSED");
    lab.at(11_000).packet(c(A, 1).acks(11)).gives("sc.PKT sc.ST | rv.PKT");
    assert_eq!(lab.states(), "TIME_WAIT/CLOSED");
    lab.until(12_999).gives("");
    lab.until(13_000).gives("KILL(c,v)");
}

#[test]
fn d18_what_the_last_callbacks_send_leaves() {
    let mut lab = Lab::established();
    lab.feed([data(0, "x"), reply(0, "y").acks(1)]);
    lab.sent();
    lab.on("sv.END", |c| said(c.api.reset(c.sock)));
    lab.end_all().only(|t| t.starts_with("sv.END")).gives("sv.END=0");
    assert_eq!(lab.sent(), 2);
}

#[test]
fn c84_time_wait_without_the_last_ack() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 1);
    lab.feed([c(F | A, 0), s(A, 0).acks(1), s(F | A, 0).acks(1)]);
    assert_eq!(lab.states(), "TIME_WAIT/LAST_ACK");
    lab.until(29_999).gives("");
    lab.until(30_000).gives("KILL(c,v)");
}

#[test]
fn c85_new_connection_in_time_wait() {
    let mut lab = Lab::established_with(|mos| mos.tcp_tw_interval = 5);
    lab.feed([c(F | A, 0), s(A, 0).acks(1), s(F | A, 0).acks(1), c(A, 1).acks(1)]);
    let old = lab.sock();
    assert_eq!(lab.states(), "TIME_WAIT/CLOSED");
    lab.on(".END", move |c| (c.sock == old).to_string());
    let mut tokens = lab.at(1000).packet(syn().seq(90_000)).tokens();
    let rest = tokens.split_off(8);
    // Which side of the old flow is told first is not said.
    tokens.sort();
    assert_eq!(
        tokens,
        ["rc.END=true", "rc.ST", "rv.END=true", "rv.ST", "sc.END=true", "sc.ST", "sv.END=true", "sv.ST"]
    );
    assert_eq!(rest.join(" "), "sc.PKT sc.START sc.ST rv.PKT rv.START rv.ST");
    assert_eq!((lab.states().as_str(), lab.api.connections()), ("SYN_SENT/SYN_RCVD", 1));
}

#[test]
fn c86_same_tuple_after_the_end() {
    let mut lab = Lab::established();
    lab.on("sc.PKT", |c| {
        c.api.set_uctx(c.sock, 99);
        ""
    });
    lab.feed([data(0, "x"), c(R, 1)]);
    let first = lab.sock();
    lab.no_handlers();
    lab.on("sc.START", |c| c.api.uctx(c.sock).0.to_string());
    lab.packet(syn().seq(7000)).gives("sc.PKT sc.START=0 sc.ST | rv.PKT rv.START rv.ST");
    assert_ne!(lab.sock(), first, "a new socket id");
}

#[test]
fn c87_no_timeout() {
    let mut lab = Lab::with(|mos| mos.tcp_timeout = -1);
    for port in 1..=500 {
        lab.handshake_from(port);
    }
    lab.until(1_000_000_000).gives("");
    assert_eq!(lab.api.connections(), 500);
    lab.packet(data(0, "HELLO").port(250)).gives("sc.PKT | rv.PKT | nv.NEW");
    for port in 1..=500 {
        lab.packet(c(R, if port == 250 { 5 } else { 0 }).port(port))
            .gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
    }
}

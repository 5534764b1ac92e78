//! §10.1: connection set-up.

use crate::lab::*;
use crate::packets::*;

#[test]
fn c01_syn() {
    let mut lab = Lab::new();
    lab.on(".PKT", |c| c.states());
    lab.packet(syn()).gives("sc.PKT=SYN_SENT/- sc.START sc.ST | rv.PKT=SYN_SENT/SYN_RCVD rv.START rv.ST");
    assert_eq!(lab.to_server(), [syn().bytes()]);
}

#[test]
fn c02_syn_ack() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(lab.states(), "ESTABLISHED/SYN_RCVD");
}

#[test]
fn c03_handshake_ack() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(ack()).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn c04_same_syn_again() {
    let mut lab = Lab::new();
    lab.packet(syn()).gives("SYN1");
    lab.packet(syn()).gives("sc.PKT | rv.PKT rv.REX");
    assert_eq!(lab.states(), "SYN_SENT/SYN_RCVD");
}

#[test]
fn c05_syn_with_another_isn() {
    let mut lab = Lab::new();
    lab.packet(syn()).gives("SYN1");
    lab.packet(syn().seq(2000)).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.states(), "SYN_SENT/SYN_RCVD");
}

#[test]
fn c06_new_isn_then_data() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn().seq(2000)]);
    lab.packet(syn_ack().ack_no(2001)).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(ack().seq(2001)).gives("sc.PKT | rv.PKT rv.ST");
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 100));
    lab.packet(data(0, "HELLO").seq(2001)).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
}

#[test]
fn c07_syn_again_before_the_ack() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(syn()).gives("sc.PKT | rv.PKT rv.REX");
    assert_eq!(lab.states(), "ESTABLISHED/SYN_RCVD");
}

#[test]
fn c08_syn_ack_twice() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.REX");
}

#[test]
fn c09_syn_ack_again_when_established() {
    let mut lab = Lab::established();
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.REX");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn c10_syn_ack_that_acknowledges_nothing_of_ours() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    for wrong in [1000, 1002] {
        lab.packet(syn_ack().ack_no(wrong)).gives("sv.PKT | rc.PKT");
        assert_eq!(lab.states(), "SYN_SENT/SYN_RCVD", "ack {wrong}");
    }
}

#[test]
fn c11_bare_ack_from_the_server() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(s(A, 0)).gives("sv.PKT | rc.PKT");
    assert_eq!(lab.states(), "SYN_SENT/SYN_RCVD");
}

#[test]
fn c12_syn_ack_unseen() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(ack()).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.on(".NEW", |c| c.api.peek(c.sock, c.side, 100));
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
    lab.packet(reply(0, "WORLD").acks(5)).gives("sv.PKT | rc.PKT | nc.NEW=WORLD");
}

#[test]
fn c13_ack_with_a_wrong_number() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(ack().ack_no(5003)).gives("sc.PKT | rv.PKT rv.ST");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn c14_third_packet_with_data() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(data(0, bytes(10))).gives("sc.PKT | rv.PKT rv.ST | nv.NEW");
}

#[test]
fn c15_third_packet_is_a_fin() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(c(F | A, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "FIN_WAIT_1/CLOSE_WAIT");
    lab.packet(s(A, 0).acks(1)).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(s(F | A, 0).acks(1)).gives("sv.PKT sv.ST | rc.PKT rc.ST");
    lab.packet(c(A, 1).acks(1)).gives("sc.PKT | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn c16_ack_lost_and_data_out_of_order() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 100));
    lab.packet(data(10, "KLMNOPQRST")).gives("sc.PKT | rv.PKT rv.ST");
    lab.packet(data(0, "ABCDEFGHIJ")).gives("sc.PKT | rv.PKT | nv.NEW=ABCDEFGHIJKLMNOPQRST");
}

#[test]
fn c17_server_speaks_before_the_ack() {
    let mut lab = Lab::new();
    lab.feed([syn(), syn_ack()]);
    lab.packet(reply(0, "HELLO")).gives("sv.PKT | rc.PKT | nc.NEW");
    assert_eq!(lab.states(), "ESTABLISHED/SYN_RCVD");
    lab.packet(ack().acks(5)).gives("sc.PKT | rv.PKT rv.ST");
}

#[test]
fn c18_data_on_the_syn_that_is_not_acknowledged() {
    let mut lab = Lab::new();
    lab.packet(syn().with("ABCDEFGHIJ")).gives("SYN1");
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(ack()).gives("sc.PKT | rv.PKT rv.ST");
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 100));
    lab.packet(data(0, "ABCDEFGHIJ")).gives("sc.PKT | rv.PKT | nv.NEW=ABCDEFGHIJ");
}

/// A SYN of the server's, for a simultaneous open.
fn server_syn() -> Packet {
    s(S, 0).seq(SERVER_ISN).ack_no(0)
}

#[test]
fn c19_simultaneous_open() {
    let mut lab = Lab::new();
    lab.feed([syn()]);
    lab.packet(server_syn()).gives("sv.PKT | rc.PKT rc.ST");
    assert_eq!(lab.states(), "SYN_RCVD/SYN_RCVD");
}

#[test]
fn c20_simultaneous_open_completes() {
    let mut lab = Lab::new();
    lab.feed([syn(), server_syn()]);
    lab.packet(c(S | A, 0).seq(CLIENT_ISN)).only(|t| t.ends_with("START")).gives("");
    lab.packet(syn_ack()).only(|t| t.ends_with("START")).gives("");
    lab.feed([ack()]);
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.on(".NEW", |c| c.api.peek(c.sock, c.side, 100));
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
    lab.packet(reply(0, "WORLD").acks(5)).gives("sv.PKT | rc.PKT | nc.NEW=WORLD");
}

#[test]
fn c21_syn_with_fin_or_rst_opens_nothing() {
    let mut lab = Lab::new();
    for flags in [S | F, S | R] {
        lab.packet(c(flags, 0).seq(CLIENT_ISN)).gives("nb.ORPH");
        assert_eq!((lab.api.connections(), lab.sent()), (0, 1));
    }
}

#[test]
fn c22_syn_on_an_open_connection() {
    let mut lab = Lab::established();
    lab.packet(syn()).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
}

#[test]
fn c23_sequence_numbers_wrap() {
    let mut lab = Lab::new();
    let isn = 0xffff_fff0;
    lab.feed([syn().seq(isn), syn_ack().ack_no(isn + 1), ack().seq(isn + 1)]);
    lab.on("rv.PKT", |c| c.api.lastpkt(c.sock).map_or_else(|e| e.to_string(), |p| p.offset.to_string()));
    lab.packet(data(0, bytes(100)).seq(isn + 1)).gives("sc.PKT | rv.PKT=0 | nv.NEW");
    lab.packet(data(0, bytes(100)).seq((isn + 1).wrapping_add(100))).gives("sc.PKT | rv.PKT=100 | nv.NEW");
    assert_eq!(lab.ask(|api| api.fragments(lab.sock(), SVR)), "[0+200]");
}

/// As many flows as ids are left, all of them fresh: the next SYN finds no room.
fn fill_all_ids(max_concurrency: i32) {
    let mut lab = Lab::with(|mos| mos.max_concurrency = max_concurrency);
    for n in 1..max_concurrency as u16 {
        lab.packet(syn().port(n)).gives("SYN1");
    }
    lab.sent();
    lab.packet(syn()).gives("nb.ORPH");
    assert_eq!((lab.api.connections(), lab.sent()), (max_concurrency as u32 - 1, 1));
}

#[test]
fn c24_no_id_left() {
    fill_all_ids(64);
}

#[test]
fn c25_no_id_left_of_an_odd_number() {
    fill_all_ids(65);
}

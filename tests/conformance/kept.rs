//! What decisions.md keeps exactly (K1 to K10), where no case of §10 says it.

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::mem::{offset_of, size_of};
use std::rc::Rc;

#[test]
fn k1_layouts() {
    assert_eq!(
        [
            size_of::<PktInfo>(),
            size_of::<PktCtx>(),
            size_of::<SeqRemapInfo>(),
            size_of::<FilterArg>(),
            size_of::<TcpBufInfo>(),
            size_of::<TcpRingFragment>(),
            size_of::<MonitorFilter>(),
            size_of::<MtcpContext>(),
            size_of::<MtcpConf>(),
            size_of::<AppContext>(),
            size_of::<AppOps>(),
            size_of::<MtcpEpollEvent>(),
        ],
        [72, 80, 16, 16, 16, 16, 16, 4, 3488, 32, 32, 16]
    );
    assert_eq!(
        [
            offset_of!(PktInfo, in_ifidx),
            offset_of!(PktInfo, eth_len),
            offset_of!(PktInfo, ip_len),
            offset_of!(PktInfo, offset),
            offset_of!(PktInfo, payloadlen),
            offset_of!(PktInfo, seq),
            offset_of!(PktInfo, ack_seq),
            offset_of!(PktInfo, window),
            offset_of!(PktInfo, ethh),
            offset_of!(PktInfo, payload),
        ],
        [4, 6, 8, 16, 24, 28, 32, 36, 40, 64]
    );
    assert_eq!((MOS_NULL, MOS_HK_RCV, MOS_HK_SND), (0x2000_0000, 0x4000_0000, i32::MIN));
    assert_eq!((SOL_MONSOCKET, SOL_SOCKET), (65534, 1));
}

#[test]
fn k2_a_packet_that_fails_changes_neither_side() {
    let mut lab = Lab::established();
    lab.feed([syn_ack().acks(0), s(A, 0)]);
    lab.sent();
    // A FIN beyond the window: the sender does not move either.
    lab.packet(c(F | P | A, 70_000).with("x")).gives("sc.PKT | nv.ERR | rv.PKT");
    lab.packet(c(F | A, 70_000)).gives("sc.PKT | rv.PKT");
    assert_eq!((lab.states().as_str(), lab.sent()), ("ESTABLISHED/ESTABLISHED", 2), "forwarded");
}

#[test]
fn k2_a_packet_that_fails_is_no_sign_of_life() {
    let mut lab = Lab::established();
    // Whoever sends from outside the window keeps no flow alive.
    for second in 1..=29 {
        lab.at(second * 1000).packet(c(A, 100_000)).gives("sc.PKT | rv.PKT");
    }
    lab.until(29_999).gives("");
    lab.until(30_000).gives("KILL(c,v)");
}

#[test]
fn k2_the_server_side_has_the_edited_headers() {
    let mut lab = Lab::new();
    lab.once("sc.PKT", |c| {
        let isn = 7000u32.to_be_bytes();
        said(c.api.setlastpkt(c.sock, 4, &isn, MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_TCP_CHKSUM))
    });
    lab.packet(syn()).gives("sc.PKT=0 sc.START sc.ST | rv.PKT rv.START rv.ST");
    lab.feed([syn_ack(), ack()]);
    // The server counts from the ISN it was sent.
    lab.on("sc.PKT", |c| {
        let p = c.api.lastpkt(c.sock).expect("a packet");
        let seq = (p.seq + 6000).to_be_bytes();
        said(c.api.setlastpkt(c.sock, 4, &seq, MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_TCP_CHKSUM))
    });
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 10));
    lab.packet(data(0, "HELLO")).gives("sc.PKT=0 | rv.PKT | nv.NEW=HELLO");
    assert_eq!(lab.ask(|api| api.info(lab.sock(), SVR)).1.tcpbi_init_seq, 7001);
}

#[test]
fn k2_judged_again_after_the_snd_callbacks() {
    let mut lab = Lab::established();
    lab.once("sc.PKT", |c| {
        let seq = (CLIENT_ISN + 1 + 70_000).to_be_bytes();
        said(c.api.setlastpkt(c.sock, 4, &seq, MOS_OVERWRITE | MOS_TCP_HDR | MOS_UPDATE_TCP_CHKSUM))
    });
    lab.packet(c(F | P | A, 0).with("HELLO")).gives("sc.PKT=0 sc.ST | nv.ERR | rv.PKT");
    assert_eq!(lab.states(), "FIN_WAIT_1/ESTABLISHED", "the sender has moved, the receiver has not");
}

#[test]
fn k3_peeking_the_receiver() {
    let mut lab = Lab::established();
    lab.feed([data(0, "from client"), reply(0, "from server").acks(11)]);
    let read = |side| lab.ask(|api| api.peek(lab.sock(), side, 100)).to_string();
    assert_eq!((read(SVR).as_str(), read(CLI).as_str()), ("from client", "from server"));
}

#[test]
fn k4_no_packet_in_the_end_and_in_new_data() {
    let mut lab = Lab::established();
    let packet = |c: &Call| {
        let set = c.api.drop_packet(c.sock);
        c.api.lastpkt(c.sock).map_or_else(name_of, |_| "packet".into()) + "," + &said(set)
    };
    lab.on("nv.NEW", packet);
    lab.on("rc.END", packet);
    lab.packet(data(0, "x")).gives("sc.PKT | rv.PKT | nv.NEW=EACCES,-1/ENODATA");
    lab.packet(c(R, 1)).only(|t| t.starts_with("rc")).gives("rc.ST rc.END=EACCES,-1/ENODATA");
}

#[test]
fn k5_new_data_once_per_iteration_after_timers_and_expiry() {
    let mut lab = Lab::with(|mos| mos.tcp_timeout = 5);
    lab.handshake_from(2222);
    lab.at(4000).handshake();
    lab.api.timer(9, 1000, TIMER);
    lab.at(5000)
        .batch([data(0, "a"), data(1, "b")])
        .gives("sc.PKT rv.PKT sc.PKT rv.PKT | timer9 | KILL(c,v) | nv.NEW");
}

#[test]
fn k6_no_pick_up_in_the_middle() {
    let mut lab = Lab::new();
    for packet in [data(0, "x"), reply(0, "y"), ack()] {
        lab.packet(packet).gives("nb.ORPH");
    }
    assert_eq!(lab.api.connections(), 0);
}

#[test]
fn k7_ids_are_consecutive() {
    let lab = Lab::bare(|_| {});
    let one = defining();
    // SAFETY: no pointers.
    let (a, b) = unsafe { (mtcp_alloc_event(MOS_ON_PKT_IN), mtcp_alloc_event(MOS_ON_PKT_IN)) };
    assert!(a >= FIRST_USER_EVENT);
    assert_eq!(b, a + 1, "each allocation is an event of its own");
    drop(one);
    let c = lab.define(MOS_ON_PKT_IN, "c", |_| true);
    assert!(c > b);
}

#[test]
fn k7_event_is_the_nodes_own_id() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let asked = Rc::new(Cell::new(0));
    let to = asked.clone();
    let u = lab.define(MOS_ON_PKT_IN, "u", move |c| {
        to.set(c.event);
        true
    });
    lab.register(sock, u, MOS_HK_RCV);
    lab.on("rv.u", |c| c.event.to_string());
    lab.packet(syn()).gives(&format!("v?u rv.u={u}"));
    assert_eq!(asked.get(), u);
}

#[test]
fn k8_the_copy_of_the_packet() {
    let mut lab = Lab::established();
    lab.on("sc.PKT", |c| {
        let mut p = no_packet();
        assert_eq!(c.api.lastpkt_into(c.sock, &mut p), (0, 0));
        // SAFETY: writable, and 16 zero bytes behind the frame (K8).
        unsafe {
            p.payload.write_bytes(b'!', p.payloadlen as usize);
            let behind = std::slice::from_raw_parts(p.ethh.add(p.eth_len as usize), 16);
            assert_eq!(behind, [0; 16]);
        }
        assert_eq!((p.iph as usize - p.ethh as usize, p.tcph as usize - p.iph as usize), (14, 20));
        ""
    });
    lab.on("nv.NEW", |c| c.api.peek(c.sock, SVR, 10));
    lab.sent();
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT | nv.NEW=HELLO");
    assert_eq!(seen(&lab.to_server()[0]).payload, b"HELLO", "writing to the copy changes nothing");
}

#[test]
fn k8_fields_of_the_packet() {
    let mut lab = Lab::established();
    lab.once("rc.PKT", |c| {
        let p = c.api.lastpkt(c.sock).expect("a packet");
        assert_eq!(u64::from(p.cur_ts), START_MS + 70);
        assert_eq!((p.in_ifidx, p.eth_len, p.ip_len, p.window), (SERVER_DEV as i8, 59, 45, 1234));
        assert_eq!((p.seq, p.ack_seq, p.payload.as_slice()), (SERVER_ISN + 1, CLIENT_ISN + 1, &b"HELLO"[..]));
        assert_eq!(c.api.now_us(), (((START_MS + 70) * 1000) as u32, 0));
        assert_eq!(c.api.stamp(c.sock), ((0, 0), ((START_MS + 70) * 1000) as u32));
        "seen"
    });
    lab.at(70).packet(reply(0, "HELLO").window(1234)).gives("sv.PKT | rc.PKT=seen | nc.NEW");
}

#[test]
fn k8_cpu_is_readable() {
    let lab = Lab::new();
    // SAFETY: a context of this lab's.
    let cpu = unsafe { (*lab.api.mctx()).cpu };
    assert!((0..64).contains(&cpu));
}

#[test]
fn k9_one_dense_id_space() {
    let mut lab = Lab::bare(|mos| mos.max_concurrency = 8);
    let mut ids = BTreeSet::from([lab.listen()]);
    for port in 1..=7 {
        lab.feed([syn().port(port)]);
        ids.insert(lab.sock());
    }
    assert_eq!(ids, (0..8).collect::<BTreeSet<_>>());
    // A flow's id is used again.
    let last = lab.sock();
    lab.feed([c(R, 0).port(7), syn().port(8)]);
    assert_eq!(lab.sock(), last);
}

#[test]
fn k9_a_stale_context() {
    let lab = Lab::new();
    let api = lab.api;
    drop(lab);
    assert_eq!(api.socket(STREAM), (-1, libc::EPERM));
    assert_eq!(api.register(0, MOS_ON_PKT_IN, MOS_HK_SND, callback(0, MOS_HK_SND)), (-1, libc::EPERM));
    let null = Api(0);
    assert_eq!(null.socket(STREAM), (-1, libc::EACCES));
    assert_eq!(null.register(0, MOS_ON_PKT_IN, MOS_HK_SND, callback(0, MOS_HK_SND)), (-1, libc::EACCES));
}

#[test]
fn k10_buffer_info() {
    let mut lab = Lab::established();
    lab.feed([data(0, bytes(10)), data(10, bytes(10))]);
    let info = |lab: &Lab| {
        let (ret, i) = lab.ask(|api| api.info(lab.sock(), SVR));
        assert_eq!((ret, i.tcpbi_init_seq), ((0, 0), CLIENT_ISN + 1));
        [i.tcpbi_last_byte_read, i.tcpbi_next_byte_expected, i.tcpbi_last_byte_received]
    };
    // What may be evicted lags one segment behind the tail (monitor.md §6.7).
    assert_eq!(info(&lab), [10, 20, 20]);
    lab.feed([data(40, bytes(10))]);
    assert_eq!(info(&lab), [20, 20, 50]);
    let other = TcpBufInfo::default();
    assert_eq!(lab.ask(|api| api.info(lab.sock(), CLI)), ((-1, libc::ENODATA), other));
}

#[test]
fn k10_what_is_accepted_stays_accepted() {
    let mut lab = Lab::established();
    let listener = lab.listen();
    lab.ask(|api| {
        let sock = lab.sock();
        for option in [MOS_CLIBUF, MOS_SVRBUF, MOS_FRAG_CLIBUF, MOS_FRAG_SVRBUF] {
            assert_eq!(api.set(listener, option, 0), (0, 0), "listener {option}");
            assert_eq!(api.set(sock, option, 0), (0, 0), "flow {option}");
        }
        assert_eq!(api.bind_null(listener), (0, 0));
        assert_eq!(api.bind(listener, None, None), (0, 0));
        assert_eq!(api.set(sock, MOS_SEQ_REMAP, 0), (-1, libc::ENOSYS));
        assert_eq!(api.set(sock, 99, 0), (-1, libc::ENOSYS));
        assert_eq!(api.set_at(7, sock, 1, 0), (-1, libc::ENOSYS));
        assert_eq!(api.get_at(7, sock, 1), (-1, libc::ENOSYS));
        assert_eq!(api.get_at(SOL_MONSOCKET, sock, 99), (-1, libc::ENOSYS));
        assert_eq!(api.get_at(SOL_MONSOCKET, listener, MOS_TCP_STATE_CLI), (-1, libc::ENOTSOCK));
        assert_eq!(api.get_at(SOL_MONSOCKET, -1, MOS_TCP_STATE_CLI), (-1, libc::EBADF));
    });
}

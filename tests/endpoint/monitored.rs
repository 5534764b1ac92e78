//! A monitor socket on a host sees the host's own connections like any other flow.

use crate::lab::{Lab, at};
use mos::capi::abi::{MOS_ON_CONN_END, MOS_ON_CONN_NEW_DATA, MOS_ON_CONN_START, MOS_ON_PKT_IN};
use mos::config::Mos;
use mos::endpoint::events::{IN, OUT};
use mos::io::replay::Fill;
use mos::monitor::event::Hook;
use mos::monitor::hookset::Callback;
use mos::monitor::listener::Kind;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static HEARD: RefCell<Vec<(usize, u64, i32)>> = const { RefCell::new(Vec::new()) };
}

/// What the lab's contexts call: which callback, event and side.
fn heard(_: usize, function: usize, _: i32, side: i32, event: u64, _: usize) {
    HEARD.with(|h| h.borrow_mut().push((function, event, side)));
}

fn count(function: usize, event: u64, side: i32) -> usize {
    HEARD.with(|h| h.borrow().iter().filter(|e| **e == (function, event, side)).count())
}

#[test]
fn connections_of_this_host_are_flows() {
    let mos = Mos { rmem_size: 8192, wmem_size: 8192, tcp_timeout: 0, ..Mos::default() };
    let mut lab = Lab::with_callback(mos, |_| {}, heard);
    lab.nodes[1].with(|_, m, _| {
        let sock = m.change_setup(|s| s.add(Kind::Stream)).expect("an id");
        for (n, (hook, event)) in [
            (Hook::Snd, MOS_ON_CONN_START),
            (Hook::Rcv, MOS_ON_CONN_END),
            (Hook::Null, MOS_ON_CONN_NEW_DATA),
            (Hook::Snd, MOS_ON_PKT_IN),
        ]
        .into_iter()
        .enumerate()
        {
            let registered = m.register_on_listener(sock, hook, event, Some(Callback::Foreign(n + 1)));
            assert_eq!(registered, Some(Ok(())));
        }
    });
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    assert_eq!(lab.nodes[0].write(c, b"request"), Ok(Some(7)));
    lab.until("the request", |lab| lab.nodes[1].readiness(s) & IN != 0);
    assert_eq!(lab.nodes[1].read(s, &mut [0; 16]), Ok(Some(7)));
    assert_eq!(lab.nodes[1].write(s, b"answer"), Ok(Some(6)));
    lab.until("the answer", |lab| lab.nodes[0].readiness(c) & IN != 0);
    assert_eq!(lab.nodes[0].close(c), Ok(()));
    assert_eq!(lab.nodes[1].close(s), Ok(()));
    // A connection this host opens itself, to a port that is closed at the other end.
    lab.nodes[0].listen(80, 10);
    let d = lab.nodes[1].connect(at(0, 81));
    lab.run(3_000_000);
    assert_eq!(lab.nodes[1].error(d), libc::ECONNREFUSED);
    assert_eq!(lab.nodes[1].close(d), Ok(()));
    let e = lab.nodes[1].connect(at(0, 80));
    lab.until("connected", |lab| lab.nodes[1].readiness(e) & OUT != 0);
    lab.run(100_000);
    let stats = lab.nodes[1].stats();
    assert_eq!(count(1, MOS_ON_CONN_START, 0), 3, "each flow begins once, with its client");
    assert_eq!((count(3, MOS_ON_CONN_NEW_DATA, 1), count(3, MOS_ON_CONN_NEW_DATA, 0)), (1, 1), "either way");
    assert_eq!((count(2, MOS_ON_CONN_END, 0), count(2, MOS_ON_CONN_END, 1)), (2, 2), "two are over");
    // Packets of both directions, and those received are counted as local, not as flows'.
    assert!(count(4, MOS_ON_PKT_IN, 0) >= 6 && count(4, MOS_ON_PKT_IN, 1) >= 5);
    assert_eq!((stats.in_flow, stats.in_orphan, stats.in_local), (0, 0, stats.consumed), "{stats:?}");
    assert_eq!(stats.flows_now, 1);
}

/// A fault in a callback for one of our own segments: what was received meanwhile is still there, the segments are counted as lost,
/// and they come again.
#[test]
fn a_fault_about_a_segment_of_our_own_is_contained() {
    fn fails(_: usize, _: usize, _: i32, side: i32, _: u64, _: usize) {
        if side == 1 && FAULTS.take() > 0 {
            panic!("a fault, on purpose");
        }
    }
    thread_local! {
        static FAULTS: Cell<u32> = const { Cell::new(0) };
    }
    let mut lab = Lab::with_callback(Mos { tcp_timeout: 0, ..Mos::default() }, |_| {}, fails);
    lab.nodes[1].with(|_, m, _| {
        let sock = m.change_setup(|s| s.add(Kind::Stream)).expect("an id");
        let registered = m.register_on_listener(sock, Hook::Snd, MOS_ON_PKT_IN, Some(Callback::Foreign(1)));
        assert_eq!(registered, Some(Ok(())));
    });
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    lab.run(1_000_000);
    let before = lab.nodes[1].stats();
    assert_eq!(lab.nodes[1].write(s, &[7; 4000]), Ok(Some(4000)));
    // Something waits to be received.
    assert_eq!(lab.nodes[0].write(c, b"request"), Ok(Some(7)));
    lab.nodes[0].round(lab.now, Vec::new());
    let waiting = lab.nodes[0].left();
    assert_eq!(waiting.len(), 1);
    lab.nodes[1].with(|_, m, t| {
        let frames = waiting.into_iter().map(|f| (0, f)).collect();
        m.state(t).io.script_mut().expect("a script").waiting.push_back((lab.now * 1000, frames));
    });
    FAULTS.set(1);
    let fault = catch_unwind(AssertUnwindSafe(|| lab.nodes[1].round(lab.now, Vec::new())));
    assert!(fault.is_err());
    let stats = lab.nodes[1].with(|e, m, t| {
        let st = m.state(t);
        (st.depth, st.raising) = (0, None);
        st.settle_fault();
        st.cur.flow = None;
        st.cur.end();
        let stats = st.stats;
        assert!(matches!(m.receive(t), Fill::Batch { .. }), "the input is back");
        m.packets(t, e);
        stats
    });
    assert_eq!(stats.sent_lost - before.sent_lost, 3, "segments of 4000 bytes");
    assert_eq!([stats.inspected(), stats.fates()], [stats.rx_packets; 2], "{stats:?}");
    assert_eq!(lab.nodes[1].read(s, &mut [0; 16]), Ok(Some(7)));
    lab.until("the answer", |lab| lab.nodes[0].on(|st| st.unread(c)) == Ok(4000));
}

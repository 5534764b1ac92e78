//! A monitor socket on a host sees the host's own connections like any other flow.

use crate::lab::{Lab, at};
use mos::capi::abi::{MOS_ON_CONN_END, MOS_ON_CONN_NEW_DATA, MOS_ON_CONN_START, MOS_ON_PKT_IN};
use mos::config::Mos;
use mos::endpoint::events::{IN, OUT};
use mos::monitor::event::Hook;
use mos::monitor::hookset::Callback;
use mos::monitor::listener::Kind;
use std::cell::RefCell;

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

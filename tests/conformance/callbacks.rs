//! §10.5, first part: registration, user-defined events, options, user contexts, timers.

use crate::calls::*;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::rc::Rc;

const UNTOUCHED: Ret = (-1, 0);
const INVALID: Ret = (-1, libc::EINVAL);

#[test]
fn c102_registration_matrix() {
    let mut lab = Lab::bare(|_| {});
    let stream = lab.socket(STREAM);
    let raw = lab.socket(MOS_SOCK_MONITOR_RAW);
    let hooks = [MOS_NULL, MOS_HK_SND, MOS_HK_RCV];
    for sock in [stream, raw] {
        for n in 0..12 {
            let event = 1u64 << n;
            let legal = match event {
                MOS_ON_CONN_START | MOS_ON_REXMIT | MOS_ON_TCP_STATE_CHANGE | MOS_ON_CONN_END => {
                    [false, true, true]
                }
                MOS_ON_CONN_NEW_DATA | MOS_ON_ORPHAN | MOS_ON_ERROR => [true, false, false],
                _ => [true, true, true],
            };
            for (hook, legal) in hooks.into_iter().zip(legal) {
                let expected = if legal { (0, 0) } else { INVALID };
                assert_eq!(
                    lab.api.register(sock, event, hook, callback(0, hook)),
                    expected,
                    "{event} {hook:#x}"
                );
            }
        }
    }
    let at = |event, hook| lab.api.register(stream, event, hook, callback(0, MOS_NULL));
    for event in [0, 3, 6, 4095, u64::MAX] {
        assert_eq!(at(event, MOS_NULL), UNTOUCHED, "no event {event}");
    }
    assert_eq!(at(1 << 40, MOS_NULL), UNTOUCHED, "never defined");
    assert_eq!(at(MOS_ON_PKT_IN, 0), INVALID, "no hook");
    assert_eq!(at(MOS_ON_PKT_IN, MOS_HK_RCV | MOS_NULL), INVALID, "two hooks");
    let on = |sock| lab.api.register(sock, MOS_ON_PKT_IN, MOS_NULL, callback(0, MOS_NULL));
    assert_eq!(on(-1), (-1, libc::EBADF));
    assert_eq!(on(100_000), (-1, libc::EBADF));
    assert_eq!(on(77), INVALID, "an unused id");
}

#[test]
fn c102_user_events_follow_their_built_in_ancestor() {
    let mut lab = Lab::bare(|_| {});
    let stream = lab.socket(STREAM);
    let data = lab.define(MOS_ON_CONN_NEW_DATA, "data", |_| true);
    let below = lab.define(data, "below", |_| true);
    for event in [data, below] {
        assert_eq!(lab.api.register(stream, event, MOS_HK_SND, callback(0, MOS_HK_SND)), INVALID);
        assert_eq!(lab.api.register(stream, event, MOS_NULL, callback(0, MOS_NULL)), (0, 0));
    }
    // Whatever their numbers: below a PKT_IN event each id is legal on SND.
    let mut parent = lab.define(MOS_ON_PKT_IN, "0", |_| true);
    for _ in 0..20 {
        parent = lab.alloc(parent, "n");
        assert_eq!(lab.api.register(stream, parent, MOS_HK_SND, callback(0, MOS_HK_SND)), (0, 0), "{parent}");
    }
}

/// One STREAM listener that registered `event` on `hook` only.
fn only(event: u64, hook: c_int) -> (Lab, c_int) {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    lab.register(sock, event, hook);
    (lab, sock)
}

/// Another callback than the recorder's; it counts its calls.
unsafe extern "C" fn second(_: Mctx, _: c_int, _: c_int, _: u64, _: *mut FilterArg) {
    SECOND.set(SECOND.get() + 1);
}
thread_local! {
    static SECOND: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn c103_second_callback_for_an_event() {
    let (mut lab, sock) = only(MOS_ON_PKT_IN, MOS_HK_SND);
    assert_eq!(lab.api.register(sock, MOS_ON_PKT_IN, MOS_HK_SND, Some(second)), (0, 0));
    lab.packet(syn()).gives("sc.PKT");
    assert_eq!(SECOND.get(), 0);
}

#[test]
fn c104_register_null_removes() {
    let (mut lab, sock) = only(MOS_ON_PKT_IN, MOS_HK_SND);
    lab.register(sock, MOS_ON_CONN_START, MOS_HK_SND);
    assert_eq!(lab.api.register(sock, MOS_ON_PKT_IN, MOS_HK_SND, None), (0, 0));
    lab.packet(syn()).gives("sc.START");
}

#[test]
fn c105_user_event() {
    let (mut lab, sock) = only(MOS_ON_PKT_IN, MOS_HK_SND);
    let u = lab.define(MOS_ON_PKT_IN, "u", |_| true);
    lab.register(sock, u, MOS_HK_SND);
    lab.packet(syn()).gives("sc.PKT c?u sc.u");
    lab.packet(syn_ack()).gives("sv.PKT v?u sv.u");
}

#[test]
fn c106_user_event_that_does_not_apply() {
    let (mut lab, sock) = only(MOS_ON_PKT_IN, MOS_HK_SND);
    let u = lab.define(MOS_ON_PKT_IN, "u", |_| false);
    let u3 = lab.define(u, "u3", |_| true);
    lab.register(sock, u, MOS_HK_SND);
    lab.register(sock, u3, MOS_HK_SND);
    lab.packet(syn()).gives("sc.PKT c?u");
}

#[test]
fn c107_only_the_grandchild_is_registered() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let u2 = lab.define(MOS_ON_PKT_IN, "u2", |_| true);
    let u3 = lab.define(u2, "u3", |_| true);
    lab.register(sock, u3, MOS_HK_SND);
    lab.packet(syn()).gives("c?u2 c?u3 sc.u3");
}

fn define(parent: u64, filter: Filter, bytes: &[u8]) -> u64 {
    let mut arg = FilterArg { arg: bytes.as_ptr().cast_mut().cast(), len: bytes.len() };
    // SAFETY: the argument is valid for the call.
    unsafe { mtcp_define_event(parent, filter, &mut arg) }
}

#[test]
fn c108_identical_definitions() {
    let lab = Lab::bare(|_| {});
    let f = lab.filter("f", |_| true);
    let g = lab.filter("g", |_| true);
    let _one = defining();
    let first = define(MOS_ON_PKT_IN, f, b"c108");
    assert!(first >= FIRST_USER_EVENT);
    assert_eq!(define(MOS_ON_PKT_IN, f, b"c108"), first);
    assert_eq!(define(MOS_ON_PKT_IN, f, b"c108x"), first + 1, "other bytes");
    assert_eq!(define(MOS_ON_PKT_IN, g, b"c108"), first + 2, "another filter");
    assert_eq!(define(MOS_ON_CONN_START, f, b"c108"), first + 3, "another parent");
    assert_eq!(define(MOS_ON_PKT_IN, f, b"c108"), first);
}

#[test]
fn c109_argument_is_copied() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let to = seen.clone();
    let f = lab.filter("f", move |c| {
        to.borrow_mut().push((c.argument(), c.event));
        true
    });
    let mut bytes = *b"c109 as defined";
    let id = {
        let _one = defining();
        define(MOS_ON_PKT_IN, f, &bytes)
    };
    bytes.fill(b'!');
    assert_eq!(lab.api.register(sock, id, MOS_HK_SND, callback(0, MOS_HK_SND)), (0, 0));
    let argument = seen.clone();
    lab.on("*", move |c| {
        argument.borrow_mut().push((c.argument(), c.event));
        ""
    });
    lab.feed([syn()]);
    let expected = (Some(b"c109 as defined".to_vec()), id);
    assert_eq!(*seen.borrow(), [expected.clone(), expected]);
    assert_ne!(bytes, *b"c109 as defined");
}

#[test]
fn c109_built_in_events_have_an_empty_argument() {
    let mut lab = Lab::new();
    lab.on("sc.PKT", |c| format!("{:?}", c.argument()));
    lab.packet(syn()).only(|t| t.starts_with("sc.PKT")).gives("sc.PKT=Some([])");
}

#[test]
fn c110_definitions_refused() {
    let mut lab = Lab::bare(|_| {});
    let sock = lab.socket(STREAM);
    let f = lab.filter("f", |_| true);
    let _one = defining();
    let below_root = define(0, f, b"c110");
    assert!(below_root >= FIRST_USER_EVENT);
    let registered = lab.api.register(sock, below_root, MOS_NULL, callback(0, MOS_NULL));
    assert_eq!(registered, UNTOUCHED, "an event below the root can never be registered");
    assert_eq!(define(3, f, b"c110"), 0);
    assert_eq!(define(99_999_999, f, b"c110"), 0);
    assert_eq!(define(MOS_ON_PKT_IN, None, b"c110"), 0);
    let mut broken = FilterArg { arg: std::ptr::null_mut(), len: 5 };
    // SAFETY: the argument is valid for the call; its own pointer is the point.
    assert_eq!(unsafe { mtcp_define_event(MOS_ON_PKT_IN, f, &mut broken) }, 0);
    // SAFETY: no pointers.
    assert_eq!(unsafe { mtcp_alloc_event(99_999_999) }, 0);
}

#[test]
fn c111_allocated_event() {
    let (mut lab, sock) = only(MOS_ON_PKT_IN, MOS_HK_SND);
    let event = lab.alloc(MOS_ON_PKT_IN, "mine");
    lab.register(sock, event, MOS_HK_SND);
    lab.packet(syn()).gives("sc.PKT");
    lab.on("sv.PKT", move |c| said(c.api.raise(event)));
    lab.packet(syn_ack()).gives("sv.PKT=0 sv.mine");
}

#[test]
fn c112_registering_on_the_listener_changes_later_flows() {
    let (mut lab, sock) = only(MOS_ON_CONN_START, MOS_HK_SND);
    lab.feed([syn()]);
    lab.register(sock, MOS_ON_PKT_IN, MOS_HK_SND);
    lab.packet(syn_ack()).gives("");
    lab.packet(syn().port(2222)).gives("sc.PKT sc.START");
    lab.packet(ack()).gives("");
}

#[test]
fn c113_registering_on_one_flow_from_its_callback() {
    let (mut lab, _) = only(MOS_ON_CONN_START, MOS_HK_SND);
    lab.once("sc.START", |c| {
        let now = c.api.register(c.sock, MOS_ON_PKT_IN, MOS_HK_SND, callback(0, MOS_HK_SND));
        let end = c.api.register(c.sock, MOS_ON_CONN_END, MOS_HK_SND, callback(0, MOS_HK_SND));
        format!("{},{}", said(now), said(end))
    });
    lab.packet(syn()).gives("sc.START=0,0");
    lab.packet(syn().port(2222)).gives("sc.START");
    lab.packet(syn_ack().port(2222)).gives("");
    lab.packet(syn_ack()).gives("sv.PKT");
    lab.packet(c(R, 0)).gives("sc.PKT sv.END sc.END");
    lab.packet(c(R, 0).port(2222)).gives("");
}

#[test]
fn c114_stop_one_side_then_the_other() {
    let mut lab = Lab::established();
    let sock = lab.sock();
    assert_eq!(lab.ask(|api| api.set(sock, MOS_STOP_MON, CLI)), (0, 0));
    lab.packet(data(0, "HELLO")).gives("rv.PKT | nv.NEW");
    lab.packet(reply(0, "WORLD").acks(5)).gives("sv.PKT");
    assert_eq!(lab.ask(|api| api.set(sock, MOS_STOP_MON, SVR)), (0, 0));
    assert_eq!(lab.api.connections(), 1);
    lab.packet(data(5, "x")).gives("");
    assert_eq!(lab.api.connections(), 0);
    lab.packet(data(6, "y")).gives("nb.ORPH");
    assert_eq!(lab.to_server().len(), 5);
}

#[test]
fn c115_stop_both_sides() {
    let mut lab = Lab::established();
    assert_eq!(lab.ask(|api| api.set(lab.sock(), MOS_STOP_MON, BOTH)), (0, 0));
    lab.packet(data(0, "x")).gives("");
    lab.packet(data(1, "y")).gives("nb.ORPH");
}

#[test]
fn c115_stop_both_sides_in_the_first_syn() {
    let mut lab = Lab::new();
    lab.on("sc.PKT", |c| said(c.api.set(c.sock, MOS_STOP_MON, BOTH)));
    // The running dispatch finishes, nothing follows, the packet is forwarded.
    lab.packet(syn()).gives("sc.PKT=0 sc.START sc.ST");
    assert_eq!((lab.api.connections(), lab.sent()), (0, 1));
    lab.packet(syn_ack()).gives("nb.ORPH");
}

#[test]
fn c116_one_of_two_monitors_stops() {
    let mut lab = Lab::new();
    lab.listen();
    lab.on("B:sc.START", |c| said(c.api.set(c.sock, MOS_STOP_MON, CLI)));
    lab.packet(syn()).gives(
        "A{ sc.PKT sc.START sc.ST } B{ sc.PKT sc.START=0 sc.ST } A{ rv.PKT rv.START rv.ST } B{ rv.PKT rv.START rv.ST }",
    );
    lab.packet(syn_ack()).gives("B:sv.PKT A:sv.PKT | A{ rc.PKT rc.ST }");
    lab.feed([ack()]);
    lab.packet(reply(0, "x")).gives("B:sv.PKT A:sv.PKT | A:rc.PKT | A:nc.NEW");
    lab.packet(c(R, 0).acks(1)).gives(
        "A{ sc.PKT sc.ST } | A{ rv.PKT rv.ST } B{ rv.PKT rv.ST } | \
         A{ rv.ST rv.END sv.ST sv.END } B{ rv.ST rv.END sv.ST sv.END } A{ rc.ST rc.END sc.ST sc.END }",
    );
}

#[test]
fn c117_stop_on_a_listener() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    assert_eq!(lab.api.set(listener, MOS_STOP_MON, CLI), (-1, libc::EPERM));
    lab.packet(syn()).gives("rv.PKT rv.START rv.ST");
    lab.packet(syn_ack()).gives("sv.PKT");
    // Tracking continues.
    assert_eq!(lab.states(), "ESTABLISHED/SYN_RCVD");
}

#[test]
fn c118_buffers_off_on_a_listener() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    assert_eq!(lab.api.set(listener, MOS_CLIBUF, 0), (0, 0));
    assert_eq!(lab.api.set(listener, MOS_SVRBUF, 0), (0, 0));
    lab.handshake();
    lab.packet(data(0, "HELLO")).gives("sc.PKT | rv.PKT");
    assert_eq!(lab.ask(|api| api.peek(lab.sock(), SVR, 5)).to_string(), "-1/EINVAL");
    assert_eq!(lab.ask(|api| api.ppeek(lab.sock(), SVR, 5, 0)).to_string(), "-1/EACCES");
    assert_eq!(lab.ask(|api| api.info(lab.sock(), SVR)).0, (-1, libc::ENODATA));
    lab.packet(c(F | A, 5000)).gives("sc.PKT sc.ST | rv.PKT rv.ST");
    assert_eq!(lab.states(), "FIN_WAIT_1/CLOSE_WAIT");
    // D9: another size is accepted, and counts for later flows.
    assert_eq!(lab.api.set(listener, MOS_SVRBUF, 4096), (0, 0));
    lab.handshake_from(2222);
    lab.feed((0..5).map(|n| data(n * 1000, bytes(1000)).port(2222)));
    assert_eq!(lab.ask(|api| api.fragments(lab.sock(), SVR)), "[904+4096]");
}

#[test]
fn c119_buffer_off_in_the_middle() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO")]);
    let sock = lab.sock();
    assert_eq!(lab.ask(|api| api.set(sock, MOS_SVRBUF, 0)), (0, 0));
    assert_eq!(lab.ask(|api| api.peek(sock, SVR, 5)).to_string(), "-1/EINVAL");
    assert_eq!(lab.ask(|api| api.ppeek(sock, SVR, 5, 0)).to_string(), "-1/EACCES");
    assert_eq!(lab.ask(|api| api.fragments(sock, SVR)), "");
    let info = TcpBufInfo { tcpbi_init_seq: CLIENT_ISN + 1, ..TcpBufInfo::default() };
    assert_eq!(lab.ask(|api| api.info(sock, SVR)), ((0, 0), info));
    lab.packet(data(5, "WORLD")).gives("sc.PKT | rv.PKT");
}

#[test]
fn c126_getpeername() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    lab.handshake();
    let sock = lab.sock();
    let ask = |sock, side, len| lab.ask(|api| api.peername(sock, side, len));
    assert_eq!(ask(sock, CLI, 16), ((0, 0), vec![CLIENT]));
    assert_eq!(ask(sock, SVR, 16), ((0, 0), vec![SERVER]));
    assert_eq!(ask(sock, BOTH, 32), ((0, 0), vec![CLIENT, SERVER]));
    // As the NAT sample of mOS asks, with twice the size of its array of two.
    assert_eq!(ask(sock, BOTH, 64), ((0, 0), vec![CLIENT, SERVER]));
    for (side, len) in [(-1, 16), (3, 16), (CLI, 17), (CLI, 32), (SVR, 64), (BOTH, 16), (BOTH, 31), (SVR, 0)]
    {
        assert_eq!(ask(sock, side, len), (INVALID, vec![]), "side {side}, length {len}");
    }
    assert_eq!(ask(listener, CLI, 16).0, (-1, libc::ENOTCONN));
    assert_eq!(ask(77, CLI, 16).0, (-1, libc::ENOTCONN));
    assert_eq!(ask(-1, CLI, 16).0, (-1, libc::EBADF));
    assert_eq!(ask(100_000, CLI, 16).0, (-1, libc::EBADF));
}

#[test]
fn c127_calls_from_an_application_thread() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO")]);
    let (api, sock) = (lab.api, lab.sock());
    lab.ask(|api| assert_eq!(api.set_uctx(sock, 5), 0));
    std::thread::spawn(move || {
        const NOT_HERE: Ret = (-1, libc::EPERM);
        assert_eq!(api.set_uctx(sock, 6), 0, "ignored without an error");
        assert_eq!(api.uctx(sock), (0, libc::EPERM));
        assert_eq!(api.peek(sock, SVR, 5).to_string(), "-1/EPERM");
        assert_eq!(api.ppeek(sock, SVR, 5, 0).to_string(), "-1/EPERM");
        assert_eq!(api.lastpkt(sock).unwrap_err(), libc::EPERM);
        assert_eq!(api.drop_packet(sock), NOT_HERE);
        assert_eq!(api.sendpkt(sock, &no_packet()), NOT_HERE);
        assert_eq!(api.peername(sock, CLI, 16).0, NOT_HERE);
        assert_eq!(api.now_us(), (0, libc::EPERM));
        assert_eq!(api.state(sock, CLI).1, NOT_HERE);
        // What needs no callback works from there.
        assert_eq!(api.connections(), 1);
        assert_eq!(api.set(sock, MOS_SVROVERLAP, MOS_OVERLAP_POLICY_LAST), (0, 0));
    })
    .join()
    .expect("the application thread");
    assert_eq!(lab.ask(|api| api.uctx(sock)), (5, 0));
    assert_eq!(lab.ask(|api| api.peek(sock, SVR, 5)).to_string(), "HELLO");
}

#[test]
fn c128_timers() {
    let mut lab = Lab::bare(|_| {});
    for (id, ms) in [(7, 100), (3, 50), (2, 100), (1, 100)] {
        assert_eq!(lab.api.timer(id, ms, TIMER), (0, 0));
    }
    assert_eq!(lab.api.timer(1, 10, None), UNTOUCHED);
    lab.on("timer3", |c| c.api.lastpkt(c.sock).map_or("none".to_owned(), |_| "packet".to_owned()));
    lab.until(49).gives("");
    lab.until(50).gives("timer3=none");
    lab.until(99).gives("");
    lab.until(100).gives("timer1 timer2 timer7");
    lab.until(10_000).gives("");
}

#[test]
fn c129_timer_and_data_in_one_iteration() {
    let mut lab = Lab::established();
    lab.api.timer(1, 100, TIMER);
    lab.at(100).packet(data(0, "x")).gives("sc.PKT | rv.PKT | timer1 | nv.NEW");
}

#[test]
fn c131_user_context() {
    let mut lab = Lab::new();
    let count = Rc::new(Cell::new(0));
    lab.on(".PKT", move |c| {
        count.set(count.get() + 1);
        assert_eq!(c.api.set_uctx(c.sock, count.get()), 0);
        ""
    });
    lab.on(".END", |c| c.api.uctx(c.sock).0.to_string());
    lab.handshake();
    lab.packet(c(R, 0))
        .gives("sc.PKT sc.ST | rv.PKT rv.ST | rv.ST rv.END=8 sv.ST sv.END=8 | rc.ST rc.END=8 sc.ST sc.END=8");
    lab.no_handlers();
    lab.on("sc.START", |c| c.api.uctx(c.sock).0.to_string());
    lab.packet(syn()).gives("sc.PKT sc.START=0 sc.ST | rv.PKT rv.START rv.ST");
}

#[test]
fn c132_option_of_length_0() {
    let mut lab = Lab::new();
    lab.packet(syn().options(&[99, 0, 0, 0])).gives("SYN1");
}

#[test]
fn c133_server_side_options_in_the_first_syn() {
    let mut lab = Lab::new();
    lab.once("sc.PKT", |c| {
        c.api.set(c.sock, MOS_SVRBUF, 0);
        ""
    });
    lab.packet(syn()).gives("SYN1");
    lab.feed([syn_ack(), ack()]);
    lab.packet(data(0, "x")).gives("sc.PKT | rv.PKT");

    let mut lab = Lab::new();
    lab.once("sc.PKT", |c| {
        c.api.set(c.sock, MOS_STOP_MON, SVR);
        ""
    });
    lab.packet(syn()).gives("sc.PKT sc.START sc.ST");
    lab.packet(syn_ack()).gives("rc.PKT rc.ST");
    lab.packet(ack()).gives("sc.PKT");
}

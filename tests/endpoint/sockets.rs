//! What the calls do and refuse.

use crate::lab::{Lab, at, errno};
use mos::config::Mos;
use mos::endpoint::events::{ERR, IN, OUT, RDHUP};
use mos::endpoint::socket::Wishes;

#[test]
fn hello_and_goodbye() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    assert_eq!(lab.nodes[0].readiness(c), OUT);
    assert_eq!(lab.nodes[0].write(c, b"hello"), Ok(Some(5)));
    lab.until("hello arrives", |lab| lab.nodes[1].readiness(s) & IN != 0);
    let mut out = [0; 16];
    assert_eq!(lab.nodes[1].read(s, &mut out), Ok(Some(5)));
    assert_eq!(&out[..5], b"hello");
    assert_eq!(lab.nodes[1].read(s, &mut out), Ok(None));
    // Half-close: the other direction stays open.
    lab.nodes[0].shutdown(c);
    assert_eq!(lab.nodes[0].write(c, b"x"), errno(libc::EPIPE));
    lab.until("the end arrives", |lab| lab.nodes[1].readiness(s) & RDHUP != 0);
    assert_eq!(lab.nodes[1].read(s, &mut out), Ok(Some(0)));
    assert_eq!(lab.nodes[1].write(s, b"bye"), Ok(Some(3)));
    assert_eq!(lab.nodes[1].close(s), Ok(()));
    lab.until("bye arrives", |lab| lab.nodes[0].readiness(c) & IN != 0);
    assert_eq!(lab.nodes[0].read(c, &mut out), Ok(Some(3)));
    lab.until("the end arrives", |lab| lab.nodes[0].read(c, &mut [0; 4]) == Ok(Some(0)));
    assert_eq!(lab.nodes[0].error(c), 0);
    assert_eq!(lab.nodes[0].close(c), Ok(()));
    lab.run(2_000_000);
    assert_eq!([lab.nodes[0].connections(), lab.nodes[1].connections()], [0, 0]);
    let stats = lab.nodes[1].stats();
    assert!(stats.in_local > 5 && stats.consumed == stats.in_local, "{stats:?}");
}

#[test]
fn a_closed_port_refuses() {
    let mut lab = Lab::with_buffers(8192);
    lab.nodes[1].listen(80, 10);
    let c = lab.nodes[0].connect(at(1, 81));
    assert_eq!(lab.nodes[0].error(c), libc::EINPROGRESS);
    assert_eq!(lab.nodes[0].read(c, &mut [0; 4]), errno(libc::ENOTCONN));
    lab.until("refused", |lab| lab.nodes[0].readiness(c) & ERR != 0);
    assert_eq!(lab.nodes[0].error(c), libc::ECONNREFUSED);
    assert_eq!(lab.nodes[0].read(c, &mut [0; 4]), errno(libc::ECONNREFUSED));
    assert_eq!(lab.nodes[0].close(c), Ok(()));
}

/// A connection that failed goes on to say so when there is no memory for another try.
#[test]
fn another_try_without_memory_changes_nothing() {
    let limit = Some(1 << 20);
    let mut lab = Lab::new(Mos { memory_limit: limit, tcp_timeout: 0, ..Mos::default() }, |_| {});
    lab.nodes[1].listen(80, 10);
    let c = lab.nodes[0].connect(at(1, 81));
    lab.until("refused", |lab| lab.nodes[0].readiness(c) & ERR != 0);
    let connect = |lab: &Lab| lab.nodes[0].with(|e, m, t| e.connect(m, t, c, at(1, 80), false));
    let others = |lab: &Lab, bytes| {
        lab.nodes[0].on(|st| st.stack_mut().expect("a stack").memory.others = bytes);
    };
    others(&lab, 1 << 20);
    assert_eq!(connect(&lab), errno(libc::ENOMEM));
    lab.run(10_000);
    assert_eq!(lab.nodes[0].error(c), libc::ECONNREFUSED);
    assert_eq!(lab.nodes[0].read(c, &mut [0; 4]), errno(libc::ECONNREFUSED));
    others(&lab, 0);
    assert_eq!(connect(&lab), Ok(false));
    lab.until("connected", |lab| lab.nodes[0].readiness(c) & OUT != 0);
    assert_eq!(lab.nodes[0].connections(), 1);
    assert_eq!(lab.nodes[0].error(c), 0);
}

/// What a listener's socket is told after a SYN came holds for the connection that is accepted later.
#[test]
fn options_are_those_of_the_listener_at_accept() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let c = lab.nodes[0].connect(at(1, 80));
    lab.until("connected", |lab| lab.nodes[0].readiness(c) & OUT != 0);
    lab.run(10_000);
    let wishes = Wishes {
        nodelay: true,
        keepalive: true,
        send_buffer: 5000,
        recv_buffer: 6000,
        ttl: 9,
        tos: 0x20,
        mss: 700,
        ..Wishes::default()
    };
    let node = &lab.nodes[1];
    assert_eq!(node.on(|st| st.sizes(listener)), Ok((8192, 8192, 536)));
    assert_eq!(node.on(|st| st.set_wishes(listener, wishes)), Ok(()));
    assert_eq!(node.on(|st| st.sizes(listener)), Ok((5000, 6000, 700)));
    let s = node.accept(listener).expect("one waits");
    assert_eq!(node.on(|st| st.wishes(s)), Ok(wishes));
    node.on(|st| {
        let conn = st.stream(s).expect("a stream").conn;
        let conn = st.stack().and_then(|s| s.conn(conn)).expect("a connection");
        assert_eq!((conn.ttl, conn.tos), (9, 0x20));
        assert_eq!(conn.tcb.get().map(|t| (t.asked(), t.limits())), Some(((true, true), (5000, 6000))));
    });
    // The size of segments was agreed on.
    assert_eq!(node.on(|st| st.sizes(s)).map(|s| s.2), Ok(1448));
    let new = node.socket();
    assert_eq!(node.on(|st| st.set_wishes(new, wishes)), Ok(()));
    assert_eq!(node.on(|st| st.sizes(new)), Ok((5000, 6000, 700)));
}

#[test]
fn nobody_answers() {
    let mut lab = Lab::with_buffers(8192);
    // No such host: ARP is not answered.
    let c = lab.nodes[0].connect(at(7, 80));
    lab.until("unreachable", |lab| lab.nodes[0].readiness(c) & ERR != 0);
    assert_eq!(lab.nodes[0].error(c), libc::EHOSTUNREACH);
    // A host that hears nothing.
    lab.nodes[1].listen(80, 10);
    let d = lab.nodes[0].connect(at(1, 80));
    lab.run(1);
    lab.weather.lost = 1000;
    lab.until("timed out", |lab| lab.nodes[0].readiness(d) & ERR != 0);
    let error = lab.nodes[0].error(d);
    assert!(error == libc::ETIMEDOUT || error == libc::EHOSTUNREACH, "{error}");
}

#[test]
fn a_reset_is_heard() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    assert_eq!(lab.nodes[0].abort(c), Ok(()));
    lab.until("reset", |lab| lab.nodes[1].readiness(s) & ERR != 0);
    assert_eq!(lab.nodes[1].read(s, &mut [0; 4]), errno(libc::ECONNRESET));
    assert_eq!(lab.nodes[1].write(s, b"x"), errno(libc::ECONNRESET));
    assert_eq!(lab.nodes[1].error(s), libc::ECONNRESET);
    assert_eq!(lab.nodes[1].close(s), Ok(()));
    lab.run(1_000_000);
    assert_eq!([lab.nodes[0].connections(), lab.nodes[1].connections()], [0, 0]);
}

#[test]
fn the_reference_s_answers_with_their_fixes() {
    let mut lab = Lab::with_buffers(8192);
    let node = &lab.nodes[1];
    let new = node.socket();
    assert_eq!(node.read(new, &mut [0; 4]), errno(libc::ENOTCONN));
    assert_eq!(node.write(new, b"x"), errno(libc::ENOTCONN));
    assert_eq!(node.on(|st| st.socket_error(new)), errno(libc::EBADF));
    assert_eq!(node.on(|st| st.unread(new)), errno(libc::EBADF));
    assert_eq!(node.on(|st| st.peer_address(new)), errno(libc::ENOTCONN));
    assert_eq!(node.close(new), errno(libc::ENOTCONN));
    let listener = node.listen(80, 10);
    assert_eq!(node.on(|st| st.own_address(listener)).map(|a| a.port()), Ok(80));
    assert_eq!(node.on(|st| st.bind(listener, at(1, 81))), errno(libc::ENOTSOCK));
    assert_eq!(node.read(listener, &mut [0; 4]), errno(libc::ENOTSOCK));
    assert_eq!(node.accept(listener), None);
    // Several listeners; a port twice only by agreement.
    node.listen(8080, 10);
    let third = node.socket();
    assert_eq!(
        node.on(|st| st.bind(third, "0.0.0.0:80".parse().expect("an address"))),
        errno(libc::EADDRINUSE)
    );
    assert_eq!(node.on(|st| st.bind(third, at(1, 80))), Ok(()));
    assert_eq!(node.on(|st| st.bind(third, at(1, 80))), errno(libc::EINVAL));
    assert_eq!(node.on(|st| st.listen(third, 10)), Ok(()));
    let [c, s] = lab.connected(third);
    let node = &lab.nodes[1];
    // The exact address before any address.
    assert_eq!(node.accept(listener), None);
    assert_eq!(node.on(|st| st.own_address(s)), Ok(at(1, 80)));
    assert_eq!(node.on(|st| st.peer_address(s)), lab.nodes[0].on(|st| st.own_address(c)));
    assert_eq!(node.read(s, &mut []), errno(libc::EAGAIN));
    assert_eq!(node.write(s, b""), Ok(Some(0)));
    let again = lab.nodes[0].with(|e, m, t| e.connect(m, t, c, at(1, 80), false));
    assert_eq!(again, errno(libc::EISCONN));
}

#[test]
fn a_full_queue_makes_peers_wait() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 2);
    let clients: Vec<u32> = (0..5).map(|_| lab.nodes[0].connect(at(1, 80))).collect();
    lab.run(500_000);
    let mut accepted = Vec::new();
    lab.until("all five are accepted", |lab| {
        accepted.extend(lab.nodes[1].accept(listener));
        accepted.len() == 5
    });
    assert!(clients.iter().all(|&c| lab.nodes[0].readiness(c) & OUT != 0));
}

#[test]
fn a_listener_that_ends_resets_what_waits() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let c = lab.nodes[0].connect(at(1, 80));
    lab.until("connected", |lab| lab.nodes[0].readiness(c) & OUT != 0);
    lab.run(10_000);
    assert_eq!(lab.nodes[1].close(listener), Ok(()));
    lab.until("reset", |lab| lab.nodes[0].readiness(c) & ERR != 0);
    assert_eq!(lab.nodes[0].error(c), libc::ECONNRESET);
    lab.run(1_000_000);
    assert_eq!(lab.nodes[1].connections(), 0);
}

#[test]
fn silence_times_out() {
    let mut lab = Lab::new(Mos { tcp_timeout: 5, ..Mos::default() }, |_| {});
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let begin = lab.now;
    lab.until("timed out", |lab| lab.nodes[1].readiness(s) & ERR != 0);
    assert!((4_900_000..5_200_000).contains(&(lab.now - begin)), "{}", lab.now - begin);
    // The end whose time is over first resets the other.
    let errors = [lab.nodes[0].error(c), lab.nodes[1].error(s)];
    assert!(errors.contains(&libc::ETIMEDOUT), "{errors:?}");
}

/// TIME_WAIT answers a FIN that comes again, keeps its port, costs little, ends in time, and gives way to a new connection from the same
/// place (RFC 6191).
#[test]
fn time_wait() {
    let mut lab = Lab::new(Mos { tcp_tw_interval: 10, tcp_timeout: 0, ..Mos::default() }, |_| {});
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let from = lab.nodes[0].on(|st| st.own_address(c)).expect("an address");
    // Host 1 closes first, and its last acknowledgment is lost.
    assert_eq!(lab.nodes[1].close(s), Ok(()));
    lab.until("the end", |lab| lab.nodes[0].read(c, &mut [0; 4]) == Ok(Some(0)));
    lab.run(1000);
    assert_eq!(lab.nodes[0].close(c), Ok(()));
    lab.random = crate::lab::Random::new(3);
    let mut dropped = false;
    lab.drop_next = Some(1);
    while lab.nodes[0].connections() > 0 {
        dropped |= lab.drop_next.is_none();
        assert!(lab.step(), "host 0 is done");
    }
    assert!(dropped && lab.nodes[1].connections() == 1, "it answered again");
    let resting = lab.nodes[1].on(|st| st.stack().map_or(0, |s| s.at_rest()));
    assert_eq!(resting, 1);
    // The same port at once.
    let d = lab.nodes[0].socket();
    lab.nodes[0].on(|st| st.bind(d, from)).expect("bound");
    assert_eq!(lab.nodes[0].with(|e, m, t| e.connect(m, t, d, at(1, 80), false)), Ok(false));
    lab.until("connected again", |lab| lab.nodes[0].readiness(d) & OUT != 0);
    let mut again = None;
    lab.until("accepted", |lab| {
        again = lab.nodes[1].accept(listener);
        again.is_some()
    });
    assert_eq!(lab.nodes[1].connections(), 1);
    // And in the end nothing is left.
    assert_eq!(lab.nodes[1].close(again.expect("a socket")), Ok(()));
    lab.until("the end", |lab| lab.nodes[0].read(d, &mut [0; 4]) == Ok(Some(0)));
    assert_eq!(lab.nodes[0].close(d), Ok(()));
    lab.run(1_000_000);
    assert_eq!(lab.nodes[1].connections(), 1);
    lab.run(10_000_000);
    assert_eq!([lab.nodes[0].connections(), lab.nodes[1].connections()], [0, 0]);
}

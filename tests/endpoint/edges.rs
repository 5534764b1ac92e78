//! What a waiting application must hear of, and what a connection that is over must not keep from others.

use crate::lab::{Lab, Link, Node, at, errno};
use mos::config::Mos;
use mos::endpoint::epoll::Change;
use mos::endpoint::events::{HUP, IN, OUT, RDHUP};
use mos::tcp::tcb::calls::Shutdown;
use std::net::{Ipv4Addr, SocketAddrV4};

/// An epoll object on host `n` that watches a socket.
fn watch(lab: &Lab, n: usize, sock: u32, events: u32) -> u32 {
    let epoll = lab.nodes[n].with(|e, m, t| e.epoll_create(m, t)).expect("an id");
    lab.nodes[n].on(|st| st.control(epoll, sock, Change::Add(events, 0))).expect("added");
    epoll
}

/// The bits an epoll object reports.
fn reported(lab: &Lab, n: usize, epoll: u32) -> u32 {
    let mut bits = 0;
    lab.nodes[n].on(|st| st.report(epoll, 8, |_, bit, _| bits |= bit));
    bits
}

/// Connects a new socket of host 0 from a port of its own choice.
fn connect_from(lab: &Lab, port: u16, to: SocketAddrV4) -> u32 {
    let sock = lab.nodes[0].socket();
    lab.nodes[0].on(|st| st.bind(sock, at(0, port))).expect("bound");
    assert_eq!(lab.nodes[0].with(|e, m, t| e.connect(m, t, sock, to, false)), Ok(false));
    sock
}

/// RFC 9293 3.8.6.1: the peer's window is closed, and the segment that opens it is lost.
#[test]
fn a_window_whose_opening_is_lost_is_asked_for() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let mut sent = 0;
    while let Some(count) = lab.nodes[0].write(c, &[7; 8192]).expect("connected") {
        sent += count;
        lab.run(300_000);
    }
    lab.run(100_000);
    let (mut out, mut got) = ([0; 20_000], 0);
    while let Some(count) = lab.nodes[1].read(s, &mut out).expect("connected") {
        got += count;
    }
    assert!(got < sent, "the window was closed");
    lab.drop_next = Some(1);
    lab.run(20_000_000);
    assert!(lab.drop_next.is_none(), "the opening was lost");
    got += lab.nodes[1].read(s, &mut out).expect("connected").expect("the rest has come");
    assert_eq!(got, sent);
}

/// Level-triggered: a write that just fills the buffer is as good as one that is cut short.
#[test]
fn room_after_a_write_that_fitted_exactly_is_told() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, _s] = lab.connected(listener);
    let epoll = watch(&lab, 0, c, OUT);
    assert_eq!(reported(&lab, 0, epoll), OUT);
    let room = lab.nodes[0].on(|st| st.sizes(c)).expect("a stream").0 as usize;
    assert_eq!(lab.nodes[0].write(c, &vec![7; room]), Ok(Some(room)));
    assert_eq!(reported(&lab, 0, epoll), 0);
    lab.run(2_000_000);
    assert_eq!(lab.nodes[0].readiness(c), OUT);
    assert_eq!(reported(&lab, 0, epoll), OUT);
}

/// Whoever waits to read or to write hears that another thread has shut the direction down.
#[test]
fn a_shut_direction_is_told() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let reads = watch(&lab, 0, c, IN);
    assert_eq!(reported(&lab, 0, reads), 0);
    lab.nodes[0].on(|st| st.shutdown(c, Shutdown::Read)).expect("connected");
    assert_eq!(lab.nodes[0].read(c, &mut [0; 4]), Ok(Some(0)));
    assert_eq!(reported(&lab, 0, reads), IN);
    while lab.nodes[1].write(s, &[7; 8192]).expect("connected").is_some() {}
    let told = lab.nodes[1].on(|st| {
        st.sleepers = 1;
        st.shutdown(s, Shutdown::Write).expect("connected");
        let told = st.is_woken(s);
        st.clear_woken();
        st.sleepers = 0;
        told
    });
    assert!(told, "a write would fail now");
}

/// A write after a shutdown fails at once: nobody has to wait for that (Linux reports OUT then, too).
#[test]
fn a_direction_that_was_shut_is_ready() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let writes = watch(&lab, 0, c, OUT);
    assert_eq!(reported(&lab, 0, writes), OUT);
    lab.nodes[0].shutdown(c);
    assert_eq!(reported(&lab, 0, writes), OUT);
    lab.run(200_000);
    assert_eq!(reported(&lab, 0, writes), OUT, "in FIN_WAIT_2");
    assert_eq!(lab.nodes[0].write(c, b"x"), Err(mos::monitor::Errno(libc::EPIPE)));
    lab.nodes[1].shutdown(s);
    lab.run(200_000);
    assert_eq!(lab.nodes[0].readiness(c), IN | OUT | RDHUP | HUP);
}

/// HUP, for who asked for nothing else.
#[test]
fn the_end_of_both_directions_is_told() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let [c, s] = lab.connected(listener);
    let objects = [watch(&lab, 0, c, HUP), watch(&lab, 1, s, HUP)];
    lab.nodes[0].shutdown(c);
    lab.until("the end arrives", |lab| lab.nodes[1].readiness(s) & RDHUP != 0);
    assert_eq!(reported(&lab, 1, objects[1]), 0);
    lab.nodes[1].shutdown(s);
    assert_eq!(reported(&lab, 1, objects[1]), HUP);
    lab.until("the other arrives", |lab| lab.nodes[0].readiness(c) & HUP != 0);
    assert_eq!(reported(&lab, 0, objects[0]), HUP);
}

/// A socket whose connection was reset, and that the application has not closed yet: the same peer comes again.
#[test]
fn a_dead_socket_does_not_keep_its_tuple() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let c = connect_from(&lab, 5000, at(1, 80));
    lab.run(100_000);
    let s = lab.nodes[1].accept(listener).expect("connected");
    assert_eq!(lab.nodes[0].abort(c), Ok(()));
    lab.until("reset", |lab| lab.nodes[1].error(s) == libc::ECONNRESET);
    let c = connect_from(&lab, 5000, at(1, 80));
    lab.run(100_000);
    let again = lab.nodes[1].accept(listener).expect("connected again");
    assert_eq!(lab.nodes[1].error(s), libc::ECONNRESET, "the old one is what it was");
    assert_eq!(lab.nodes[1].close(s), Ok(()));
    assert_eq!(lab.nodes[0].write(c, b"x"), Ok(Some(1)));
    lab.until("bytes arrive", |lab| lab.nodes[1].readiness(again) & IN != 0);
    assert_eq!(lab.nodes[0].abort(c), Ok(()));
    lab.until("reset", |lab| lab.nodes[1].error(again) == libc::ECONNRESET);
    assert_eq!(lab.nodes[1].close(again), Ok(()));
    lab.run(100_000);
    assert_eq!([lab.nodes[0].connections(), lab.nodes[1].connections()], [0, 0]);
}

/// In TIME_WAIT, with bytes that the application has not read: the same peer comes again. What was acknowledged stays.
#[test]
fn a_new_connection_takes_nothing_from_the_one_before() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 10);
    let c = connect_from(&lab, 5000, at(1, 80));
    lab.run(100_000);
    let s = lab.nodes[1].accept(listener).expect("connected");
    lab.nodes[1].shutdown(s);
    lab.run(100_000);
    assert_eq!(lab.nodes[0].write(c, b"last words"), Ok(Some(10)));
    assert_eq!(lab.nodes[0].close(c), Ok(()));
    lab.run(100_000);
    assert_eq!(lab.nodes[0].connections(), 0);
    let _c = connect_from(&lab, 5000, at(1, 80));
    lab.run(100_000);
    assert!(lab.nodes[1].accept(listener).is_some());
    let mut out = [0; 16];
    assert_eq!(lab.nodes[1].read(s, &mut out), Ok(Some(10)));
    assert_eq!(lab.nodes[1].read(s, &mut out), Ok(Some(0)));
    assert_eq!(lab.nodes[1].error(s), 0);
    assert_eq!(lab.nodes[1].close(s), Ok(()));
}

/// A bound socket tries again what was refused.
#[test]
fn what_was_refused_may_be_tried_again_from_the_same_port() {
    let mut lab = Lab::with_buffers(8192);
    lab.nodes[1].listen(8, 1);
    let c = connect_from(&lab, 5000, at(1, 80));
    lab.until("refused", |lab| lab.nodes[0].error(c) == libc::ECONNREFUSED);
    let listener = lab.nodes[1].listen(80, 10);
    assert_eq!(lab.nodes[0].with(|e, m, t| e.connect(m, t, c, at(1, 80), false)), Ok(false));
    lab.until("connected", |lab| lab.nodes[0].readiness(c) & OUT != 0);
    lab.run(100_000);
    assert!(lab.nodes[1].accept(listener).is_some());
}

/// A client that starts opens all its connections before its gateway's hardware address is known. None of the SYNs is lost
/// meanwhile, to be sent again a second later.
#[test]
fn many_connections_at_once_to_an_unknown_neighbour() {
    let mut lab = Lab::with_buffers(8192);
    let listener = lab.nodes[1].listen(80, 1000);
    let begun = lab.now;
    let clients: Vec<u32> = (0..500).map(|_| lab.nodes[0].connect(at(1, 80))).collect();
    let mut accepted = 0;
    lab.until("all are accepted", |lab| {
        while lab.nodes[1].accept(listener).is_some() {
            accepted += 1;
        }
        accepted == clients.len()
    });
    assert!(lab.now - begun < 100_000, "after {} µs", lab.now - begun);
    assert_eq!(lab.nodes[0].stats().sent_lost, 0);
}

/// There is no loopback: a connection to an own address, or to 127.0.0.0/8, fails at once, and nothing leaves (RFC 1122 3.2.1.3).
#[test]
fn there_is_no_way_to_oneself() {
    let lab = Lab::with_buffers(8192);
    lab.nodes[0].listen(80, 10);
    for to in [at(0, 80), SocketAddrV4::new([127, 0, 0, 1].into(), 80)] {
        let sock = lab.nodes[0].socket();
        let tried = lab.nodes[0].with(|e, m, t| e.connect(m, t, sock, to, false));
        assert_eq!(tried, errno(libc::ENETUNREACH), "{to}");
        lab.nodes[0].round(lab.now, Vec::new());
        assert_eq!((lab.nodes[0].connections(), lab.nodes[0].left().len()), (0, 0), "{to}");
        // The socket is as good as new.
        assert_eq!(lab.nodes[0].with(|e, m, t| e.connect(m, t, sock, at(1, 80), false)), Ok(false));
        assert_eq!(lab.nodes[0].abort(sock), Ok(()));
        lab.nodes[0].left();
    }
}

/// Addresses that `mtcp_init_rss` prepared, again and again: what comes for any of them is ours.
#[test]
fn prepared_addresses_are_answered_for() {
    let mut lab = Lab::with_buffers(8192);
    // Nobody answers ARP for them: the peer is told.
    let link = Link { neighbour: Some((Ipv4Addr::UNSPECIFIED, 0, [2, 0, 0, 0, 0, 1])), ..Link::default() };
    lab.nodes[1] = Node::on_link(link, 1, Mos::default(), |_| {}, |_, _, _, _, _, _| {});
    let listener = lab.nodes[1].listen(80, 10);
    let base = Ipv4Addr::new(10, 7, 0, 0);
    for _ in 0..3 {
        let prepared = lab.nodes[0].with(|e, m, t| e.init_rss(m, t, base, 1 << 16, *at(1, 0).ip()));
        assert_eq!(prepared, Ok(()));
    }
    let [c, s] = lab.connected(listener);
    let own = lab.nodes[0].on(|st| st.own_address(c)).expect("a stream");
    assert!((base..=Ipv4Addr::new(10, 7, 255, 255)).contains(own.ip()), "{own}");
    assert_eq!(lab.nodes[0].write(c, b"x"), Ok(Some(1)));
    lab.until("the byte", |lab| lab.nodes[1].on(|st| st.unread(s)) == Ok(1));
}

/// Time to live and type of service of the packets among these, as (ttl, tos).
fn looks(frames: &[Vec<u8>]) -> Vec<(u8, u8)> {
    let packets = frames.iter().filter(|f| f[12..14] == [8, 0]);
    packets.map(|f| (f[14 + 8], f[14 + 1])).collect()
}

/// `IP_TTL` and `IP_TOS`, from the SYN on, from a listener's SYN/ACK on, and changed on the way.
#[test]
fn packets_look_as_their_socket_wishes() {
    let mut lab = Lab::with_buffers(8192);
    lab.introduce();
    let listener = lab.nodes[1].listen(80, 10);
    let wish = |lab: &Lab, n: usize, id: u32, ttl: i32, tos: i32| {
        lab.nodes[n].on(|st| {
            let mut wishes = st.wishes(id).expect("a socket");
            assert!(wishes.set_ttl(ttl));
            wishes.set_tos(tos);
            st.set_wishes(id, wishes).expect("a socket");
        });
    };
    wish(&lab, 1, listener, 9, 0x20);
    let client = lab.nodes[0].socket();
    wish(&lab, 0, client, 4, 0xff);
    assert_eq!(lab.nodes[0].with(|e, m, t| e.connect(m, t, client, at(1, 80), false)), Ok(false));
    let now = lab.now;
    lab.nodes[0].round(now, Vec::new());
    let syn = lab.nodes[0].left();
    assert_eq!(looks(&syn), [(4, 0xfc)]);
    lab.nodes[1].round(now, syn);
    let answer = lab.nodes[1].left();
    assert_eq!(looks(&answer), [(9, 0x20)]);
    lab.nodes[0].round(now, answer);
    assert_eq!(looks(&lab.nodes[0].left()), [(4, 0xfc)]);
    wish(&lab, 0, client, -1, 0);
    assert_eq!(lab.nodes[0].write(client, b"x"), Ok(Some(1)));
    lab.nodes[0].round(now, Vec::new());
    assert_eq!(looks(&lab.nodes[0].left()), [(64, 0)]);
}

/// A SYN was answered by a cookie, and, come again when there was room, by a connection that waits. The peer took the cookie: its
/// acknowledgment, and what comes ahead of that, resets nothing.
#[test]
fn a_cookie_counts_though_its_syn_came_again() {
    let mut lab = Lab::with_buffers(8192);
    // Two connections in handshake are kept, no more.
    let mos = Mos { memory_limit: Some(128 << 10), tcp_timeout: 0, ..Mos::default() };
    lab.nodes = [0, 1].map(|n| {
        let link = Link {
            neighbour: Some((*at(1 - n, 0).ip(), 32, [2, 0, 0, 0, 0, 2 - n as u8])),
            ..Link::default()
        };
        Node::on_link(link, n, mos.clone(), |_| {}, |_, _, _, _, _, _| {})
    });
    let pass = |lab: &Lab, to: usize, frames: Vec<Vec<u8>>| {
        lab.nodes[to].round(lab.now, frames);
        lab.nodes[to].left()
    };
    let listener = lab.nodes[1].listen(80, 10);
    let clients = [0; 3].map(|_| lab.nodes[0].connect(at(1, 80)));
    let syns = pass(&lab, 0, Vec::new());
    let replies = pass(&lab, 1, syns.clone());
    assert_eq!((syns.len(), replies.len()), (3, 3));
    let kept = lab.nodes[1].on(|st| st.stack().expect("there are some").describe());
    let is_kept = |r: &[u8]| kept.contains(&format!("10.0.0.1:{})", u16::from_be_bytes([r[36], r[37]])));
    let cookie = replies.iter().find(|r| !is_kept(r)).cloned();
    let cookie = cookie.expect("one is a cookie");
    let port = [cookie[36], cookie[37]];
    let first = replies.iter().find(|r| r[36..38] != port).cloned().expect("another");
    let syn = syns.iter().find(|s| s[34..36] == port).cloned().expect("its SYN");
    let which = clients.iter().copied().find(|&c| {
        lab.nodes[0].on(|st| st.own_address(c)).expect("a stream").port() == u16::from_be_bytes(port)
    });
    let which = which.expect("its client");
    let ack = pass(&lab, 0, vec![cookie]);
    assert_eq!(lab.nodes[0].write(which, b"request"), Ok(Some(7)));
    let data = pass(&lab, 0, Vec::new());
    // One handshake ends, and the SYN comes again.
    let other = pass(&lab, 0, vec![first]);
    pass(&lab, 1, other);
    assert!(lab.nodes[1].accept(listener).is_some());
    assert_eq!(pass(&lab, 1, vec![syn]).len(), 1, "a connection that waits");
    assert_eq!(lab.nodes[1].connections(), 3);
    pass(&lab, 1, ack);
    let s = lab.nodes[1].accept(listener).expect("the cookie counts");
    pass(&lab, 1, data);
    assert_eq!(lab.nodes[1].read(s, &mut [0; 16]), Ok(Some(7)));
    assert_eq!(lab.nodes[0].error(which), 0);
}

//! What no two hosts on a link show: the limit of connections, and faults.

use super::events::{ERR, IN, OUT};
use super::memory::Memory;
use super::output::{Below, Taken};
use super::socket::{Stream, Wishes};
use super::*;
use crate::flow::arena::Id;
use crate::net::output::Path;
use crate::net::route::Hop;
use crate::tcp::tcb::calls::Shutdown;
use crate::tcp::tcb::segment::flags::{ACK, FIN, SYN};
use crate::tcp::tcb::{Segment, State as TcpState};
use std::net::SocketAddrV4;

const PATH: Path = Path { hop: Hop { port: 0, addr: Ipv4Addr::UNSPECIFIED }, source: None, mtu: 1500 };

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port)
}

fn peer(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), n)
}

fn stack(most: usize) -> Stack {
    let config = Config { iss: Some(0), ..Config::default() };
    Stack::new(config, Steering::default(), most, 1_000_000)
}

fn arrive(stack: &mut Stack, from: u16, flags: u8, seq: u32, ack: u32) {
    let seg = Segment { seq, ack, flags, window: 1000, options: &[], payload: &[] };
    stack.arrive(local(80), peer(from), &seg, || Some(PATH), true);
}

/// All that connections have to send is taken away.
fn transmit(stack: &mut Stack, id: Id) {
    let now = stack.now;
    if let Some(tcb) = stack.tcb_mut(id) {
        tcb.poll_transmit(now, 100, |_| true);
    }
}

/// A connection from a peer's port, closed by us and then by the peer: in TIME_WAIT, at rest.
fn rest(stack: &mut Stack, from: u16) -> Id {
    arrive(stack, from, SYN, 100, 0);
    let id = stack.find(&Stack::key_of(local(80), peer(from)).0).expect("in handshake");
    transmit(stack, id);
    arrive(stack, from, ACK, 101, 1);
    assert_eq!(stack.accept(7, 8), Some(id));
    stack.close(id);
    transmit(stack, id);
    arrive(stack, from, ACK | FIN, 101, 2);
    transmit(stack, id);
    assert_eq!(stack.tcb(id).map(|t| t.state()), Some(TcpState::TimeWait));
    stack.put_to_rest(id);
    assert!(stack.tcb(id).is_none() && stack.conn(id).is_some());
    id
}

/// Takes what the stack sends.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Below for Wire {
    fn path(&self, _: Ipv4Addr) -> Option<Path> {
        Some(PATH)
    }
    fn send(&mut self, _: Hop, frame: &mut [u8]) -> Taken {
        self.0.push(frame.to_vec());
        Taken::Yes
    }
}

/// The frames that leave.
fn sent(stack: &mut Stack) -> Vec<Vec<u8>> {
    let mut wire = Wire::default();
    stack.transmit(&mut wire);
    wire.0
}

/// Whoever rests when memory is free again answers a FIN that comes again, goes back to rest, and ends in time.
#[test]
fn rest_is_not_disturbed_by_memory_that_is_free_again() {
    let mut stack = stack(10);
    stack.memory = Memory::new(Some(1 << 20));
    stack.listen(7, local(80), 10, Wishes::default()).expect("listens");
    rest(&mut stack, 1);
    sent(&mut stack);
    for others in [1 << 20, 0] {
        stack.memory.others = others;
        stack.relieve();
    }
    assert!(sent(&mut stack).is_empty());
    arrive(&mut stack, 1, ACK | FIN, 101, 2);
    assert_eq!(sent(&mut stack).iter().map(|frame| frame[47]).collect::<Vec<_>>(), [ACK]);
    assert_eq!((stack.len(), stack.at_rest()), (1, 1));
    stack.expire(stack.now + 61_000_000);
    assert!(stack.is_empty());
}

/// At rest they hold no bytes: they take nothing of what connections share, and give up their own memory, the oldest first.
#[test]
fn those_at_rest_keep_nobody_out() {
    let mut stack = stack(1000);
    // Good for 64 connections.
    stack.memory = Memory::new(Some(1 << 20));
    stack.listen(7, local(80), 10, Wishes::default()).expect("listens");
    let ids: Vec<Id> = (1..=200).map(|from| rest(&mut stack, from)).collect();
    assert_eq!((stack.len(), stack.active(), stack.evicted), (200, 0, 0));
    assert_eq!(stack.memory.used(), stack.weigh());
    stack.memory.others = (1 << 20) / 4 * 3 - stack.memory.used();
    arrive(&mut stack, 300, SYN, 100, 0);
    assert!(stack.find(&Stack::key_of(local(80), peer(300)).0).is_some());
    let evicted = stack.evicted;
    assert!((1..10).contains(&evicted), "{evicted} made room");
    assert!(stack.conn(ids[0]).is_none() && stack.conn(ids[199]).is_some());
    // Where that would not be enough they stay, whichever limit has been reached.
    stack.memory.others = 1 << 20;
    for most in [1000, stack.len()] {
        stack.most = most;
        let refused = stack.connect(9, local(5000), peer(80), &PATH, &Wishes::default());
        assert_eq!((refused, stack.evicted), (Err(Errno(libc::ENOMEM)), evicted));
    }
    assert_eq!(stack.len() - stack.active(), stack.at_rest());
    assert_eq!(stack.memory.used(), stack.weigh());
}

/// A SYN/ACK that keeps nothing says what one that keeps a connection says, and is sent also where no connection could be kept.
#[test]
fn a_cookie_looks_as_its_listener_wishes() {
    let mut stack = stack(10);
    // Good for 8 connections, 2 of them half open.
    stack.memory = Memory::new(Some(1 << 17));
    let wishes = Wishes { ttl: 9, tos: 0x20, mss: 500, ..Wishes::default() };
    stack.listen(7, local(80), 10, wishes).expect("listens");
    for from in 1..=3 {
        arrive(&mut stack, from, SYN, 100, 0);
    }
    let frames = sent(&mut stack);
    assert_eq!((frames.len(), stack.len(), stack.cookies_sent), (3, 2, 1));
    for frame in &frames {
        let (ip, tcp) = frame[14..].split_at(20);
        assert_eq!((ip[8], ip[1], &tcp[20..24]), (9, 0x20, &[2, 4, 1, 244][..]));
    }
    stack.memory.others = 1 << 17;
    arrive(&mut stack, 4, SYN, 100, 0);
    assert_eq!((sent(&mut stack).len(), stack.len(), stack.cookies_sent), (1, 2, 2));
}

/// RFC 9293 lets an implementation delete TIME_WAIT before its time: better than to refuse a connection.
#[test]
fn the_connection_that_rested_longest_makes_room() {
    let mut stack = stack(3);
    stack.listen(7, local(80), 10, Wishes::default()).expect("listens");
    let [a, b, c] = [1, 2, 3].map(|from| rest(&mut stack, from));
    assert_eq!((stack.len(), stack.at_rest(), stack.evicted), (3, 3, 0));
    // One that came to speak again, and went back, keeps its place.
    arrive(&mut stack, 1, ACK | FIN, 101, 2);
    transmit(&mut stack, a);
    stack.put_to_rest(a);
    arrive(&mut stack, 4, SYN, 100, 0);
    assert_eq!((stack.len(), stack.at_rest(), stack.evicted), (3, 2, 1));
    assert!(stack.conn(a).is_none() && stack.conn(b).is_some() && stack.conn(c).is_some());
    // For those that are opened here, too.
    assert!(stack.connect(9, local(5000), peer(80), &PATH, &Wishes::default()).is_ok());
    assert!(stack.conn(b).is_none() && stack.conn(c).is_some());
    assert!(stack.connect(10, local(5001), peer(80), &PATH, &Wishes::default()).is_ok());
    // None rests any more: the limit holds.
    let refused = stack.connect(11, local(5002), peer(80), &PATH, &Wishes::default());
    assert_eq!(refused, Err(Errno(libc::ENOMEM)));
    assert_eq!((stack.len(), stack.at_rest(), stack.evicted), (3, 0, 3));
    assert!(stack.find(&Stack::key_of(local(80), peer(4)).0).is_some(), "who lives stays");
}

/// The list of those at rest does not grow with what came and went.
#[test]
fn what_is_over_rests_no_longer() {
    let mut stack = stack(100);
    stack.listen(7, local(80), 10, Wishes::default()).expect("listens");
    for from in 1..2000 {
        let id = rest(&mut stack, from);
        stack.remove(id);
    }
    let ids = [1, 2, 3].map(|from| rest(&mut stack, from));
    stack.most = 3;
    assert!(stack.has_room());
    assert!(stack.conn(ids[0]).is_none() && stack.conn(ids[1]).is_some());
}

/// After a contained fault the socket says so, and its application is woken.
#[test]
fn a_fault_is_told_as_an_error() {
    let mut st = State { most: 10, ..State::default() };
    st.stack_or_new().expect("memory");
    let stack = st.stack_mut().expect("a stack");
    let conn = stack.connect(5, local(5000), peer(80), &PATH, &Wishes::default()).expect("room");
    st.sockets.put(5, Kind::Stream(Stream { conn, ..Stream::default() })).expect("room");
    assert_eq!(st.socket_error(5), Ok(libc::EINPROGRESS));
    let stack = st.stack_mut().expect("a stack");
    stack.busy = Some(conn);
    stack.drop_busy();
    assert_eq!(stack.take_told(), [(5, ERR | IN | OUT)]);
    assert!(stack.is_empty());
    assert_eq!(st.readiness(5) & ERR, ERR);
    assert_eq!(st.socket_error(5), Ok(libc::ECONNABORTED));
    assert_eq!(st.read(5, &mut [0; 4], false), Err(Errno(libc::ECONNABORTED)));
    assert_eq!(st.write(5, b"x"), Err(Errno(libc::ECONNABORTED)));
    assert_eq!(st.shutdown(5, Shutdown::Write), Err(Errno(libc::ECONNABORTED)));
    assert_eq!(st.set_wishes(5, Wishes::default()), Err(Errno(libc::ECONNABORTED)));
    // A socket that never had a connection has no error, as before.
    st.sockets.put(6, Kind::Stream(Stream::default())).expect("room");
    assert_eq!(st.socket_error(6), Err(Errno(libc::EBADF)));
}

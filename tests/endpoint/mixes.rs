//! Two stacks that agree on little: options of one end only, segments of any size, tiny buffers, little memory, several connections at once, of
//! which some are half closed, some closed with bytes unread, some aborted in the middle, over a bad link. By seed: what arrives
//! is what was sent, whoever is left alone hears of it, nothing is stuck, and nothing stays.

use crate::lab::{Lab, Link, Node, Random, Weather, at, ip};
use mos::config::Mos;
use mos::endpoint::socket::Wishes;
use mos::monitor::Errno;
use mos::tcp::tcb::Config;
use mos::tcp::tcb::config::{Algorithm, SECOND};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Both send all they have, and say so.
    Both,
    /// The client sends and says so; the server answers then.
    Answer,
    /// This side aborts when it has sent so much.
    Abort(usize, u64),
    /// This side closes when it has sent so much, whatever it has not read.
    Close(usize, u64),
}

#[derive(Debug)]
struct Connection {
    plan: Plan,
    bytes: u64,
    socks: [Option<u32>; 2],
    sent: [u64; 2],
    got: [u64; 2],
    shut: [bool; 2],
    /// The end of the peer's stream was read.
    ended: [bool; 2],
    /// Nothing is left to be done.
    done: [bool; 2],
}

/// What byte `n` of side `side`'s stream is, of connection `which`.
fn byte(which: usize, side: usize, n: u64) -> u8 {
    (n.wrapping_mul(0x9e37_79b9).wrapping_add((which * 2 + side) as u64 * 77) >> 11) as u8
}

fn pick<T: Copy>(r: &mut Random, of: &[T]) -> T {
    of[r.below(of.len() as u64) as usize]
}

/// A host's settings.
fn host(r: &mut Random, n: usize) -> Node {
    let (mut sizes, mut on) = ([0; 2], [false; 3]);
    sizes.fill_with(|| pick(r, &[300, 1000, 3000, 20_000, 200_000]));
    on.fill_with(|| r.below(3) > 0);
    let mss = pick(r, &[88, 89, 200, 536, 1000, 1460, 8960, 9000]);
    let congestion = pick(r, &[Algorithm::Cubic, Algorithm::NewReno]);
    let delayed_ack = pick(r, &[0, 40_000, 400_000]);
    let settings = move |tcp: &mut Config| {
        (tcp.send_limit, tcp.recv_limit) = (sizes[0], sizes[1]);
        tcp.recv_initial = tcp.recv_initial.min(sizes[1]);
        (tcp.timestamps, tcp.sack, tcp.window_scaling) = (on[0], on[1], on[2]);
        (tcp.mss, tcp.congestion, tcp.delayed_ack) = (mss, congestion, delayed_ack);
        // Whoever is left alone finds out soon, and does not give up early.
        (tcp.keepalive_idle, tcp.keepalive_interval) = (20 * SECOND, 5 * SECOND);
        (tcp.keepalive_probes, tcp.syn_retries, tcp.syn_ack_retries) = (50, 20, 20);
        (tcp.data_retries, tcp.orphan_retries) = (40, 40);
    };
    let peer = (ip(1 - n), 32, [2, 0, 0, 0, 0, 2 - n as u8]);
    let link = Link { mtu: 9040, neighbour: Some(peer) };
    // Room for eight connections, which would like more than there is.
    let memory_limit = pick(r, &[None, None, Some(128 << 10), Some(1 << 20)]);
    let mos = Mos { tcp_timeout: 0, tcp_tw_interval: 1, memory_limit, ..Mos::default() };
    println!(
        "host {n}: buffers {sizes:?}, timestamps, SACK, scaling {on:?}, mss {mss}, {congestion:?}, {delayed_ack}, {memory_limit:?}"
    );

    Node::on_link(link, n, mos, settings, |_, _, _, _, _, _| {})
}

/// Has side `n` do what it can; whether it did anything.
fn pump(lab: &Lab, which: usize, c: &mut Connection, n: usize, r: &mut Random, slow: bool) -> bool {
    let Some(sock) = c.socks[n].filter(|_| !c.done[n]) else { return false };
    let node = &lab.nodes[n];
    let leaves_at_once = matches!(c.plan, Plan::Abort(0, 0) | Plan::Close(0, 0));
    if node.error(sock) == libc::EINPROGRESS && !leaves_at_once {
        return false;
    }
    let mut did = false;
    let (limit, leaves) = match c.plan {
        Plan::Abort(side, when) | Plan::Close(side, when) if side == n => (when, true),
        _ => (c.bytes, false),
    };
    let waits = c.plan == Plan::Answer && n == 1 && !c.ended[n];
    let lonely = matches!(c.plan, Plan::Abort(side, _) | Plan::Close(side, _) if side != n);
    let plan = c.plan;
    let over = |e: Errno| {
        // The other side left in the middle.
        assert!(lonely, "connection {which}, side {n}: {e:?}, {plan:?}");
        assert!(matches!(e.0, libc::ECONNRESET | libc::EPIPE), "{e:?}");
        true
    };
    let mut failed = false;
    let mut buffer = vec![0; 1 + r.below(9000) as usize];
    while !waits && c.sent[n] < limit && !failed {
        let len = (buffer.len() as u64).min(limit - c.sent[n]) as usize;
        buffer[..len].iter_mut().zip(c.sent[n]..).for_each(|(b, at)| *b = byte(which, n, at));
        match node.write(sock, &buffer[..len]) {
            Ok(Some(count)) => (c.sent[n], did) = (c.sent[n] + count as u64, true),
            Ok(None) => break,
            Err(e) => failed = over(e),
        }
    }
    if leaves && c.sent[n] >= limit {
        let left = if matches!(c.plan, Plan::Abort(..)) { node.abort(sock) } else { node.close(sock) };
        assert_eq!(left, Ok(()));
        (c.done[n], c.socks[n]) = (true, None);
        return true;
    }
    if !waits && c.sent[n] == limit && !c.shut[n] && !failed {
        node.shutdown(sock);
        (c.shut[n], did) = (true, true);
    }
    let mut reads = if slow { r.below(2) } else { u64::MAX };
    while !c.ended[n] && reads > 0 {
        reads -= 1;
        match node.read(sock, &mut buffer) {
            Ok(Some(0)) => (c.ended[n], did) = (true, true),
            Ok(Some(count)) => {
                for &b in &buffer[..count] {
                    assert_eq!(b, byte(which, 1 - n, c.got[n]), "byte {} of {which}, side {n}", c.got[n]);
                    c.got[n] += 1;
                }
                did = true;
            }
            Ok(None) => break,
            Err(e) => {
                assert!(over(e));
                failed = true;
                break;
            }
        }
    }
    assert!(c.got[n] <= c.sent[1 - n], "{c:?}");
    if failed || (c.shut[n] && c.ended[n]) {
        if !failed {
            assert_eq!(c.got[n], c.sent[1 - n], "an end before the end: {c:?}");
        }
        let _ = node.close(sock);
        (c.done[n], c.socks[n]) = (true, None);
        return true;
    }
    did
}

fn mix(seed: u64) {
    println!("seed {seed}");
    let mut r = Random::new(seed ^ 0x5eed);
    let mut lab = Lab::with_buffers(8192);
    lab.nodes = [0, 1].map(|n| host(&mut r, n));
    lab.random = Random::new(seed);
    lab.weather = Weather { lost: pick(&mut r, &[0, 10, 50, 150]), doubled: 20, late: 100 };
    let slow = r.below(3) == 0;
    let listener = lab.nodes[1].socket();
    let wishes = Wishes { keepalive: true, ..Wishes::default() };
    lab.nodes[1].on(|st| st.set_wishes(listener, wishes)).expect("a socket");
    lab.nodes[1].on(|st| st.bind(listener, at(1, 80))).expect("bound");
    lab.nodes[1].on(|st| st.listen(listener, 20)).expect("listens");
    let mut all: Vec<Connection> = (0..1 + r.below(5))
        .map(|_| {
            let bytes = pick(&mut r, &[1, 1000, 10_000, 40_000]);
            let (side, when) = (r.below(2) as usize, r.below(bytes + 1));
            let plans = [Plan::Both, Plan::Answer, Plan::Abort(side, when), Plan::Close(side, when)];
            let plan = pick(&mut r, &plans);
            let sock = lab.nodes[0].connect(at(1, 80));
            lab.nodes[0].on(|st| st.set_wishes(sock, wishes)).expect("a socket");
            Connection {
                plan,
                bytes,
                socks: [Some(sock), None],
                sent: [0; 2],
                got: [0; 2],
                shut: [false; 2],
                ended: [false; 2],
                done: [false; 2],
            }
        })
        .collect();
    let ports: Vec<u16> = all
        .iter()
        .map(|c| lab.nodes[0].on(|st| st.own_address(c.socks[0].unwrap())).expect("a stream").port())
        .collect();
    println!(
        "{:?}, slow {slow}, {:?}",
        lab.weather,
        all.iter().map(|c| (c.plan, c.bytes)).collect::<Vec<_>>()
    );
    let end = lab.now + 36_000 * SECOND;
    loop {
        let mut did = false;
        while let Some(s) = lab.nodes[1].accept(listener) {
            let from = lab.nodes[1].on(|st| st.peer_address(s)).expect("a stream").port();
            let which = ports.iter().position(|p| *p == from).expect("one of ours");
            if all[which].done[1] || all[which].socks[1].is_some() {
                // It is over there, and an acknowledgment that came late, or again, has proved the same cookie a second time:
                // whoever keeps nothing cannot tell.
                assert_eq!(lab.nodes[1].abort(s), Ok(()));
            } else {
                assert_eq!(all[which].socks[1].replace(s), None);
            }
            did = true;
        }
        for (which, c) in all.iter_mut().enumerate() {
            for n in [0, 1] {
                did |= pump(&lab, which, c, n, &mut r, slow);
            }
        }
        // Who was never accepted has nothing to do.
        let over = |c: &Connection| c.done[0] && (c.done[1] || c.socks[1].is_none());
        let empty = lab.nodes.iter().all(|n| n.connections() == 0);
        if all.iter().all(over) && empty {
            break;
        }
        let goes_on = lab.step() || did || slow;
        if !goes_on || lab.now > end {
            let say = |n: &Node| n.on(|st| st.stack().map_or(String::new(), |s| s.describe()));
            panic!("seed {seed} is stuck: {all:?}\n{}\n{}", say(&lab.nodes[0]), say(&lab.nodes[1]));
        }
    }
}

#[test]
fn any_two_stacks() {
    for seed in 0..500 {
        mix(seed);
    }
}

//! Many connections: what they cost, what they leave behind, and what a flood of half-open ones does. Memory is counted by the
//! allocator, so one test runs at a time (`one_after_the_other`); the long run is `make churn`.

#[path = "../endpoint/lab.rs"]
#[allow(dead_code)]
mod lab;

use lab::{Lab, START, at, ip};
use mos::config::Mos;
use mos::endpoint::epoll::Change;
use mos::endpoint::events::{ERR, IN, OUT};
use mos::endpoint::input::MOST_HALF_OPEN;
use mos::wire::{checksum, ipv4, tcp};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The system's allocator, counting bytes.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn mos(ids: i32) -> Mos {
    Mos { max_concurrency: ids, rmem_size: 8192, wmem_size: 8192, tcp_timeout: 0, ..Mos::default() }
}

#[test]
fn one_after_the_other() {
    churn(20_000);
    idle(100_000);
    flood(100_000);
}

#[test]
#[ignore = "a million connections: make churn"]
fn a_million() {
    churn(1_000_000);
    flood(1_000_000);
}

/// So many connections come and go, fifty at a time; nothing is left of them, at either end.
fn churn(total: usize) {
    let mut lab = Lab::new(mos(1000), |_| {});
    let listener = lab.nodes[1].listen(80, 100);
    let object = lab.nodes[1].with(|e, m, t| e.epoll_create(m, t)).expect("an id");
    let mut clients: Vec<(u32, bool)> = Vec::new();
    let (mut begun, mut served, mut over) = (0, 0, 0);
    let mut before = 0;
    let start = Instant::now();
    let mut buffer = [0; 256];
    while over < total || served < total {
        while clients.len() < 50 && begun < total {
            clients.push((lab.nodes[0].connect(at(1, 80)), false));
            begun += 1;
        }
        while let Some(s) = lab.nodes[1].accept(listener) {
            lab.nodes[1].on(|st| st.control(object, s, Change::Add(IN, s.into()))).expect("watched");
        }
        let mut ready = Vec::new();
        lab.nodes[1].on(|st| st.report(object, 64, |_, _, data| ready.push(data as u32)));
        for s in ready {
            match lab.nodes[1].read(s, &mut buffer).expect("connected") {
                Some(0) | None => {}
                Some(n) => assert_eq!(lab.nodes[1].write(s, &buffer[..n]), Ok(Some(n))),
            }
            assert_eq!(lab.nodes[1].close(s), Ok(()));
            served += 1;
        }
        clients.retain_mut(|(c, asked)| {
            let ready = lab.nodes[0].readiness(*c);
            assert_eq!(ready & ERR, 0);
            if ready & OUT != 0 && !*asked {
                assert_eq!(lab.nodes[0].write(*c, b"a request"), Ok(Some(9)));
                *asked = true;
            }
            if ready & IN == 0 {
                return true;
            }
            assert_eq!(lab.nodes[0].read(*c, &mut buffer), Ok(Some(9)));
            assert_eq!(lab.nodes[0].close(*c), Ok(()));
            over += 1;
            false
        });
        lab.step();
        if before == 0 && over >= total / 10 {
            before = held();
        }
    }
    lab.run(10_000_000);
    assert_eq!([lab.nodes[0].connections(), lab.nodes[1].connections()], [0, 0]);
    assert_eq!([0, 1].map(|n| lab.nodes[n].on(|st| st.sockets.len())), [0, 2]);
    let after = held();
    let took = start.elapsed();
    note(&format!(
        "churn: {total} connections in {took:?} ({:.0}/s with both ends on one core); heap {before} bytes after a tenth, {after} at the end",
        total as f64 / took.as_secs_f64()
    ));
    assert!(after <= before + 65_536, "the heap grew from {before} to {after}");
}

/// What an idle connection costs, with its socket and its entry in an epoll object, at each end.
fn idle(total: usize) {
    let before = held();
    let mut lab = Lab::new(mos(total as i32 + 10), |_| {});
    // One port has no more than 65,535 peers at an address.
    let listeners = [80, 81].map(|port| lab.nodes[1].listen(port, 1000));
    let object = lab.nodes[1].with(|e, m, t| e.epoll_create(m, t)).expect("an id");
    let mut open = 0;
    let mut clients = Vec::new();
    while open < total {
        while clients.len() < (open + 500).min(total) {
            clients.push(lab.nodes[0].connect(at(1, 80 + (clients.len() % 2) as u16)));
        }
        lab.step();
        while let Some(s) = listeners.iter().find_map(|&l| lab.nodes[1].accept(l)) {
            lab.nodes[1].on(|st| st.control(object, s, Change::Add(IN, s.into()))).expect("watched");
            open += 1;
        }
    }
    // A little traffic each, and then silence.
    for &c in &clients {
        assert_eq!(lab.nodes[0].write(c, b"hello"), Ok(Some(5)));
    }
    lab.run(1_000_000);
    let mut ready = Vec::new();
    lab.nodes[1].on(|st| st.report(object, total, |_, _, data| ready.push(data as u32)));
    assert_eq!(ready.len(), total);
    for s in ready {
        assert_eq!(lab.nodes[1].read(s, &mut [0; 16]), Ok(Some(5)));
    }
    lab.run(1_000_000);
    drop(clients);
    let each = (held() - before) as f64 / (2 * total) as f64;
    note(&format!("idle: {each:.0} bytes for each of {} ends of connections", 2 * total));
    assert!(each <= 1024.0);
}

/// A SYN as it is on the wire.
fn syn(from: Ipv4Addr, port: u16, seq: u32) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 24];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let packet = &mut frame[14..];
    let total = packet.len() as u16;
    ipv4::emit(packet, from, ip(1), ipv4::PROTO_TCP, 64, total).expect("room");
    let head = &mut packet[20..];
    head[..2].copy_from_slice(&port.to_be_bytes());
    head[2..4].copy_from_slice(&80u16.to_be_bytes());
    head[tcp::OFF_SEQ..][..4].copy_from_slice(&seq.to_be_bytes());
    head[tcp::OFF_DOFF] = 6 << 4;
    head[tcp::OFF_FLAGS] = tcp::flags::SYN;
    head[tcp::OFF_WINDOW..][..2].copy_from_slice(&64_000u16.to_be_bytes());
    head[20..].copy_from_slice(&[2, 4, 5, 0xb4]);
    checksum::fill_ipv4(packet);
    checksum::fill_tcp(packet);
    frame
}

/// SYNs from everywhere, while a connection transfers data and others are opened: memory stays below a fixed limit, every byte
/// arrives, and who answers the SYN/ACK gets in.
fn flood(total: usize) {
    let mut lab = Lab::new(mos(1000), |_| {});
    let listener = lab.nodes[1].listen(80, 100);
    let [c, s] = lab.connected(listener);
    let before = held();
    let (mut sent, mut got, mut floods, mut most) = (0u64, 0u64, 0, 0);
    let mut admitted = Vec::new();
    let start = Instant::now();
    while floods < total {
        let mut frames = Vec::new();
        for _ in 0..64 {
            let r = lab.random.next();
            let from = Ipv4Addr::from_bits(0x0b00_0000 | (r as u32 & 0xff_ffff));
            frames.push(syn(from, (r >> 40) as u16 | 1024, r as u32));
        }
        floods += frames.len();
        lab.nodes[1].round(lab.now, frames);
        // What answers the flood goes nowhere; the rest of the traffic does.
        while let Ok(Some(n)) = lab.nodes[0].write(c, &[(sent % 251) as u8; 1]) {
            sent += n as u64;
        }
        lab.step();
        let mut buffer = [0; 4096];
        while let Ok(Some(n)) = lab.nodes[1].read(s, &mut buffer) {
            for &b in &buffer[..n] {
                assert_eq!(b, (got % 251) as u8);
                got += 1;
            }
        }
        if floods % 6400 == 0 && admitted.len() < 20 {
            admitted.push(lab.nodes[0].connect(at(1, 80)));
        }
        most = most.max(held().saturating_sub(before));
        assert!(lab.nodes[1].connections() <= MOST_HALF_OPEN + 200);
    }
    let mut accepted = 0;
    lab.until("everyone who asked is admitted", |lab| {
        while lab.nodes[1].accept(listener).is_some() {
            accepted += 1;
        }
        accepted == admitted.len() && admitted.iter().all(|&a| lab.nodes[0].readiness(a) & OUT != 0)
    });
    let cookies = lab.nodes[1].on(|st| st.stack().map_or(0, |s| s.cookies_sent));
    note(&format!(
        "flood: {floods} SYNs in {:?}, {cookies} answered by cookies; {got} bytes arrived meanwhile in {} ms of the link's time; at most {most} bytes more on the heap",
        start.elapsed(),
        (lab.now - START) / 1000
    ));
    assert!(cookies > (total / 2) as u64 && got > 0);
    assert!(most < 16 << 20, "{most} bytes");
}

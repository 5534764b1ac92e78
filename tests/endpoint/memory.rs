//! `memory_limit` (X5): what connections hold stays below it, and none keeps another from going on.

use crate::lab::{Lab, Link, Node, at};
use mos::config::Mos;
use mos::endpoint::epoll::Change;
use mos::endpoint::events::{IN, OUT};

const LIMIT: u64 = 1 << 20;

/// Host 1 has the limit, and buffers that together are far beyond it.
fn lab() -> Lab {
    let mos = Mos { rmem_size: 262_144, wmem_size: 262_144, tcp_timeout: 0, ..Mos::default() };
    let mut lab = Lab::new(mos.clone(), |_| {});
    let limited = Mos { memory_limit: Some(LIMIT), ..mos };
    lab.nodes[1] = Node::on_link(Link::default(), 1, limited, |_| {}, |_, _, _, _, _, _| {});
    lab.nodes[1].round(lab.now, Vec::new());
    lab
}

/// What host 1 counts as in use; it is right, and below the limit.
fn used(lab: &Lab) -> u64 {
    let (counted, found) = lab.nodes[1].on(|st| st.stack().map_or((0, 0), |s| (s.memory.used(), s.weigh())));
    assert_eq!(counted, found);
    assert!(counted <= LIMIT, "{counted} bytes");
    counted
}

fn byte(n: usize) -> u8 {
    (n.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

/// Sends `total` bytes from host `from` by one socket to the other host's, which reads them all.
fn transfer(lab: &mut Lab, from: usize, [out, into]: [u32; 2], total: usize) {
    let (mut sent, mut got) = (0, 0);
    let mut buffer = [0; 16_384];
    let end = lab.now + 600_000_000;
    while got < total {
        let len = buffer.len().min(total - sent);
        buffer[..len].iter_mut().enumerate().for_each(|(n, b)| *b = byte(sent + n));
        if len > 0 {
            sent += lab.nodes[from].write(out, &buffer[..len]).expect("connected").unwrap_or(0);
        }
        while let Some(n) = lab.nodes[1 - from].read(into, &mut buffer).expect("connected") {
            assert!(buffer[..n].iter().enumerate().all(|(k, b)| *b == byte(got + k)), "after {got}");
            got += n;
        }
        used(lab);
        let goes_on = lab.now < end && lab.step();
        assert!(goes_on || got == total, "stuck at {got} of {total}");
    }
}

/// Many send and are never read from, many more would like to: the limit holds, and a transfer goes on all the time, either way.
#[test]
fn a_flood_is_kept_within_the_limit_while_a_transfer_goes_on() {
    let mut lab = lab();
    let listener = lab.nodes[1].listen(80, 200);
    let pair = lab.connected(listener);
    let flood: Vec<u32> = (0..150).map(|_| lab.nodes[0].connect(at(1, 80))).collect();
    let (mut taken, mut most) = (Vec::new(), 0);
    for _ in 0..3000 {
        for &c in &flood {
            if lab.nodes[0].readiness(c) & OUT != 0 {
                let _ = lab.nodes[0].write(c, &[7; 30_000]);
            }
        }
        taken.extend(lab.nodes[1].accept(listener));
        most = most.max(used(&lab));
        lab.step();
    }
    assert!(most > LIMIT * 3 / 4, "{most} bytes");
    assert!((40..64).contains(&taken.len()), "{} were taken", taken.len());
    let refused = lab.nodes[1].stats().no_memory;
    assert!(refused > 100, "{refused} counted");
    transfer(&mut lab, 0, pair, 200_000);
    transfer(&mut lab, 1, [pair[1], pair[0]], 200_000);
    // They go: others have room again.
    for &s in &taken {
        assert_eq!(lab.nodes[1].abort(s), Ok(()));
    }
    for &c in &flood {
        let _ = lab.nodes[0].abort(c);
    }
    lab.run(1_000_000);
    assert_eq!(lab.nodes[1].connections(), 1);
    let begun = lab.now;
    transfer(&mut lab, 0, pair, 1_000_000);
    assert!(lab.now - begun < 5_000_000, "the window opened again");
    let another = lab.connected(listener);
    transfer(&mut lab, 1, [another[1], another[0]], 100_000);
}

/// Those who write get a short count, then EAGAIN, and hear of room when there is some; what was written arrives.
#[test]
fn writers_wait_for_memory() {
    let mut lab = lab();
    let listener = lab.nodes[1].listen(80, 100);
    let pairs: Vec<[u32; 2]> = (0..30).map(|_| lab.connected(listener)).collect();
    let mut written = vec![0; pairs.len()];
    for (&[_, s], written) in pairs.iter().zip(&mut written) {
        while let Some(n) = lab.nodes[1].write(s, &[7; 65_536]).expect("connected") {
            *written += n;
            used(&lab);
        }
    }
    let sum: usize = written.iter().sum();
    assert!((LIMIT as usize / 2..LIMIT as usize).contains(&sum), "{sum} bytes");
    assert!(written.iter().all(|&n| n >= 1460), "nobody is left without: {written:?}");
    // One that looks again and again is counted once.
    let refused = |lab: &Lab| lab.nodes[1].on(|st| st.stack().map_or(0, |s| s.memory.refused));
    let before = refused(&lab);
    for &[_, s] in pairs.iter().cycle().take(300) {
        assert_eq!(lab.nodes[1].write(s, &[7; 65_536]), Ok(None));
    }
    assert!(before >= 20 && refused(&lab) == before, "{before} were counted, then {}", refused(&lab));
    let starved = written.iter().position(|&n| n < 65_536).expect("the limit is below all buffers");
    let [c, s] = pairs[starved];
    assert_eq!(lab.nodes[1].readiness(s) & OUT, 0);
    let epoll = lab.nodes[1].with(|e, m, t| e.epoll_create(m, t)).expect("an id");
    lab.nodes[1].on(|st| st.control(epoll, s, Change::Add(OUT, 0))).expect("watched");
    let told = |lab: &Lab| {
        let mut told = 0;
        lab.nodes[1].on(|st| st.report(epoll, 8, |_, bit, _| told |= bit));
        told
    };
    assert_eq!(told(&lab), 0);
    let counted = lab.nodes[1].stats().no_memory;
    let mut buffer = [0; 16_384];
    let mut got = vec![0; pairs.len()];
    lab.until("all of it arrives", |lab| {
        for (&[c, _], got) in pairs.iter().zip(&mut got) {
            while let Some(n) = lab.nodes[0].read(c, &mut buffer).expect("connected") {
                *got += n;
            }
        }
        used(lab);
        got == written
    });
    assert!(lab.nodes[1].stats().no_memory >= counted + 20, "they were counted");
    assert_eq!(told(&lab), OUT);
    assert_eq!(lab.nodes[1].write(s, &[8; 100_000]), Ok(Some(100_000)));
    lab.until("that, too", |lab| {
        while let Some(n) = lab.nodes[0].read(c, &mut buffer).expect("connected") {
            got[starved] += n;
        }
        got[starved] == written[starved] + 100_000
    });
    assert_eq!(lab.nodes[0].readiness(c) & IN, 0);
}

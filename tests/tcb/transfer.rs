//! Whatever the link does, all bytes arrive, in order, both ways, and both ends close.

use crate::link::{Link, Wire, World};
use crate::random::Random;
use mos::tcp::tcb::calls::Shutdown;
use mos::tcp::tcb::config::{MILLISECOND, SECOND};
use mos::tcp::tcb::{Algorithm, Config, Open, Refusal, State, Tcb};
use std::sync::Arc;

/// What one end's application does.
struct App {
    to_send: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    ended: bool,
    /// Reads at most so many bytes at a time, and not before a moment.
    greed: usize,
    resumes: u64,
    pause: u64,
}

impl App {
    fn new(random: &mut Random, size: usize) -> Self {
        let mut byte = random.next() as u8;
        let to_send = (0..size)
            .map(|i| {
                byte = byte.wrapping_mul(31).wrapping_add(i as u8 ^ 7);
                byte
            })
            .collect();
        let greed = [1 << 20, 1000, 100_000][random.below(3) as usize];
        let pause = if random.chance(25) { random.below(400 * MILLISECOND) } else { 0 };
        App { to_send, sent: 0, received: Vec::new(), ended: false, greed, resumes: 0, pause }
    }

    fn run(&mut self, now: u64, tcb: &mut Tcb) {
        while self.sent < self.to_send.len() {
            let chunk = &self.to_send[self.sent..self.to_send.len().min(self.sent + 5000)];
            match tcb.write(chunk) {
                Ok(count) => self.sent += count,
                Err(Refusal::WouldBlock) => break,
                Err(e) => panic!("write: {e:?} in {:?}", tcb.state()),
            }
        }
        if self.sent == self.to_send.len() && tcb.is_synchronized() {
            tcb.shutdown(Shutdown::Write).unwrap();
        }
        if now < self.resumes {
            return;
        }
        let mut buffer = vec![0; self.greed];
        loop {
            match tcb.read(now, &mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    if self.pause > 0 {
                        self.resumes = now + self.pause;
                        break;
                    }
                }
                Err(Refusal::WouldBlock) => break,
                Err(e) => panic!("read: {e:?} in {:?}", tcb.state()),
            }
        }
    }
}

fn config(random: &mut Random) -> Arc<Config> {
    Arc::new(Config {
        timestamps: random.chance(70),
        sack: random.chance(70),
        window_scaling: random.chance(80),
        congestion: if random.chance(50) { Algorithm::Cubic } else { Algorithm::NewReno },
        delayed_ack: if random.chance(80) { 40 * MILLISECOND } else { 0 },
        recv_limit: [2000, 10_000, 65_535, 1 << 20, 4 << 20][random.below(5) as usize],
        send_limit: [1500, 20_000, 1 << 20][random.below(3) as usize],
        // Patience enough for the worst link.
        data_retries: 60,
        syn_retries: 60,
        syn_ack_retries: 60,
        rto_max: 4 * SECOND,
        time_wait: 120 * SECOND,
        ..Config::default()
    })
}

/// One connection from handshake to TIME_WAIT; returns how long it took, in µs.
fn transfer(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let configs = [config(&mut random), config(&mut random)];
    let link = Link {
        loss: [0, 1, 2, 10, 25][random.below(5) as usize],
        duplication: [0, 0, 2, 20][random.below(4) as usize],
        reordering: [0, 0, 5, 40][random.below(4) as usize],
        delay: [50, 1000, 20_000, 100_000][random.below(4) as usize],
        per_byte: [0, 1, 8, 80][random.below(4) as usize],
        queue: [15_000, 100_000, 10_000_000][random.below(3) as usize],
    };
    let most = if link.loss >= 10 || link.per_byte == 80 { 60_000 } else { 400_000 };
    let sizes = [random.below(most) as usize, [0, random.below(most) as usize][random.below(2) as usize]];
    let mut apps = [App::new(&mut random, sizes[0]), App::new(&mut random, sizes[1])];
    let start = random.below(1 << 40);
    let mut open = [Open::new(random.next() as u32), Open::new(random.next() as u32)];
    for open in &mut open {
        open.mtu = [576, 1500, 9000][random.below(3) as usize];
        open.nodelay = random.chance(30);
        open.ts_offset = random.next() as u32;
    }
    let mut client = Tcb::connect(configs[0].clone(), start, &open[0]);
    // The listener's part: a SYN that arrives makes the server. It is sent again until one does.
    let mut syn = None;
    client.poll_transmit(start, 1, |t| {
        syn = Some(Wire::from(t));
        true
    });
    let server = Tcb::accept(configs[1].clone(), start, &open[1], &syn.unwrap().segment()).unwrap();
    let mut world = World::new(start, [client, server], link, random);
    let mut steps = 0;
    loop {
        for (app, end) in apps.iter_mut().zip(&mut world.ends) {
            app.run(world.now, end);
        }
        world.transmit();
        let done = apps.iter().all(|app| app.ended && app.sent == app.to_send.len());
        if done && world.ends.iter().all(Tcb::is_closed) {
            break;
        }
        steps += 1;
        assert!(steps < 2_000_000 && world.now - start < 4000 * SECOND, "stuck: {:#?}", world.ends);
        // A reader that pauses comes back by itself.
        let resume = apps.iter().map(|app| app.resumes).filter(|at| *at > world.now).min();
        if let Some(at) = resume {
            let deadline = world.ends.iter().filter_map(Tcb::deadline).min().unwrap_or(u64::MAX);
            if deadline > at && !world.arrives_before(at) {
                world.now = at;
                continue;
            }
        }
        assert!(world.step(), "nothing will happen any more: {:#?}", world.ends);
    }
    assert!(apps[0].to_send == apps[1].received, "client's bytes differ");
    assert!(apps[1].to_send == apps[0].received, "server's bytes differ");
    for end in &world.ends {
        assert_eq!((end.state(), end.cause(), end.allocated_bytes()), (State::Closed, None, 0));
    }
    world.now - start
}

/// `MOS_TEST_SEED` chooses others: one, or a range such as `1000-9999`.
#[test]
fn a_thousand_seeds() {
    let wanted = std::env::var("MOS_TEST_SEED").unwrap_or("0-999".into());
    let (first, last) = wanted.split_once('-').unwrap_or((&wanted, &wanted));
    for seed in first.parse::<u64>().unwrap()..=last.parse().unwrap() {
        let run = std::panic::catch_unwind(|| transfer(seed));
        if let Err(panic) = run {
            eprintln!("failed with MOS_TEST_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

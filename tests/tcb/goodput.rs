//! How well a path is used: congestion control and recovery against what the link could carry.

use crate::link::{Link, Wire, World};
use crate::random::Random;
use mos::tcp::tcb::config::SECOND;
use mos::tcp::tcb::{Algorithm, Config, Open, Refusal, Tcb};
use std::sync::Arc;

/// Sends `size` bytes one way; returns the share of the link's rate that was reached, in percent, and the retransmissions.
fn share(config: Config, link: Link, size: usize, seed: u64) -> (u64, u32) {
    let config = Arc::new(config);
    let mut client = Tcb::connect(config.clone(), 0, &Open::new(0xffff_0000));
    let mut syn = None;
    client.poll_transmit(0, 1, |t| {
        syn = Some(Wire::from(t));
        true
    });
    let server = Tcb::accept(config, 0, &Open::new(7), &syn.unwrap().segment()).unwrap();
    let mut world = World::new(0, [client, server], link, Random::new(seed));
    let (mut written, mut read) = (0, 0);
    let mut buffer = vec![0; 1 << 16];
    while read < size {
        while written < size && world.ends[0].is_synchronized() {
            match world.ends[0].write(&buffer[..buffer.len().min(size - written)]) {
                Ok(count) => written += count,
                Err(Refusal::WouldBlock) => break,
                Err(e) => panic!("{e:?}"),
            }
        }
        while let Ok(count @ 1..) = world.ends[1].read(world.now, &mut buffer) {
            read += count;
        }
        world.transmit();
        assert!(read >= size || world.step());
        assert!(world.now < 3000 * SECOND);
    }
    let ideal = size as u64 * link.per_byte / 100;
    (ideal * 100 / world.now, world.ends[0].retransmitted())
}

/// 100 Mbit/s, 10 ms there and back.
const LINK: Link = Link { loss: 0, duplication: 0, reordering: 0, delay: 5000, per_byte: 8, queue: 125_000 };

fn config(congestion: Algorithm, sack: bool) -> Config {
    Config { congestion, sack, ..Config::default() }
}

#[test]
fn a_clean_path_is_filled() {
    for congestion in [Algorithm::Cubic, Algorithm::NewReno] {
        let endless = Link { queue: 1 << 30, ..LINK };
        let (share, again) = self::share(config(congestion, true), endless, 20 << 20, 1);
        assert!(share >= 90 && again == 0, "{congestion:?}: {share} %, {again} retransmitted");
    }
}

#[test]
fn a_full_queue_is_lived_with() {
    for congestion in [Algorithm::Cubic, Algorithm::NewReno] {
        for sack in [true, false] {
            let (share, again) = self::share(config(congestion, sack), LINK, 20 << 20, 1);
            assert!(share >= 70, "{congestion:?}, SACK {sack}: {share} %, {again} retransmitted");
        }
    }
}

#[test]
fn random_loss_slows_as_it_must() {
    for (loss, least) in [(1, 10), (2, 7), (10, 1)] {
        let lossy = Link { loss, ..LINK };
        let (share, again) = self::share(config(Algorithm::Cubic, true), lossy, 2 << 20, 1);
        assert!(share >= least, "{loss} % lost: {share} %, {again} retransmitted");
    }
}

#[test]
fn a_short_path_hides_loss() {
    // 800 Mbit/s, 0.1 ms there and back.
    let lossy = Link { loss: 2, delay: 50, per_byte: 1, ..LINK };
    // A retransmission that is lost, too, costs a time-out, longer than all the rest: that is chance, and rare.
    let share = |seed| self::share(config(Algorithm::Cubic, true), lossy, 10 << 20, seed).0;
    let mut shares: Vec<_> = (1..10).map(share).collect();
    shares.sort_unstable();
    assert!(shares[shares.len() / 2] >= 85, "{shares:?} %");
}

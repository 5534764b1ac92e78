//! Bytes from one host to the other: all of them, in order, whatever the link does.

use crate::lab::{Lab, Random, Weather};

/// What byte `n` of a stream is.
fn byte(n: u64) -> u8 {
    (n.wrapping_mul(0x9e37_79b9) >> 13) as u8
}

/// Sends `bytes` from host 0 to host 1 and as many back at the same time; `slow`: host 1 reads little by little. Both streams
/// are checked to the last byte, and both hosts are empty afterwards.
fn exchange(lab: &mut Lab, bytes: u64, slow: bool) {
    let listener = lab.nodes[1].listen(80, 10);
    let socks = lab.connected(listener);
    let (mut sent, mut got, mut closed, mut shut) = ([0u64; 2], [0u64; 2], [false; 2], [false; 2]);
    let mut choose = Random::new(bytes + 5);
    let mut buffer = vec![0; 70_000];
    let end = lab.now + 3_600_000_000 * 10;
    while got != [bytes; 2] || closed != [true; 2] {
        for n in [0, 1] {
            if bytes == 0 && sent[n] == 0 && got[n] == 0 && !shut[n] {
                lab.nodes[n].shutdown(socks[n]);
                shut[n] = true;
            }
            while sent[n] < bytes {
                let len = (choose.below(buffer.len() as u64) + 1).min(bytes - sent[n]) as usize;
                for (k, b) in buffer[..len].iter_mut().enumerate() {
                    *b = byte(sent[n] + k as u64);
                }
                match lab.nodes[n].write(socks[n], &buffer[..len]).expect("connected") {
                    Some(taken) => sent[n] += taken as u64,
                    None => break,
                }
                if sent[n] == bytes {
                    lab.nodes[n].shutdown(socks[n]);
                }
            }
            loop {
                let len = if slow && n == 1 { choose.below(3000) as usize } else { buffer.len() };
                if len == 0 {
                    break;
                }
                match lab.nodes[n].read(socks[n], &mut buffer[..len]).expect("connected") {
                    Some(0) => {
                        closed[n] = true;
                        break;
                    }
                    Some(read) => {
                        for &b in &buffer[..read] {
                            assert_eq!(b, byte(got[n]), "byte {} of stream {n}", got[n]);
                            got[n] += 1;
                        }
                    }
                    None => break,
                }
                if slow && n == 1 {
                    break;
                }
            }
        }
        // A slow reader has something to do when nothing else happens.
        assert!(lab.now < end && (lab.step() || slow), "stuck: sent {sent:?} got {got:?} closed {closed:?}");
    }
    for n in [0, 1] {
        assert_eq!(lab.nodes[n].close(socks[n]), Ok(()));
    }
    lab.until("nothing is left", |lab| lab.nodes.iter().all(|n| n.connections() == 0));
}

#[test]
fn over_a_good_link() {
    for bytes in [0, 1, 1000, 100_000, 5_000_000] {
        let mut lab = Lab::with_buffers(262_144);
        exchange(&mut lab, bytes, false);
    }
}

#[test]
fn to_a_slow_reader() {
    let mut lab = Lab::with_buffers(8192);
    exchange(&mut lab, 200_000, true);
}

#[test]
fn through_any_weather() {
    for seed in 0..1000 {
        let mut lab = Lab::with_buffers([8192, 65_536, 1 << 20][seed as usize % 3]);
        lab.introduce();
        lab.random = Random::new(seed);
        lab.weather = Weather { lost: [20, 100, 200][seed as usize % 3], doubled: 20, late: 100 };
        println!("seed {seed} {:?}", lab.weather);
        exchange(&mut lab, 60_000, seed % 5 == 0);
    }
}

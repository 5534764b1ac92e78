//! Random and hostile segments: no panic, no broken invariant, no more memory than the limits allow.

use crate::link::Wire;
use mos::tcp::tcb::calls::Shutdown;
use mos::tcp::tcb::config::SECOND;
use mos::tcp::tcb::{Config, Icmp, Open, Tcb};
use proptest::prelude::*;
use std::sync::Arc;

const ISS: u32 = 0xffff_f000;
const IRS: u32 = 0x7fff_ff00;
const LIMIT: u32 = 20_000;

/// What may happen to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// A segment near what is expected: distances from the peer's first byte and ours.
    Segment {
        seq: i32,
        ack: i32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
        len: usize,
    },
    Wait(u64),
    Write(usize),
    Read(usize),
    Shutdown,
    Close,
    Abort,
    Icmp(u16, i32),
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let stamps = (any::<u32>(), any::<u32>())
        .prop_map(|(a, b)| [&[1, 1, 8, 10][..], &a.to_be_bytes(), &b.to_be_bytes()].concat());
    let small =
        (0u32..50, 0u32..2000).prop_map(|(a, b)| [&[8, 10][..], &a.to_be_bytes(), &b.to_be_bytes()].concat());
    let sack = prop::collection::vec((0u32..9000, 0u32..3000), 1..5).prop_map(|blocks| {
        let mut bytes = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
        for (at, len) in blocks {
            bytes.extend(ISS.wrapping_add(at).to_be_bytes());
            bytes.extend(ISS.wrapping_add(at + len).to_be_bytes());
        }
        bytes
    });
    prop_oneof![
        3 => Just(vec![]),
        3 => small,
        1 => stamps,
        3 => sack,
        1 => prop::collection::vec(any::<u8>(), 0..41),
        1 => Just(vec![2, 4, 0, 1, 3, 3, 255, 4, 2]),
    ]
}

fn near() -> impl Strategy<Value = i32> {
    prop_oneof![Just(1), 0i32..30, 0i32..25_000, -70_000i32..70_000, any::<i32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![4 => Just(16u8), 2 => Just(24u8), 1 => Just(17u8), 1 => any::<u8>()];
    let len = prop_oneof![Just(0usize), 1usize..40, 0usize..3000];
    let segment = (near(), near(), flags, any::<u16>(), options(), len).prop_map(
        |(seq, ack, flags, window, options, len)| Step::Segment { seq, ack, flags, window, options, len },
    );
    prop_oneof![
        12 => segment,
        3 => (0u64..3 * SECOND).prop_map(Step::Wait),
        1 => any::<u32>().prop_map(|n| Step::Wait(u64::from(n) * 1000)),
        3 => (0usize..40_000).prop_map(Step::Write),
        3 => (0usize..30_000).prop_map(Step::Read),
        1 => Just(Step::Shutdown),
        1 => prop_oneof![Just(Step::Close), Just(Step::Abort)],
        1 => (any::<u16>(), 0i32..3000).prop_map(|(mtu, at)| Step::Icmp(mtu, at)),
    ]
}

fn run(config: Config, active: bool, established: bool, steps: Vec<Step>) {
    let config = Arc::new(config);
    let mut open = Open::new(ISS);
    (open.recv_limit, open.send_limit) = (LIMIT, LIMIT);
    open.keepalive = true;
    let mut now = 1000;
    let wire = |flags, seq, ack, payload: &[u8], options: &[u8]| Wire {
        seq: IRS.wrapping_add_signed(seq),
        ack: ISS.wrapping_add_signed(ack),
        flags,
        window: 5000,
        options: options.to_vec(),
        payload: payload.to_vec(),
    };
    let offer = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 2];
    let mut tcb = if active {
        Tcb::connect(config, now, &open)
    } else {
        Tcb::accept(config, now, &open, &wire(2, 0, 0, b"", &offer).segment()).unwrap()
    };
    let drain = |tcb: &mut Tcb, now: u64| {
        let mut count = 0;
        while tcb.poll_transmit(now, 1, |t| {
            // What leaves is within the numbers of the connection, and fits.
            let at = t.seq.wrapping_sub(ISS) as i32;
            let _ = Wire::from(t);
            assert!(t.flags & 4 != 0 || (0..=(1 << 30)).contains(&at), "{t:?}");
            assert!(t.payload.len() + t.options.len() <= 1460 && t.options.len() <= 40, "{t:?}");
            true
        }) == 1
        {
            count += 1;
            assert!(count < 2000, "never silent: {tcb:?}");
        }
        count
    };
    drain(&mut tcb, now);
    if established {
        let (flags, options): (u8, &[u8]) =
            if active { (18, &offer) } else { (16, &[1, 1, 8, 10, 0, 0, 0, 10, 0, 0, 0, 0]) };
        tcb.on_segment(now, &wire(flags, if active { 0 } else { 1 }, 1, b"", options).segment());
        drain(&mut tcb, now);
    }
    for step in steps {
        match step {
            Step::Segment { seq, ack, flags, window, options, len } => {
                let mut wire = wire(flags, seq, ack, &vec![7; len], &options);
                wire.window = window;
                tcb.on_segment(now, &wire.segment());
            }
            Step::Wait(time) => {
                let end = now + time;
                for _ in 0..50 {
                    match tcb.deadline() {
                        Some(at) if at <= end => {
                            now = now.max(at);
                            tcb.on_deadline(now);
                            drain(&mut tcb, now);
                        }
                        _ => break,
                    }
                }
                now = now.max(end);
            }
            Step::Write(len) => drop(tcb.write(&vec![1; len])),
            Step::Read(len) => drop(tcb.read(now, &mut vec![0; len])),
            Step::Shutdown => drop(tcb.shutdown(Shutdown::Write)),
            Step::Close => tcb.close(now),
            Step::Abort => tcb.abort(),
            Step::Icmp(mtu, at) => {
                let icmp = match mtu % 4 {
                    0 => Icmp::TooBig(mtu),
                    1 => Icmp::HostUnreachable,
                    2 => Icmp::NetUnreachable,
                    _ => Icmp::PortUnreachable,
                };
                tcb.on_icmp(icmp, ISS.wrapping_add_signed(at));
            }
        }
        tcb.check();
        drain(&mut tcb, now);
        tcb.check();
        let memory = tcb.allocated_bytes();
        assert!(memory <= 3 * (LIMIT as usize + 66_000) + 4096, "{memory} bytes: {tcb:?}");
        let _ = (tcb.readiness(), tcb.take_events(), tcb.unread_slices().count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_segments(
        active in any::<bool>(),
        established in prop::bool::weighted(0.8),
        timestamps in any::<bool>(),
        sack in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(Config { timestamps, sack, ..Config::default() }, active, established, steps);
    }
}

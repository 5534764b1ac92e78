//! DPDK ports on virtual devices that need neither hardware nor privileges: what a core receives, sends on and loses.
//!
//! EAL begins once a process: everything here shares one, and one test closes it at its end.
#![cfg(feature = "dpdk")]
mod harness;

use mos::io::device::{BURST, Device, LivePort, Queued, RxView, Vouch};
use mos::io::dpdk::{Arguments, Options, open, shut_down};
use mos::wire::rss::{Rss, RssForm};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, OnceLock};

const PLAIN: Options = Options { mtu: None, stamps: false };

fn scratch() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dpdk_ports");
    fs::create_dir_all(&dir).expect("scratch directory");
    dir
}

/// A pcap file with these frames, a microsecond apart from second 1 on.
fn capture(name: &str, frames: &[Vec<u8>]) -> PathBuf {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (n, frame) in frames.iter().enumerate() {
        let len = frame.len() as u32;
        for word in [1, n as u32, len, len] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(frame);
    }
    let path = scratch().join(name);
    fs::write(&path, file).expect("written");
    path
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|n| (n * 7) as u8 ^ seed).collect()
}

/// A minimal TCP frame between two ports.
fn tcp(sport: u16) -> Vec<u8> {
    let mut f = vec![0; 60];
    f[12] = 8;
    f[14] = 0x45;
    f[17] = 40;
    f[23] = 6;
    f[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    f[34..36].copy_from_slice(&sport.to_be_bytes());
    f[46] = 0x50;
    f
}

const LENGTHS: [usize; 6] = [60, 1514, 2048, 2049, 9000, 60_000];

/// What EAL is begun with, whichever test comes first.
fn arguments() -> &'static Arguments {
    static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();
    ARGUMENTS.get_or_init(|| {
        let frames: Vec<Vec<u8>> = LENGTHS.iter().map(|&len| frame(len, 1)).collect();
        let lengths = capture("lengths.pcap", &frames);
        let many = capture("many.pcap", &(0..1000).map(tcp).collect::<Vec<_>>());
        let (lengths, many, out) = (lengths.display(), many.display(), scratch().join("out.pcap"));
        let text = format!(
            "--no-huge -m 256 --no-pci --no-shconf --no-telemetry \
             --vdev=net_pcap0,rx_pcap={lengths},tx_pcap={} --vdev=net_ring0 --vdev=net_null0,size=100 \
             --vdev=net_pcap1,rx_pcap={many},rx_pcap={many},tx_pcap=/dev/null",
            out.display()
        );
        Arguments { text, channels: 0 }
    })
}

fn port(name: &str, options: Options) -> Box<dyn LivePort> {
    open(name, arguments(), options).unwrap_or_else(|e| panic!("{e}"))
}

fn one(port: &dyn LivePort) -> Box<dyn Device> {
    let mut queues = port.queues(&[true], Rss::new(RssForm::Narrow)).unwrap_or_else(|e| panic!("{e}"));
    assert!(queues.split, "one core has everything");
    queues.devices.pop().expect("one core")
}

fn bytes(view: &RxView) -> Vec<u8> {
    // SAFETY: the callers look before they receive again.
    unsafe { view.bytes() }.to_vec()
}

fn receive(device: &mut dyn Device) -> Vec<RxView> {
    let mut views = Vec::with_capacity(BURST);
    device.receive(BURST, &mut views);
    views
}

/// Frames in a capture that net_pcap wrote.
fn written(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("the capture");
    let mut at = 24;
    let mut all = Vec::new();
    while at < file.len() {
        let len = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("four")) as usize;
        all.push(file[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    all
}

#[test]
fn ports() {
    let cores = affinity();
    long_frames_are_read_whole_and_sent_on();
    assert_eq!(affinity(), cores, "EAL gives the caller's cores back");
    what_is_sent_is_what_is_received();
    a_full_ring_refuses_and_a_stalled_device_drops();
    stamps();
    several_queues_and_cores();
    threads();
    errors();
    shut_down();
    let again = open("dpdk0", arguments(), PLAIN).map(|_| ()).expect_err("EAL begins once");
    assert!(again.contains("once"), "{again}");
}

fn affinity() -> Vec<usize> {
    // SAFETY: a zeroed set is valid and lives through the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (0..1024).filter(|&n| libc::CPU_ISSET(n, &set)).collect()
    }
}

/// net_pcap gives a long frame in several buffers: it is read as one, and goes on as it is, as a copy, or cut.
fn long_frames_are_read_whole_and_sent_on() {
    let port = port("dpdk0", PLAIN);
    {
        let mut device = one(&*port);
        let views = receive(&mut *device);
        assert_eq!(views.len(), LENGTHS.len());
        for (n, (view, len)) in views.iter().zip(LENGTHS).enumerate() {
            assert_eq!(bytes(view), frame(len, 1), "{len} bytes");
            assert_eq!((view.wire_len, view.ts_ns, view.vouch), (len as u32, 0, Vouch::Unknown));
            match device.take(n) {
                Some(native) => {
                    assert!(len <= 2048, "a frame in pieces is copied");
                    assert_eq!(native.bytes(), frame(len, 1));
                    assert_eq!(device.send_native(native, len - 4), Queued::Yes);
                }
                None if len > 16_128 => {
                    assert_eq!(device.send(&bytes(view)), Queued::Never, "net_pcap's limit")
                }
                None => assert_eq!(device.send(&bytes(view)), Queued::Yes),
            }
        }
        assert!(device.take(0).is_none(), "taken once");
        assert_eq!(device.flush(), Default::default());
        assert!(receive(&mut *device).is_empty());
    }
    let out = written(&scratch().join("out.pcap"));
    let expected: Vec<Vec<u8>> = LENGTHS[..5]
        .iter()
        .map(|&len| frame(len, 1)[..if len <= 2048 { len - 4 } else { len }].to_vec())
        .collect();
    assert!(out == expected, "what was written differs");
    // The port was stopped with its last device, and starts again.
    let mut device = one(&*port);
    assert_eq!(receive(&mut *device).len(), LENGTHS.len());
}

/// A ring leads from the port to itself.
fn what_is_sent_is_what_is_received() {
    let port = port("dpdk1", PLAIN);
    let mut device = one(&*port);
    assert!(device.link_up());
    for n in 0..100 {
        assert_eq!(device.send(&frame(60 + n, n as u8)), Queued::Yes);
    }
    assert!(receive(&mut *device).is_empty(), "nothing leaves before it is flushed");
    assert_eq!(device.flush(), Default::default());
    let views = receive(&mut *device);
    assert_eq!(views.len(), BURST);
    let at = |native: &mos::io::device::Native| native.bytes().as_ptr();
    let native = device.take(0).expect("its own buffer");
    let place = at(&native);
    assert_eq!(device.send_native(native, 50), Queued::Yes);
    device.flush();
    for (n, view) in views.iter().enumerate().skip(1) {
        assert_eq!(bytes(view), frame(60 + n, n as u8));
    }
    let views = receive(&mut *device);
    assert_eq!(views.len(), 37);
    assert_eq!(bytes(&views[36]), frame(60, 0)[..50]);
    let back = device.take(36).expect("its own buffer");
    assert_eq!(at(&back), place, "the buffer itself went round");
    drop(back);
    assert_eq!(device.counters(), Default::default());
}

fn a_full_ring_refuses_and_a_stalled_device_drops() {
    let port = port("dpdk1", PLAIN);
    let mut device = one(&*port);
    // Nobody reads: the ring fills, then the queue.
    let mut queued = 0u64;
    let full = (0..100_000).find(|_| match device.send(&frame(60, 0)) {
        Queued::Yes => {
            queued += 1;
            false
        }
        other => {
            assert_eq!(other, Queued::Full);
            assert_eq!(device.has_room(60), Queued::Full);
            true
        }
    });
    assert!(full.is_some(), "a ring has an end");
    let flushed = device.flush();
    assert!(flushed.waiting && flushed.lost == 0, "{flushed:?}");
    std::thread::sleep(std::time::Duration::from_millis(120));
    let flushed = device.flush();
    assert!(!flushed.waiting && flushed.lost > 0 && flushed.lost_bytes == flushed.lost * 60, "{flushed:?}");
    let mut received = 0;
    loop {
        match receive(&mut *device).len() {
            0 => break,
            n => received += n as u64,
        }
    }
    assert_eq!(received + flushed.lost, queued);
}

fn stamps() {
    let stamped = port("dpdk0", Options { mtu: None, stamps: true });
    let mut device = one(&*stamped);
    let views = receive(&mut *device);
    let times: Vec<u64> = views.iter().map(|v| v.ts_ns).collect();
    assert_eq!(times, (0..6).map(|n| 1_000_000_000 + n * 1000).collect::<Vec<_>>());
    let none = open("dpdk2", arguments(), Options { mtu: None, stamps: true }).map(|_| ());
    assert!(none.expect_err("net_null gives no stamps").contains("receive stamps"));
}

/// Two queues that net_pcap fills by a rule of its own: read by one core, or by one each of three.
fn several_queues_and_cores() {
    let port = port("dpdk3", PLAIN);
    {
        let mut device = one(&*port);
        let mut received = 0;
        loop {
            match receive(&mut *device).len() {
                0 => break,
                n => received += n,
            }
        }
        assert_eq!(received, 2000);
    }
    let queues = port.queues(&[true, false, true, true], Rss::new(RssForm::Narrow)).expect("four cores");
    assert!(!queues.split, "net_pcap does not ask the map");
    let in_use = port.queues(&[true], Rss::new(RssForm::Narrow)).map(|_| ());
    assert!(in_use.expect_err("it runs").contains("in use"));
    let counts: Vec<usize> = queues
        .devices
        .into_iter()
        .map(|mut device| {
            std::thread::spawn(move || {
                let mut received = 0;
                loop {
                    let views = receive(&mut *device);
                    if views.is_empty() {
                        break received;
                    }
                    received += views.len();
                    for n in 0..views.len() {
                        let native = device.take(n).expect("one piece");
                        assert_eq!(device.send_native(native, 60), Queued::Yes);
                    }
                    assert_eq!(device.flush(), Default::default());
                }
            })
        })
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    assert_eq!(counts, [1000, 0, 1000, 0]);
}

/// More threads than DPDK has numbers for: those without one receive and send as well.
fn threads() {
    let port = port("dpdk3", PLAIN);
    let count = 140;
    let receives: Vec<bool> = (0..count).map(|n| n % 70 == 69).collect();
    let queues = port.queues(&receives, Rss::new(RssForm::Narrow)).expect("many cores");
    let start = Arc::new(Barrier::new(count));
    let work = |(mut device, receives): (Box<dyn Device>, bool)| {
        let start = start.clone();
        std::thread::spawn(move || {
            // The first call makes DPDK know the thread, or not.
            let mut received = receive(&mut *device).len();
            start.wait();
            for round in 0..20 {
                assert_eq!(device.send(&frame(60 + round, 0)), Queued::Yes);
                let views = receive(&mut *device);
                for n in 0..views.len() / 2 {
                    let native = device.take(n).expect("one piece");
                    assert_eq!(device.send_native(native, 60), Queued::Yes);
                }
                assert_eq!(device.flush(), Default::default());
                received += views.len();
            }
            (receives, received)
        })
    };
    let threads: Vec<_> = queues.devices.into_iter().zip(receives).map(work).collect();
    for thread in threads {
        let (receives, received) = thread.join().expect("no panic");
        assert_eq!(received, if receives { 1000 } else { 0 });
    }
}

fn errors() {
    let fails = |name: &str, options: Options| match open(name, arguments(), options) {
        Err(message) => message,
        Ok(_) => panic!("{name} was opened"),
    };
    let none = fails("dpdk4", PLAIN);
    assert!(none.contains("dpdk4") && none.contains("dpdk0 to dpdk3"), "{none}");
    let none = fails("net_pcap7", PLAIN);
    assert!(none.contains("net_ring0"), "{none}");
    assert!(open("net_null0", arguments(), PLAIN).is_ok(), "a port has DPDK's name too");
    let mtu = fails("dpdk1", Options { mtu: Some(40), stamps: false });
    assert!(mtu.contains("MTU"), "{mtu}");
    let other = Arguments { text: "--no-pci".into(), channels: 0 };
    assert!(open("dpdk0", &other, PLAIN).is_ok(), "EAL goes on as it was begun");
    let help = Arguments { text: "--help".into(), channels: 0 };
    assert!(open("dpdk0", &help, PLAIN).is_err());
}

/// What EAL refuses is an error of mtcp_init with its reason, and the program goes on.
#[test]
fn what_eal_refuses_ends_no_program() {
    let program = harness::scratch("refused").join("config");
    harness::compile(&harness::root().join("tests/c/config.c"), &program, &[]);
    let small = "--no-huge -m 64 --no-shconf --no-pci --no-telemetry";
    for (name, eal, reason) in [
        ("option", "--no-such-option".to_owned(), "EAL cannot begin"),
        ("help", "--help".to_owned(), "help is not given here"),
        ("vdev", format!("{small} --vdev=net_nosuch0"), "EAL cannot begin"),
        ("ports", small.to_owned(), "no such DPDK port: there is none"),
        ("memory", small.replace("-m 64", "-m 1000000000"), "EAL cannot begin"),
        (
            "stamps",
            format!("{small} --vdev=net_null0"),
            "device 'dpdk0': expected a DPDK port that can do receive stamps",
        ),
    ] {
        let conf = harness::scratch("refused").join(format!("{name}.conf"));
        let text = format!(
            "mos {{\n netdev {{\n dpdk0 0x1\n }}\n dpdk {{\n eal = \"{eal}\"\n clock = packet\n }}\n}}\n"
        );
        fs::write(&conf, text).expect("written");
        let outcome = harness::run(&program, &[&conf], &[], std::time::Duration::from_secs(20));
        let said = String::from_utf8_lossy(&outcome.stderr);
        if said.starts_with("ARGPARSE: unknown argument") {
            // What reads EAL's options since DPDK 25.07 ends the process itself; nothing can be done about it from here.
            harness::note(&format!("{name}: this DPDK ends the program"));
            continue;
        }
        assert_eq!(outcome.status.and_then(|s| s.code()), Some(1), "{name}: {said}");
        assert!(said.contains(reason), "{name}: {said}");
    }
}

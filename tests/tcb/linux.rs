//! Against Linux's TCP: a connection of ours on a tun device in a network namespace of its own, with and without loss.
//!
//! Needs root and `/dev/net/tun`; without them these tests say so and pass.

use crate::random::Random;
use mos::tcp::tcb::calls::Shutdown;
use mos::tcp::tcb::config::{MILLISECOND, SECOND};
use mos::tcp::tcb::{Algorithm, Cause, Config, Open, Refusal, Segment, State, Tcb};
use mos::wire::checksum;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PORT: u16 = 8000;

/// Runs `test` on a thread in a new network namespace, with a tun device that leads to us.
fn in_namespace(test: impl FnOnce(File) + Send + 'static) {
    let run = move || {
        // SAFETY: affects only this thread, which does not outlive the test.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return eprintln!("skipped: a network namespace needs root");
        }
        let device =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
        let Ok(device) = device else { return eprintln!("skipped: no /dev/net/tun") };
        let mut request = [0u8; 40];
        request[..4].copy_from_slice(b"ours");
        request[16..18].copy_from_slice(&((libc::IFF_TUN | libc::IFF_NO_PI) as u16).to_ne_bytes());
        // SAFETY: TUNSETIFF takes an ifreq of 40 bytes: name, then flags.
        if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } != 0 {
            return eprintln!("skipped: no tun device can be made");
        }
        let ip = |arguments: &str| {
            assert!(
                Command::new("ip").args(arguments.split(' ')).status().unwrap().success(),
                "ip {arguments}"
            );
        };
        ip("link set lo up");
        ip("addr add 10.77.0.1/24 dev ours");
        ip("link set ours up");
        test(device);
    };
    thread::spawn(run).join().unwrap();
}

/// Our end: one connection, and the application on it.
struct End<A> {
    device: File,
    config: Arc<Config>,
    /// Percent of the packets lost, each way.
    loss: u64,
    random: Random,
    begin: Instant,
    tcb: Option<Tcb>,
    ports: (u16, u16),
    app: A,
}

impl<A: FnMut(u64, &mut Tcb) -> bool> End<A> {
    fn new(device: File, config: Config, loss: u64, app: A) -> Self {
        End {
            device,
            config: Arc::new(config),
            loss,
            random: Random::new(loss + 1),
            begin: Instant::now(),
            tcb: None,
            ports: (PORT, 0),
            app,
        }
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    /// Opens to the kernel's `port`.
    fn connect(&mut self, port: u16) {
        self.ports = (40_000, port);
        self.tcb = Some(Tcb::connect(self.config.clone(), self.now(), &Open::new(0xffff_ff00)));
    }

    /// Runs until the application is done and the connection over, or in TIME_WAIT.
    fn run(mut self) -> Tcb {
        let mut packet = vec![0; 2048];
        let mut done = false;
        loop {
            let now = self.now();
            assert!(now < 120 * SECOND, "stuck: {:#?}", self.tcb);
            if let Some(tcb) = &mut self.tcb {
                tcb.on_deadline(now);
                done = done || (self.app)(now, tcb);
            }
            self.transmit(now);
            match &self.tcb {
                Some(tcb) if done && (tcb.is_closed() || tcb.state() == State::TimeWait) => break,
                Some(tcb) if tcb.is_closed() && tcb.cause().is_some() => break,
                _ => {}
            }
            let mut poll = libc::pollfd { fd: self.device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd. A millisecond: applications pause, too.
            unsafe { libc::poll(&mut poll, 1, 1) };
            for _ in 0..64 {
                match self.device.read(&mut packet) {
                    Ok(len) => self.receive(now, &packet[..len]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("{e}"),
                }
            }
        }
        self.tcb.unwrap()
    }

    fn receive(&mut self, now: u64, packet: &[u8]) {
        if packet[0] != 0x45
            || packet[9] != 6
            || packet[16..20] != OURS.octets()
            || self.random.chance(self.loss)
        {
            return;
        }
        assert!(checksum::tcp_ok(packet, 5, packet.len() as u16));
        let ports = [&packet[22..24], &packet[20..22]].map(|port| u16::from_be_bytes([port[0], port[1]]));
        let Some(seg) = Segment::parse(&packet[20..]) else { return };
        match &mut self.tcb {
            None => {
                self.ports = (ports[0], ports[1]);
                self.tcb = Tcb::accept(self.config.clone(), now, &Open::new(0xffff_ff00), &seg);
            }
            Some(tcb) if self.ports == (ports[0], ports[1]) => {
                tcb.on_segment(now, &seg);
                tcb.check();
            }
            _ => {}
        }
    }

    fn transmit(&mut self, now: u64) {
        let End { device, loss, random, tcb, ports, .. } = self;
        let Some(tcb) = tcb else { return };
        tcb.poll_transmit(now, 256, |t| {
            let header = 20 + t.options.len();
            let mut packet = vec![0; 20 + header + t.payload.len()];
            let total = packet.len() as u16;
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            packet[6] = 0x40;
            packet[8] = 64;
            packet[9] = 6;
            packet[12..16].copy_from_slice(&OURS.octets());
            packet[16..20].copy_from_slice(&KERNEL.octets());
            packet[20..22].copy_from_slice(&ports.0.to_be_bytes());
            packet[22..24].copy_from_slice(&ports.1.to_be_bytes());
            packet[24..28].copy_from_slice(&t.seq.to_be_bytes());
            packet[28..32].copy_from_slice(&t.ack.to_be_bytes());
            packet[32] = (header as u8 / 4) << 4;
            packet[33] = t.flags;
            packet[34..36].copy_from_slice(&t.window.to_be_bytes());
            packet[40..20 + header].copy_from_slice(t.options);
            t.payload.copy_to(&mut packet[20 + header..]);
            checksum::fill_ipv4(&mut packet).unwrap();
            checksum::fill_tcp(&mut packet).unwrap();
            // A full queue of the device is loss like any other.
            let lost = random.chance(*loss);
            let _ = lost || device.write(&packet).is_ok();
            true
        });
    }
}

fn byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// An application that sends back all it receives, and closes when the peer has.
fn echo() -> impl FnMut(u64, &mut Tcb) -> bool {
    let mut held = Vec::new();
    let mut ended = false;
    move |now, tcb| {
        let mut buffer = [0; 16_384];
        while held.len() < 65_536 && !ended {
            match tcb.read(now, &mut buffer) {
                Ok(0) => ended = true,
                Ok(count) => held.extend_from_slice(&buffer[..count]),
                Err(Refusal::WouldBlock) => break,
                Err(e) => panic!("{e:?}"),
            }
        }
        if let Ok(count) = tcb.write(&held) {
            held.drain(..count);
        }
        if ended && held.is_empty() {
            tcb.close(now);
        }
        ended && held.is_empty()
    }
}

fn kernel_connects() -> TcpStream {
    let stream = TcpStream::connect(SocketAddrV4::new(OURS, PORT)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The kernel sends `size` bytes while it reads them back; both ends close.
fn through_the_echo(device: File, config: Config, loss: u64, size: usize) -> Tcb {
    let ours = thread::spawn(move || End::new(device, config, loss, echo()).run());
    let mut stream = kernel_connects();
    let mut reader = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let bytes: Vec<u8> = (0..size).map(byte).collect();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    sender.join().unwrap();
    assert!(
        back.len() == size && back.iter().enumerate().all(|(at, b)| *b == byte(at)),
        "{} bytes",
        back.len()
    );
    let tcb = ours.join().unwrap();
    assert_eq!(tcb.cause(), None);
    tcb
}

#[test]
fn linux_connects_and_gets_its_bytes_back() {
    in_namespace(|device| {
        let tcb = through_the_echo(device, Config::default(), 0, 8 << 20);
        assert!(tcb.is_closed(), "{:?}", tcb.state());
        // No loss, so nothing is sent twice but a probe whose answer the scheduler kept waiting.
        assert!(tcb.retransmitted() < 100, "{}", tcb.retransmitted());
    });
}

#[test]
fn linux_with_loss() {
    in_namespace(|device| {
        let tcb = through_the_echo(device, Config::default(), 2, 2 << 20);
        assert!(tcb.retransmitted() > 0);
    });
}

#[test]
fn linux_with_loss_and_the_plainest_tcp() {
    in_namespace(|device| {
        let config = Config {
            timestamps: false,
            sack: false,
            window_scaling: false,
            congestion: Algorithm::NewReno,
            ..Config::default()
        };
        through_the_echo(device, config, 2, 300_000);
    });
}

#[test]
fn we_connect_to_linux() {
    in_namespace(|device| {
        let listener = TcpListener::bind(SocketAddrV4::new(KERNEL, PORT)).unwrap();
        let (mut written, mut read, mut closed) = (0, 0, false);
        let size = 3_000_000;
        let app = move |now, tcb: &mut Tcb| {
            while written < size {
                let chunk: Vec<u8> = (written..size.min(written + 9999)).map(byte).collect();
                match tcb.write(&chunk) {
                    Ok(count) => written += count,
                    Err(Refusal::WouldBlock) => break,
                    Err(e) => panic!("{e:?}"),
                }
            }
            if written == size && !closed && tcb.is_synchronized() {
                closed = true;
                tcb.shutdown(Shutdown::Write).unwrap();
            }
            let mut buffer = [0; 4096];
            loop {
                match tcb.read(now, &mut buffer) {
                    Ok(0) => break true,
                    Ok(count) => {
                        assert!(buffer[..count].iter().enumerate().all(|(i, b)| *b == byte(read + i)));
                        read += count;
                    }
                    Err(Refusal::WouldBlock) => break false,
                    Err(e) => panic!("{e:?}"),
                }
            }
        };
        let mut end = End::new(device, Config::default(), 0, app);
        end.connect(PORT);
        let ours = thread::spawn(move || end.run());
        let (mut stream, _) = listener.accept().unwrap();
        // Half-closed: Linux answers when it has everything.
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.len() == 3_000_000 && all.iter().enumerate().all(|(at, b)| *b == byte(at)));
        stream.write_all(&all[..1_000_000]).unwrap();
        drop(stream);
        let tcb = ours.join().unwrap();
        assert_eq!((tcb.state(), tcb.cause()), (State::TimeWait, None));
        assert!(tcb.srtt() > 0 && tcb.srtt() < 100 * MILLISECOND, "{}", tcb.srtt());
    });
}

#[test]
fn a_slow_linux_reader_closes_and_opens_its_window() {
    in_namespace(|device| {
        let size = 3_000_000;
        let mut written = 0;
        let app = move |now, tcb: &mut Tcb| {
            while written < size {
                let chunk: Vec<u8> = (written..size.min(written + 9999)).map(byte).collect();
                match tcb.write(&chunk) {
                    Ok(count) => written += count,
                    Err(_) => break,
                }
            }
            if written == size {
                tcb.close(now);
            }
            written == size
        };
        let ours = thread::spawn(move || End::new(device, Config::default(), 0, app).run());
        let mut stream = kernel_connects();
        // Long enough that the window is full and probes are sent.
        thread::sleep(Duration::from_millis(1500));
        let mut all = vec![0; 1_000_000];
        stream.read_exact(&mut all).unwrap();
        thread::sleep(Duration::from_millis(700));
        stream.read_to_end(&mut all).unwrap();
        assert!(all.len() == size && all.iter().enumerate().all(|(at, b)| *b == byte(at)));
        drop(stream);
        assert_eq!(ours.join().unwrap().cause(), None);
    });
}

#[test]
fn linux_resets() {
    in_namespace(|device| {
        let app = |_: u64, tcb: &mut Tcb| {
            let _ = tcb.write(b"answer");
            false
        };
        let ours = thread::spawn(move || End::new(device, Config::default(), 0, app).run());
        let stream = kernel_connects();
        thread::sleep(Duration::from_millis(50));
        // With bytes unread, close resets.
        drop(stream);
        assert_eq!(ours.join().unwrap().cause(), Some(Cause::Reset));
    });
}

#[test]
fn linux_refuses() {
    in_namespace(|device| {
        let mut end = End::new(device, Config::default(), 0, |_: u64, _: &mut Tcb| false);
        end.connect(PORT + 1);
        assert_eq!(end.run().cause(), Some(Cause::Refused));
    });
}

#[test]
fn we_abort() {
    in_namespace(|device| {
        let app = |_: u64, tcb: &mut Tcb| {
            let asked = tcb.unread() > 0;
            if asked {
                tcb.abort();
            }
            asked
        };
        let ours = thread::spawn(move || End::new(device, Config::default(), 0, app).run());
        let mut stream = kernel_connects();
        stream.write_all(b"?").unwrap();
        let error = stream.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(ours.join().unwrap().cause(), Some(Cause::Aborted));
    });
}

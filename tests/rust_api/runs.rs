//! Runs: building, errors, several monitors, panics, determinism, stopping.

use super::packets::{ACK, Talk, merged};
use super::{DEMO, Log, of};
use mos::{Ctx, Error, Event, Hook, Monitor, Side, Summary};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Everything that happens in the capture, in order, with the streams' bytes.
fn trace(path: &str) -> (Vec<String>, Summary) {
    let mut monitor = Monitor::open(path).unwrap();
    let log = Log::default();
    let big = monitor
        .define_event(Event::PktIn, |ev| ev.packet().is_some_and(|p| p.payload().len() > 1000))
        .unwrap();
    let stream = monitor.stream().unwrap();
    let both = [Event::PktIn, Event::ConnStart, Event::StateChange, Event::ConnEnd, big];
    let mut places: Vec<(Event, Hook)> =
        both.into_iter().flat_map(|e| [(e, Hook::Snd), (e, Hook::Rcv)]).collect();
    places.extend([Event::NewData, Event::Error, Event::Orphan].map(|e| (e, Hook::Null)));
    places.push((Event::Rexmit, Hook::Rcv));
    for (event, hook) in places {
        let log = log.clone();
        stream
            .on(event, hook, move |ev| {
                let states = (ev.state(Side::Client), ev.state(Side::Server));
                let (offset, side) = (ev.packet().and_then(|p| p.stream_offset()), ev.side());
                let mut bytes = Vec::new();
                let missing = if event == Event::NewData { ev.read_into(side, &mut bytes) } else { Ok(0) };
                let what = if event == big { "big".to_string() } else { format!("{event:?}") };
                log.say(format!(
                    "{:?} {what} {hook:?} {side:?} {} {states:?} {offset:?} {missing:?} {:?}",
                    ev.now(),
                    ev.flow(),
                    String::from_utf8_lossy(&bytes)
                ));
            })
            .unwrap();
    }
    let summary = monitor.run().unwrap();
    (log.lines(), summary)
}

#[test]
fn the_demo_capture_is_the_same_every_time_and_on_every_thread() {
    let (lines, summary) = trace(DEMO);
    let c = &summary.counters;
    assert_eq!((c.rx_packets, c.flows_now, c.panics), (592, 0, 0));
    for event in
        [Event::PktIn, Event::ConnStart, Event::StateChange, Event::ConnEnd, Event::NewData, Event::Rexmit]
    {
        let seen = lines.iter().filter(|l| l.contains(&format!(" {event:?} "))).count() as u64;
        assert!(
            seen > 0 && seen == summary.events(event),
            "{event:?}: {seen}, counted {}",
            summary.events(event)
        );
    }
    assert!(lines.iter().any(|l| l.contains(" big Rcv ")));
    let others: Vec<_> = (0..4).map(|_| std::thread::spawn(|| trace(DEMO))).collect();
    for other in others {
        let (again, s) = other.join().unwrap();
        assert!(again == lines, "another trace");
        assert_eq!(s.to_string(), summary.to_string());
    }
    let text = summary.to_string();
    assert!(text.contains("592 packets") && text.contains(&format!("{} flows", c.flows_created)), "{text}");
}

#[test]
fn two_monitors_in_turns() {
    // A callback of one monitor runs another: nothing is shared but the process.
    let mut outer = Monitor::open(DEMO).unwrap();
    let log = Log::default();
    let l = log.clone();
    let mut done = false;
    outer
        .stream()
        .unwrap()
        .on(Event::ConnStart, Hook::Snd, move |ev| {
            let before = ev.flow();
            if !std::mem::replace(&mut done, true) {
                let mut inner = of(Talk::new(4000).handshake().close()).build().unwrap();
                let user = inner.define_event(Event::ConnStart, |_| true).unwrap();
                let l = l.clone();
                inner.stream().unwrap().on(user, Hook::Snd, move |ev| l.say(ev.flow())).unwrap();
                inner.run().unwrap();
            }
            assert_eq!(ev.flow(), before);
        })
        .unwrap();
    // The same number as the inner one's, and another meaning.
    let never = outer.define_event(Event::ConnStart, |_| false).unwrap();
    let l = log.clone();
    outer.stream().unwrap().on(never, Hook::Snd, move |_| l.say("never")).unwrap();
    assert_eq!(outer.run().unwrap().counters.panics, 0);
    log.expect(&["10.0.0.1:4000 -> 10.0.0.2:80"]);
}

struct Guard(Arc<AtomicUsize>);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Three conversations at once; the callback of the second panics at `event`.
fn panicking(event: Event, hook: Hook, predicate: bool) {
    let talks = (0..3).map(|n| {
        let mut talk = Talk::new(4000 + n);
        talk.wait(n as u64).handshake().send(0, ACK, b"x").send(1, ACK, b"y").close();
        talk
    });
    let mut monitor = Monitor::builder().packets(merged(talks)).build().unwrap();
    let (dropped, log) = (Arc::new(AtomicUsize::new(0)), Log::default());
    let (d, l) = (dropped.clone(), log.clone());
    let stream = monitor.stream().unwrap();
    let is_second = |ev: &Ctx<'_>| ev.flow().client.port() == 4001;
    let bad = move |ev: &mut Ctx<'_>| {
        if !ev.set_data(Guard(d.clone())) {
            l.say("no flow");
        }
        if is_second(ev) {
            l.say("panics");
            panic!("of the test");
        }
        true
    };
    if predicate {
        let user = monitor.define_event(event, bad).unwrap();
        stream.on(user, hook, |_| ()).unwrap();
    } else {
        stream.on(event, hook, move |ev| _ = bad(ev)).unwrap();
    }
    // Another listener of the same flows.
    let l = log.clone();
    let other = monitor.stream().unwrap();
    other
        .on(Event::ConnEnd, Hook::Snd, move |ev| {
            if ev.side() == Side::Client {
                l.say(format!("end {}", ev.flow().client.port()));
            }
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.panics, summary.counters.flows_now), (1, 0), "{event:?}");
    // The packets of the flow that is gone are orphans; the others are not disturbed.
    assert_eq!(summary.counters.flows_created, 3);
    assert!(summary.counters.in_orphan > 0);
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["end 4000", "end 4002", "panics"], "{event:?} {hook:?}");
    assert!(dropped.load(Ordering::Relaxed) >= 3);
    drop(monitor);
}

#[test]
fn panics_are_contained() {
    let places = [
        (Event::ConnStart, Hook::Snd),
        (Event::ConnStart, Hook::Rcv),
        (Event::PktIn, Hook::Snd),
        (Event::PktIn, Hook::Rcv),
        (Event::StateChange, Hook::Snd),
        (Event::NewData, Hook::Null),
    ];
    for (event, hook) in places {
        panicking(event, hook, false);
        panicking(event, hook, true);
    }
}

#[test]
fn panics_at_the_end_and_without_flow() {
    let mut talk = Talk::new(4000);
    talk.handshake().close().send(0, ACK, b"");
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let stream = monitor.stream().unwrap();
    let l = log.clone();
    stream
        .on(Event::ConnEnd, Hook::Snd, move |ev| {
            l.say(format!("{:?}", ev.side()));
            panic!("of the test");
        })
        .unwrap();
    let l = log.clone();
    stream
        .on(Event::Orphan, Hook::Null, move |_| {
            l.say("orphan");
            panic!("of the test");
        })
        .unwrap();
    monitor.raw().unwrap().on(Event::PktIn, Hook::Null, |_| panic!("of the test")).unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.panics, summary.counters.flows_now), (2 + 1 + 7, 0));
    log.expect(&["Server", "Client", "orphan"]);
    assert!(summary.to_string().contains("10 panics"), "{summary}");
}

#[test]
fn destructors_that_panic_are_contained() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("of the test");
        }
    }
    let talks = (0..5).map(|n| {
        let mut talk = Talk::new(4000 + n);
        talk.wait(n as u64).handshake().close();
        talk
    });
    let mut monitor = Monitor::builder().packets(merged(talks)).build().unwrap();
    let stream = monitor.stream().unwrap();
    stream
        .on(Event::ConnStart, Hook::Snd, |ev| {
            ev.set_data(Bad);
            if ev.flow().client.port() == 4003 {
                let bad = Bad;
                ev.register(Event::ConnEnd, Hook::Rcv, move |_| _ = &bad).unwrap();
            }
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(
        (summary.counters.panics, summary.counters.flows_ended, summary.counters.flows_now),
        (6, 5, 0)
    );
}

#[test]
fn stopped_from_outside() {
    let mut talk = Talk::new(4000);
    talk.handshake();
    for _ in 0..100 {
        talk.send(0, ACK, b"more");
    }
    let mut monitor = of(&mut talk).build().unwrap();
    let (handle, log) = (monitor.stop_handle(), Log::default());
    let stream = monitor.stream().unwrap();
    let l = log.clone();
    let mut seen = 0;
    stream
        .on(Event::NewData, Hook::Null, move |_| {
            seen += 1;
            if seen == 10 {
                handle.clone().stop();
            }
            l.say(seen);
        })
        .unwrap();
    let l = log.clone();
    stream.on(Event::ConnEnd, Hook::Snd, move |ev| l.say(format!("end {:?}", ev.side()))).unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.rx_packets, 3 + 10);
    assert_eq!(log.lines()[9..], ["10", "end Client", "end Server"]);
    // It stays stopped.
    assert_eq!(monitor.run().unwrap().counters.rx_packets, 13);
}

#[test]
fn what_cannot_be_built() {
    let error = |built: Result<Monitor, Error>| built.unwrap_err();
    assert_eq!(error(Monitor::builder().build()), Error::NoSource);
    assert!(error(Monitor::open("/nonexistent.pcap")).to_string().contains("/nonexistent.pcap"));
    let not = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(matches!(error(Monitor::open(not)), Error::Open { reason } if reason.contains("not a capture")));
    let demo = || Monitor::builder().capture(DEMO);
    let cases = [
        (demo().reassembly(0), "reassembly"),
        (demo().reassembly((1 << 30) + 1), "reassembly"),
        (demo().idle_timeout(Duration::ZERO), "idle_timeout"),
        (demo().idle_timeout(Duration::MAX), "idle_timeout"),
        (demo().time_wait(Duration::from_secs(1 << 40)), "time_wait"),
        (demo().max_concurrency(0), "max_concurrency"),
        (demo().packets([(Duration::ZERO, vec![])]), "packets"),
        (Monitor::builder().packets([(Duration::ZERO, vec![0; 65536])]), "packets"),
        (demo().forward_to_memory().forward_to("x.pcap"), "forward_to_memory"),
    ];
    for (builder, method) in cases {
        let e = error(builder.build());
        assert!(matches!(e, Error::Option { name, .. } if name == method), "{method}: {e}");
        assert!(e.to_string().contains("expected"), "{e}");
    }
    let many = (0..256).fold(Monitor::builder(), |b, _| b.capture(DEMO));
    assert!(matches!(error(many.build()), Error::Option { name: "capture", .. }));
}

#[test]
fn options_take_effect() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"data");
    let mut packets = talk.take();
    packets[3].1[54] ^= 1; // a wrong checksum
    for (verify, bytes) in [(true, 0), (false, 4)] {
        let mut monitor =
            Monitor::builder().packets(packets.clone()).verify_checksums(verify).build().unwrap();
        monitor.stream().unwrap();
        assert_eq!(monitor.run().unwrap().counters.stream_bytes, bytes);
    }
    for (midstream, flows) in [(false, 0), (true, 1)] {
        let middle = packets[2..3].to_vec();
        let mut monitor = Monitor::builder().packets(middle).midstream(midstream).build().unwrap();
        monitor.stream().unwrap();
        assert_eq!(monitor.run().unwrap().counters.flows_created, flows);
    }
    let mut monitor =
        Monitor::builder().packets(packets.clone()).verify_checksums(false).memory_limit(2).build().unwrap();
    monitor.stream().unwrap();
    assert_eq!(monitor.run().unwrap().counters.refused_bytes, 4);
    // Two sockets, one of them the listener: one flow, and no second listener.
    let talks = (0..3).map(|n| {
        let mut talk = Talk::new(4000 + n);
        talk.wait(n as u64 * 2000).handshake();
        talk
    });
    let mut monitor = Monitor::builder().packets(merged(talks)).max_concurrency(2).build().unwrap();
    monitor.stream().unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.flows_evicted, summary.counters.flows_peak), (2, 1));
    monitor.raw().unwrap();
    assert_eq!(monitor.raw().unwrap_err(), Error::TooMany);
    // TIME_WAIT keeps a closed flow.
    for (wait, orphans) in [(Duration::ZERO, 1), (Duration::from_secs(5), 0)] {
        let mut talk = Talk::new(4000);
        talk.handshake().close().send(0, ACK, b"");
        let mut monitor = of(&mut talk).time_wait(wait).build().unwrap();
        monitor.stream().unwrap();
        assert_eq!(monitor.run().unwrap().counters.in_orphan, orphans);
    }
}

#[test]
fn several_captures_and_a_configuration_file() {
    let mut twice = Monitor::builder().capture(DEMO).capture(DEMO).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    twice
        .raw()
        .unwrap()
        .on(Event::PktIn, Hook::Null, move |ev| l.say(ev.packet().unwrap().device()))
        .unwrap();
    assert_eq!(twice.run().unwrap().counters.rx_packets, 2 * 592);
    assert_eq!(log.lines().iter().filter(|l| *l == "1").count() * 2, log.lines().len());

    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust_api.conf");
    std::fs::write(
        &path,
        format!("mos {{\n\tforward = 0\n\tmax_concurrency = 7\n\tnetdev {{\n\t\t{DEMO} 0x1\n\t}}\n}}\n"),
    )
    .unwrap();
    let mut monitor = Monitor::builder().config_file(&path).build().unwrap();
    monitor.stream().unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.rx_packets, summary.counters.drop_config), (592, 592));
    assert!(summary.counters.flows_peak <= 6);
    // What is set beside it wins.
    let mut monitor =
        Monitor::builder().max_concurrency(1000).config_file(&path).capture(DEMO).build().unwrap();
    for _ in 0..20 {
        monitor.stream().unwrap();
    }
    assert_eq!(monitor.run().unwrap().counters.rx_packets, 592);
    std::fs::write(&path, "nonsense").unwrap();
    let e = Monitor::builder().config_file(&path).build().unwrap_err();
    assert!(matches!(&e, Error::Config { reason } if reason.contains("rust_api.conf")), "{e}");
}

/// The example as `cargo run --example http_log` builds it; `cargo test` does.
#[test]
fn the_http_log_of_the_demo_capture() {
    let exe = std::env::current_exe().unwrap();
    let built = exe.ancestors().nth(2).unwrap().join("examples/http_log");
    let mut command = if built.is_file() {
        std::process::Command::new(built)
    } else {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["run", "--quiet", "--example", "http_log", "--"]);
        cargo
    };
    let run = command.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let lines = String::from_utf8(run.stdout).unwrap();
    assert_eq!(lines.lines().count(), 13, "{lines}");
    for path in ["/", "/page.txt", "/data.txt", "/large.txt", "/not-there.html"] {
        let line = format!(" GET http://192.0.2.80:8000{path}");
        assert!(lines.lines().any(|l| l.contains("192.0.2.10:") && l.ends_with(&line)), "{path}: {lines}");
    }
    let refused = command.args(["/nonexistent.pcap"]).output().unwrap();
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("/nonexistent.pcap")
    );
}

#[test]
fn every_error_says_what_to_do() {
    let all = [
        Error::NoSource,
        Error::Option { name: "reassembly", expected: "bytes" },
        Error::Hook { event: Event::NewData, hook: Hook::Snd, expected: "Hook::Null" },
        Error::ForeignEvent,
        Error::AlreadyRegistered { event: Event::NewData, hook: Hook::Null },
        Error::NotRaised,
        Error::NoFlow,
        Error::NoPacket,
        Error::NoBuffer { side: Side::Client },
        Error::Edit { expected: "less" },
        Error::TooMany,
    ];
    for e in all {
        let text = e.to_string();
        assert!(text.contains("expected") || text.contains(": "), "{text}");
    }
    fn fits<T: Send + Sync + std::error::Error>() {}
    fits::<Error>();
    fn sends<T: Send>() {}
    sends::<Monitor>();
    sends::<mos::StopHandle>();
}

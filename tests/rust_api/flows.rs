//! Flows: identity, states, data of one's own, stopping, registration on one flow, user events.

use super::packets::{ACK, RST, SYN, Talk, ipv4, merged};
use super::{Log, of};
use mos::{Ctx, Error, Event, Hook, Monitor, Side, TcpState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn line(ev: &Ctx<'_>) -> String {
    let state = |side| ev.state(side).map_or("-".to_string(), |s| format!("{s:?}"));
    format!(
        "{:?} {:?} {:?} {}/{}",
        ev.event(),
        ev.hook(),
        ev.side(),
        state(Side::Client),
        state(Side::Server)
    )
}

#[test]
fn identity_and_states() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"hi").close();
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let stream = monitor.stream().unwrap();
    for event in [Event::ConnStart, Event::StateChange, Event::ConnEnd] {
        for hook in [Hook::Snd, Hook::Rcv] {
            let log = log.clone();
            stream
                .on(event, hook, move |ev| {
                    assert_eq!(ev.flow().to_string(), "10.0.0.1:4000 -> 10.0.0.2:80");
                    // The end of the flow, its changes of state included, is not about a packet.
                    let closed = ev.state(ev.side()) == Some(TcpState::Closed);
                    assert!(closed || ev.packet().is_some());
                    assert!(ev.event() != Event::ConnEnd || ev.packet().is_none());
                    assert!(format!("{ev:?}").contains("4000"));
                    log.say(line(ev));
                })
                .unwrap();
        }
    }
    let summary = monitor.run().unwrap();
    log.expect(&[
        "ConnStart Snd Client SynSent/-",
        "StateChange Snd Client SynSent/-",
        "ConnStart Rcv Server SynSent/SynRcvd",
        "StateChange Rcv Server SynSent/SynRcvd",
        "StateChange Rcv Client Established/SynRcvd",
        "StateChange Rcv Server Established/Established",
        "StateChange Snd Client FinWait1/Established",
        "StateChange Rcv Server FinWait1/CloseWait",
        "StateChange Snd Server FinWait1/LastAck",
        "StateChange Rcv Client TimeWait/LastAck",
        "StateChange Rcv Server TimeWait/Closed",
        "StateChange Rcv Server TimeWait/Closed",
        "ConnEnd Rcv Server TimeWait/Closed",
        "StateChange Snd Server TimeWait/Closed",
        "ConnEnd Snd Server TimeWait/Closed",
        "StateChange Rcv Client Closed/Closed",
        "ConnEnd Rcv Client Closed/Closed",
        "StateChange Snd Client Closed/Closed",
        "ConnEnd Snd Client Closed/Closed",
    ]);
    assert_eq!((summary.events(Event::ConnStart), summary.events(Event::ConnEnd)), (2, 4));
    assert_eq!((summary.counters.flows_created, summary.counters.flows_now), (1, 0));
}

/// Counts how many there are.
struct Counted(Arc<AtomicUsize>, u32);

impl Counted {
    fn new(live: &Arc<AtomicUsize>, value: u32) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Counted(live.clone(), value)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn data_of_a_flow() {
    let talks = (0..200).map(|n| {
        let mut talk = Talk::new(4000 + n);
        talk.wait(n as u64 * 30).handshake().send(0, ACK, b"x").close();
        talk
    });
    let mut monitor = Monitor::builder().packets(merged(talks)).build().unwrap();
    let (live, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stream = monitor.stream().unwrap();
    let (l, m) = (live.clone(), most.clone());
    stream
        .on(Event::ConnStart, Hook::Snd, move |ev| {
            assert!(ev.data::<Counted>().is_none() && ev.with_data(|_: &mut Counted, _| ()).is_none());
            assert!(ev.set_data(Counted::new(&l, 1)));
            // The first one is replaced.
            assert!(ev.set_data(Counted::new(&l, ev.flow().client.port() as u32)));
            assert!(ev.data::<String>().is_none() && ev.take_data::<String>().is_none());
            assert!(ev.with_data(|_: &mut String, _| ()).is_none());
            assert_eq!(ev.data_ref::<Counted>().unwrap().1, ev.flow().client.port() as u32);
            m.fetch_max(l.load(Ordering::Relaxed), Ordering::Relaxed);
        })
        .unwrap();
    let l = live.clone();
    stream
        .on(Event::PktIn, Hook::Rcv, move |ev| {
            let port = ev.flow().client.port() as u32;
            let seen = ev.with_data(|counted: &mut Counted, ev| {
                assert!(ev.data::<Counted>().is_none(), "taken out meanwhile");
                counted.1 += 1;
                ev.packet().is_some()
            });
            assert_eq!(seen, Some(true));
            assert!(ev.data::<Counted>().unwrap().1 > port);
            // What `with_data`'s closure keeps itself stays.
            let (before, l) = (ev.data_ref::<Counted>().unwrap().1, l.clone());
            ev.with_data(move |_: &mut Counted, ev| ev.set_data(Counted::new(&l, before)));
            let taken = ev.take_data::<Counted>().unwrap();
            assert!(ev.data::<Counted>().is_none());
            ev.set_data(taken);
        })
        .unwrap();
    let ends = Log::default();
    let e = ends.clone();
    stream
        .on(Event::ConnEnd, Hook::Snd, move |ev| {
            let port = ev.flow().client.port() as u32;
            assert_eq!(ev.data::<Counted>().unwrap().1, port + 7);
            e.say(port);
        })
        .unwrap();
    // Another listener's data is its own.
    monitor
        .stream()
        .unwrap()
        .on(Event::PktIn, Hook::Rcv, |ev| assert!(ev.data::<Counted>().is_none()))
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.panics, 0);
    assert_eq!(ends.lines().len(), 400);
    assert!((2..10).contains(&most.load(Ordering::Relaxed)), "dropped as flows end: {most:?}");
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn stopping() {
    for side in [None, Some(Side::Client), Some(Side::Server)] {
        let mut talk = Talk::new(4000);
        talk.handshake().send(0, ACK, b"x").send(1, ACK, b"y").close();
        let mut monitor = of(&mut talk).build().unwrap();
        let log = Log::default();
        let l = log.clone();
        let stream = monitor.stream().unwrap();
        stream
            .on(Event::PktIn, Hook::Snd, move |ev| {
                l.say(format!("{:?}", ev.side()));
                match side {
                    None => ev.stop(),
                    Some(side) => ev.stop_side(side),
                }
            })
            .unwrap();
        let l = log.clone();
        stream.on(Event::ConnEnd, Hook::Snd, move |ev| l.say(format!("end {:?}", ev.side()))).unwrap();
        let summary = monitor.run().unwrap();
        match side {
            None => log.expect(&["Client"]),
            Some(Side::Client) => log.expect(&["Client", "Server", "Server", "Server", "end Server"]),
            // The flow is over when the side that is kept is.
            Some(Side::Server) => log.expect(&["Client", "Client", "Client", "Client", "end Client"]),
        }
        assert_eq!(summary.counters.flows_ended, 1);
    }
}

#[test]
fn sides_that_are_ignored() {
    let mut talk = Talk::new(4000);
    talk.handshake().close();
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    monitor
        .stream()
        .unwrap()
        .ignore(Side::Client)
        .on(Event::PktIn, Hook::Snd, move |ev| l.say(format!("{:?}", ev.side())))
        .unwrap();
    monitor.run().unwrap();
    log.expect(&["Server", "Server"]);
}

#[test]
fn callbacks_of_one_flow() {
    let mut talks = [Talk::new(4000), Talk::new(4001)];
    for (n, talk) in talks.iter_mut().enumerate() {
        talk.wait(n as u64).handshake().send(0, ACK, b"1").send(0, ACK, b"2").send(0, ACK, b"3").close();
    }
    let mut monitor = Monitor::builder().packets(merged(talks)).build().unwrap();
    let live = Arc::new(AtomicUsize::new(0));
    let log = Log::default();
    let stream = monitor.stream().unwrap();
    let (l, alive) = (log.clone(), live.clone());
    stream
        .on(Event::ConnStart, Hook::Snd, move |ev| {
            if ev.flow().client.port() == 4001 {
                return;
            }
            assert_eq!(
                ev.register(Event::Orphan, Hook::Null, |_| ()).unwrap_err(),
                hook_error(Event::Orphan, Hook::Null)
            );
            assert_eq!(
                ev.register(Event::NewData, Hook::Snd, |_| ()).unwrap_err(),
                hook_error(Event::NewData, Hook::Snd)
            );
            let (l, counted) = (l.clone(), Counted::new(&alive, 0));
            ev.register(Event::NewData, Hook::Null, move |ev| {
                let data = String::from_utf8(ev.read_all(Side::Server)).unwrap();
                l.say(format!("{} {data} {}", ev.flow().client.port(), counted.1));
                if data == "2" {
                    assert_eq!(ev.unregister(Event::NewData, Hook::Null), Ok(true));
                    assert_eq!(ev.unregister(Event::NewData, Hook::Null), Ok(false));
                    // A closure in the place of the one that is running.
                    let l = l.clone();
                    ev.register(Event::NewData, Hook::Null, move |ev| {
                        l.say(format!("then {}", ev.unread(Side::Server)))
                    })
                    .unwrap();
                }
            })
            .unwrap();
            let again = ev.register(Event::NewData, Hook::Null, |_| ());
            assert_eq!(again, Err(Error::AlreadyRegistered { event: Event::NewData, hook: Hook::Null }));
        })
        .unwrap();
    let l = log.clone();
    stream
        .on(Event::ConnEnd, Hook::Snd, move |ev| l.say(format!("end {}", ev.flow().client.port())))
        .unwrap()
        .on(Event::PktIn, Hook::Snd, |ev| {
            // The listener's own callback, for this flow only.
            if ev.flow().client.port() == 4000 && ev.side() == Side::Server {
                assert_eq!(ev.unregister(Event::ConnEnd, Hook::Snd), Ok(true));
                assert_eq!(ev.unregister(Event::PktIn, Hook::Snd), Ok(true));
            }
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.panics, 0);
    log.expect(&["4000 1 0", "4000 2 0", "then 1", "end 4001", "end 4001"]);
    assert_eq!(live.load(Ordering::Relaxed), 0, "a flow's closures go with it");
}

fn hook_error(event: Event, hook: Hook) -> Error {
    let expected = match event {
        Event::Orphan => "the Stream: a packet without a flow is reported to listeners (Stream::on)",
        _ => "Hook::Null",
    };
    Error::Hook { event, hook, expected }
}

#[test]
fn user_events() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"GET /").send(1, ACK, b"200").send(0, ACK, b"GET /again").close();
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    let payload = monitor
        .define_event(Event::PktIn, move |ev| {
            l.say(format!("? {:?} {:?}", ev.hook(), ev.side()));
            ev.packet().is_some_and(|p| !p.payload().is_empty())
        })
        .unwrap();
    let get = monitor.define_event(payload, |ev| ev.packet().unwrap().payload().starts_with(b"GET")).unwrap();
    let again = monitor.alloc_event(get).unwrap();
    assert!(matches!(get, Event::User(_)) && get != payload);
    let stream = monitor.stream().unwrap();
    let l = log.clone();
    stream
        .on(get, Hook::Rcv, move |ev| {
            assert_eq!(ev.event(), get);
            l.say(format!("get {:?}", ev.side()));
            if ev.packet().unwrap().payload().ends_with(b"again") {
                ev.raise(again).unwrap();
            }
            assert_eq!(ev.raise(payload), Err(Error::NotRaised));
        })
        .unwrap();
    let l = log.clone();
    stream.on(again, Hook::Rcv, move |ev| l.say(format!("again {:?}", ev.event() == again))).unwrap();
    assert_eq!(
        stream.on(get, Hook::Rcv, |_| ()).unwrap_err(),
        Error::AlreadyRegistered { event: get, hook: Hook::Rcv }
    );
    assert!(matches!(stream.on(get, Hook::Null, |_| ()), Err(Error::Hook { .. })));
    // Another monitor's events mean nothing here.
    let other = Monitor::builder().packets([]).packets(Talk::new(1).handshake().take()).build().unwrap();
    let foreign = other.define_event(Event::PktIn, |_| true).unwrap();
    assert_eq!(stream.on(foreign, Hook::Rcv, |_| ()).unwrap_err(), Error::ForeignEvent);
    assert_eq!(monitor.define_event(foreign, |_| true), Err(Error::ForeignEvent));
    assert_eq!(monitor.alloc_event(foreign), Err(Error::ForeignEvent));
    stream
        .on(Event::ConnStart, Hook::Snd, move |ev| assert_eq!(ev.raise(foreign), Err(Error::ForeignEvent)))
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.panics, 0);
    let asked = |line: &String| line.starts_with('?');
    let lines = log.lines();
    // Only where a callback listens, once a packet: 9 packets, each received once.
    assert_eq!(lines.iter().filter(|l| asked(l)).count(), 9);
    assert!(lines.iter().filter(|l| asked(l)).all(|l| l.starts_with("? Rcv")));
    let told: Vec<_> = lines.into_iter().filter(|l| !asked(l)).collect();
    assert_eq!(told, ["get Server", "get Server", "again true"]);
}

#[test]
fn packets_without_flow() {
    let mut talk = Talk::new(4000);
    talk.handshake().close().raw(0, RST, 5, 0, b"");
    let mut udp = 53u16.to_be_bytes().to_vec();
    udp.extend([0, 99, 0, 12, 0, 0, b'd', b'n', b's', b'!']);
    let mut packets = talk.take();
    packets.push((talk.now, ipv4([10, 0, 0, 7], [10, 0, 0, 8], 17, &udp)));
    let mut stray = Talk::new(4001);
    stray.wait(500).raw(1, ACK, 0, 0, b"x");
    packets.extend(stray.take());
    let mut monitor = Monitor::builder().packets(packets).build().unwrap();
    let log = Log::default();
    let without_flow = |ev: &mut Ctx<'_>| {
        assert_eq!((ev.hook(), ev.side(), ev.state(Side::Client)), (Hook::Null, Side::Client, None));
        assert!(!ev.set_data(1) && ev.data::<i32>().is_none() && ev.fragments(Side::Client).is_empty());
        assert_eq!(ev.peek(Side::Client, &mut [0]), Err(Error::NoFlow));
        assert_eq!(ev.peek_at(Side::Client, 0, &mut [0]), Err(Error::NoFlow));
        assert_eq!(
            (ev.read_into(Side::Client, &mut Vec::new()), ev.reset()),
            (Err(Error::NoFlow), Err(Error::NoFlow))
        );
        assert_eq!(ev.register(Event::PktIn, Hook::Snd, |_| ()), Err(Error::NoFlow));
        assert_eq!(ev.unregister(Event::PktIn, Hook::Snd), Err(Error::NoFlow));
        assert_eq!(ev.set_buffer(Side::Client, 0), Err(Error::NoFlow));
        assert_eq!(ev.set_overlap(Side::Client, mos::Overlap::Last), Err(Error::NoFlow));
        assert!(ev.unread(Side::Client) == 0 && ev.packet().unwrap().stream_offset().is_none());
        ev.stop();
    };
    let l = log.clone();
    let stream = monitor.stream().unwrap();
    stream
        .on(Event::Orphan, Hook::Null, move |ev| {
            without_flow(ev);
            l.say(format!("orphan {}", ev.flow()));
        })
        .unwrap();
    assert!(matches!(stream.on(Event::Orphan, Hook::Rcv, |_| ()), Err(Error::Hook { .. })));
    assert!(matches!(stream.on(Event::PktIn, Hook::Null, |_| ()), Err(Error::Hook { .. })));
    let l = log.clone();
    let few = monitor.stream().unwrap();
    few.orphan_filter("src port 80").unwrap();
    few.on(Event::Orphan, Hook::Null, move |ev| l.say(format!("few {}", ev.flow().client))).unwrap();
    let raw = monitor.raw().unwrap();
    assert!(matches!(raw.on(Event::ConnStart, Hook::Null, |_| ()), Err(Error::Hook { .. })));
    let big = monitor.define_event(Event::PktIn, |ev| ev.packet().unwrap().payload().len() == 12).unwrap();
    let l = log.clone();
    raw.on(big, Hook::Null, move |ev| l.say(format!("raw user {}", ev.flow()))).unwrap();
    let l = log.clone();
    let udp = monitor.raw().unwrap();
    udp.filter("udp").unwrap();
    udp.on(Event::PktIn, Hook::Null, move |ev| {
        without_flow(ev);
        let packet = ev.packet().unwrap();
        assert!(packet.tcp().is_none() && packet.ipv4().unwrap().proto() == 17);
        l.say(format!("udp {} {:?}", ev.flow(), &packet.payload()[8..]));
    })
    .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.panics, 0);
    log.expect(&[
        "orphan 10.0.0.1:4000 -> 10.0.0.2:80",
        "raw user 10.0.0.7:0 -> 10.0.0.8:0",
        "udp 10.0.0.7:0 -> 10.0.0.8:0 [100, 110, 115, 33]",
        "orphan 10.0.0.2:80 -> 10.0.0.1:4001",
        "few 10.0.0.2:80",
    ]);
    assert_eq!(summary.counters.in_orphan, 2);
}

#[test]
fn filters() {
    let mut talk = Talk::new(4000);
    talk.handshake().close();
    let mut monitor = of(&mut talk).build().unwrap();
    let stream = monitor.stream().unwrap();
    for (text, word) in [("udp port 5", "udp"), ("tcp port eighty", "eighty"), ("not tcp", "TCP")] {
        let error = stream.syn_filter(text).unwrap_err();
        assert!(
            matches!(&error, Error::Filter { text: t, .. } if t == text) && error.to_string().contains(word),
            "{error}"
        );
        assert!(stream.orphan_filter(text).is_err());
    }
    assert!(monitor.raw().unwrap().filter("tcp[").is_err());
    let log = Log::default();
    for text in ["tcp dst port 80", "tcp dst port 81", "src host 10.0.0.1"] {
        let l = log.clone();
        let stream = monitor.stream().unwrap();
        stream.syn_filter(text).unwrap().on(Event::ConnStart, Hook::Snd, move |_| l.say(text)).unwrap();
    }
    monitor.run().unwrap();
    log.expect(&["tcp dst port 80", "src host 10.0.0.1"]);
}

#[test]
fn reset() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"bad").send(1, ACK, b"");
    let mut monitor = of(&mut talk).forward_to_memory().build().unwrap();
    monitor.stream().unwrap().on(Event::NewData, Hook::Null, |ev| ev.reset().unwrap()).unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!(summary.counters.sent_packets, 2);
    // Both ends take them: another monitor sees the flow closed by them.
    let forwarded = monitor.take_forwarded();
    assert!(monitor.take_forwarded().is_empty());
    assert_eq!(forwarded.len(), 5 + 2);
    let mut second = Monitor::builder().packets(forwarded).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    second
        .stream()
        .unwrap()
        .on(Event::PktIn, Hook::Snd, move |ev| {
            if ev.packet().unwrap().tcp().unwrap().flags() & RST != 0 {
                l.say(format!("reset by {:?}", ev.side()));
            }
        })
        .unwrap();
    let summary = second.run().unwrap();
    assert_eq!((summary.counters.flows_timed_out, summary.counters.bad_tcp_checksum), (0, 0));
    log.expect(&["reset by Server"]);
}

#[test]
fn timers() {
    let mut talk = Talk::new(4000);
    talk.handshake().wait(2000).send(0, ACK, b"x").wait(2000).close();
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let begin = super::packets::START;
    let l = log.clone();
    // What a timer sets fires at most once a second of a silence: the inner one at the silence's end.
    let mut count = 0;
    monitor
        .timer(Duration::from_millis(1500), move |timer| {
            count += 1;
            l.say(format!(
                "{count} at {} with {}",
                (timer.now() - begin).as_millis(),
                timer.counters().flows_now
            ));
            timer.rearm(Duration::from_millis(1000));
            assert!(format!("{timer:?}").starts_with("TimerCtx"));
            let l = l.clone();
            if count == 1 {
                timer
                    .timer(Duration::from_millis(200), move |t| {
                        l.say(format!("inner at {}", (t.now() - begin).as_millis()))
                    })
                    .unwrap();
            }
        })
        .unwrap();
    monitor.timer(Duration::from_millis(1600), |_| panic!("in a timer")).unwrap();
    let l = log.clone();
    monitor
        .stream()
        .unwrap()
        .on(Event::NewData, Hook::Null, move |ev| {
            let (l, set) = (l.clone(), ev.now());
            ev.timer(Duration::from_millis(700), move |t| {
                l.say(format!("{} ms after", (t.now() - set).as_millis()))
            })
            .unwrap();
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    log.expect(&[
        "1 at 1500 with 1",
        "inner at 2030",
        "2 at 2500 with 1",
        "700 ms after",
        "3 at 3500 with 1",
    ]);
    assert_eq!(summary.counters.panics, 1);
}

#[test]
fn a_syn_alone_expires() {
    let mut talk = Talk::new(4000);
    talk.send(0, SYN, b"");
    for (timeout, ended) in
        [(Some(Duration::from_millis(2500)), 2500), (Some(Duration::from_secs(9)), 9000), (None, 0)]
    {
        let packets = talk.packets.clone();
        let mut monitor = Monitor::builder().packets(packets).idle_timeout(timeout).build().unwrap();
        let log = Log::default();
        let l = log.clone();
        let stream = monitor.stream().unwrap();
        stream
            .on(Event::ConnEnd, Hook::Snd, move |ev| l.say((ev.now() - super::packets::START).as_millis()))
            .unwrap();
        let summary = monitor.run().unwrap();
        log.expect(&[&ended.to_string(), &ended.to_string()]);
        assert_eq!(summary.counters.flows_timed_out, u64::from(timeout.is_some()));
    }
}

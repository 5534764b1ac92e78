//! Streams: peek, holes, fragments, buffers, overlaps.

use super::packets::{ACK, Talk};
use super::{Log, of};
use mos::{Error, Event, Hook, Overlap, Peek, Side};

#[test]
fn reading() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"hello ").send(0, ACK, b"world").send(1, ACK, b"ok").close();
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    let stream = monitor.stream().unwrap();
    stream
        .on(Event::NewData, Hook::Null, move |ev| {
            assert!(ev.packet().is_none());
            let side = ev.side();
            let mut buf = [0; 4];
            let mut all = Vec::new();
            assert_eq!(ev.peek(side, &mut []), Ok(Peek::Empty));
            loop {
                let unread = ev.unread(side);
                match ev.peek(side, &mut buf).unwrap() {
                    Peek::Bytes(n) => all.extend(&buf[..n]),
                    other => break assert_eq!((other, unread), (Peek::Empty, 0)),
                }
            }
            l.say(format!("{side:?} {}", String::from_utf8(all).unwrap()));
        })
        .unwrap();
    let l = log.clone();
    stream
        .on(Event::ConnEnd, Hook::Rcv, move |ev| {
            // What was read can still be read at its offset.
            let mut buf = [0; 64];
            let n = ev.peek_at(ev.side(), 1, &mut buf).unwrap();
            let kept = ev.fragments(ev.side());
            l.say(format!("{:?} {} {kept:?}", ev.side(), String::from_utf8_lossy(&buf[..n])));
            assert_eq!(
                (ev.peek_at(ev.side(), 100, &mut buf), ev.peek_at(ev.side(), 0, &mut [])),
                (Ok(0), Ok(0))
            );
        })
        .unwrap();
    stream
        .on(Event::ConnStart, Hook::Snd, |ev| {
            // The server's side is not there yet.
            assert_eq!(ev.peek(Side::Server, &mut [0]), Ok(Peek::Empty));
            assert_eq!((ev.peek_at(Side::Server, 0, &mut [0]), ev.fragments(Side::Server)), (Ok(0), vec![]));
            assert_eq!(
                ev.set_overlap(Side::Client, Overlap::Last),
                Err(Error::NoBuffer { side: Side::Client })
            );
        })
        .unwrap();
    assert_eq!(monitor.run().unwrap().counters.panics, 0);
    log.expect(&[
        "Server hello ",
        "Server world",
        "Client ok",
        "Server ello world [0..11]",
        "Client k [0..2]",
    ]);
}

#[test]
fn out_of_order_and_lost() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"ab").raw(0, ACK, 4, 0, b"ef").raw(0, ACK, 2, 0, b"cd");
    // "gh" is never seen, and acknowledged.
    talk.raw(0, ACK, 8, 0, b"ij").raw(1, ACK, 0, 10, b"").wait(100).raw(0, ACK, 10, 0, b"kl");
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let stream = monitor.stream().unwrap();
    let l = log.clone();
    stream
        .on(Event::PktIn, Hook::Rcv, move |ev| {
            if ev.side() == Side::Server && ev.fragments(Side::Server).len() > 1 {
                let mut buf = [0; 8];
                let out_of_order = ev.fragments(Side::Server)[1].clone();
                let n = ev.peek_at(Side::Server, out_of_order.start, &mut buf).unwrap();
                l.say(format!("{out_of_order:?} {}", String::from_utf8_lossy(&buf[..n])));
            }
        })
        .unwrap();
    let l = log.clone();
    stream.on(Event::Error, Hook::Null, move |ev| l.say(format!("lost at {:?}", ev.side()))).unwrap();
    let l = log.clone();
    let exact = stream.on(Event::NewData, Hook::Null, move |ev| {
        let mut buf = [0; 64];
        loop {
            match ev.peek(Side::Server, &mut buf).unwrap() {
                Peek::Bytes(n) => l.say(String::from_utf8_lossy(&buf[..n])),
                Peek::Missing(n) => l.say(format!("missing {n}")),
                Peek::Empty => break,
            }
        }
    });
    exact.unwrap();
    // A second reader, who does not care.
    let all = Log::default();
    let a = all.clone();
    let second = monitor.stream().unwrap();
    second
        .on(Event::ConnEnd, Hook::Rcv, move |ev| {
            let mut bytes = b">".to_vec();
            let missing = ev.read_into(Side::Server, &mut bytes).unwrap();
            a.say(format!("{} {missing} {:?}", String::from_utf8(bytes).unwrap(), ev.read_all(Side::Server)));
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.missing_bytes, summary.counters.panics), (2, 0));
    let lines = log.lines();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(lines[..4], ["ab", "4..6 ef", "cdef", "8..10 ij"]);
    // The hole stays a hole for who has not read on: the second reader.
    assert_eq!(lines[4..], ["lost at Server", "missing 2", "ij", "8..12 ijkl", "kl"]);
    all.expect(&[">abcdefijkl 2 []", "> 0 []"]);
}

#[test]
fn a_small_buffer_loses_nothing_for_a_reader() {
    let mut talk = Talk::new(4000);
    talk.handshake();
    let sent: Vec<u8> = (0..40_000u32).map(|n| (n * 7 + n / 256) as u8).collect();
    for piece in sent.chunks(1400) {
        talk.send(0, ACK, piece);
    }
    for bytes in [1, 3000, 1 << 20] {
        let mut monitor =
            mos::Monitor::builder().packets(talk.packets.clone()).reassembly(bytes).build().unwrap();
        let got = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let g = got.clone();
        let stream = monitor.stream().unwrap();
        stream
            .on(Event::NewData, Hook::Null, move |ev| {
                assert_eq!(ev.read_into(Side::Server, &mut g.lock().unwrap()), Ok(0));
            })
            .unwrap();
        let summary = monitor.run().unwrap();
        assert_eq!(summary.counters.panics, 0);
        assert!(*got.lock().unwrap() == sent, "reassembly({bytes})");
    }
}

#[test]
fn buffers() {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"ab").send(0, ACK, b"cd").send(1, ACK, b"ef");
    let mut monitor = of(&mut talk).build().unwrap();
    let log = Log::default();
    let l = log.clone();
    let stream = monitor.stream().unwrap();
    stream
        .buffer(Side::Client, 0)
        .on(Event::NewData, Hook::Null, move |ev| {
            l.say(format!("{:?}", ev.side()));
            ev.set_buffer(Side::Server, 0).unwrap();
            let nothing = Err(Error::NoBuffer { side: Side::Server });
            assert_eq!(ev.peek(Side::Server, &mut [0]), nothing);
            assert_eq!(ev.peek_at(Side::Server, 0, &mut [0]).map(|_| Peek::Empty), nothing);
            assert!(ev.read_all(Side::Server).is_empty());
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    log.expect(&["Server"]);
    assert_eq!((summary.counters.panics, summary.counters.stream_bytes), (0, 6));
}

#[test]
fn overlaps() {
    for (overlap, expected) in [(Overlap::First, "abcdefgh"), (Overlap::Last, "abXXXXgh")] {
        let mut talk = Talk::new(4000);
        talk.handshake().send(0, ACK, b"abcdef").raw(0, ACK, 2, 0, b"XXXX").raw(0, ACK, 6, 0, b"gh");
        let mut monitor = of(&mut talk).build().unwrap();
        let log = Log::default();
        let stream = monitor.stream().unwrap();
        stream
            .on(Event::NewData, Hook::Null, move |ev| ev.set_overlap(Side::Server, overlap).unwrap())
            .unwrap();
        let l = log.clone();
        stream
            .on(Event::Rexmit, Hook::Rcv, move |ev| {
                l.say(format!("again at {:?}", ev.packet().unwrap().stream_offset()));
            })
            .unwrap();
        let l = log.clone();
        stream
            .on(Event::ConnEnd, Hook::Snd, move |ev| {
                if ev.side() == Side::Server {
                    l.say(String::from_utf8(ev.read_all(Side::Server)).unwrap());
                }
            })
            .unwrap();
        monitor.run().unwrap();
        log.expect(&["again at Some(2)", expected]);
    }
}

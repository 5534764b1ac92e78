//! The packet in process: its view, edits, drop, what is forwarded.

use super::packets::{ACK, CLIENT, ISS, SERVER, START, Talk};
use super::{DEMO, Log, of};
use mos::{Area, Checksums, Error, Event, Hook, Monitor, Side};
use std::time::Duration;

fn talk() -> Talk {
    let mut talk = Talk::new(4000);
    talk.handshake().send(0, ACK, b"secret word").send(1, ACK, b"answer");
    talk
}

#[test]
fn view() {
    let mut monitor = of(&mut talk()).build().unwrap();
    monitor
        .stream()
        .unwrap()
        .on(Event::PktIn, Hook::Snd, |ev| {
            let p = ev.packet().unwrap();
            if p.payload() != b"answer" {
                return;
            }
            assert_eq!(
                (p.time(), ev.now()),
                (START + Duration::from_millis(40), START + Duration::from_millis(40))
            );
            assert_eq!((p.frame().len(), p.wire_len(), p.device()), (14 + 40 + 6, 14 + 40 + 6, 0));
            let eth = p.ethernet().unwrap();
            assert_eq!((eth.src(), eth.ethertype()), ([2, 0, 0, 0, 0, 1], 0x800));
            let ip = p.ipv4().unwrap();
            assert_eq!((ip.src().octets(), ip.dst().octets(), ip.ttl()), (SERVER, CLIENT, 64));
            let tcp = p.tcp().unwrap();
            assert_eq!((tcp.sport(), tcp.dport(), tcp.flags()), (80, 4000, ACK));
            assert_eq!((tcp.seq(), tcp.ack()), (ISS[1] + 1, ISS[0] + 1 + 11));
            assert_eq!((p.stream_offset(), tcp.payload()), (Some(0), &b"answer"[..]));
            assert_eq!(p.source().to_string(), "10.0.0.2:80");
            assert_eq!(p.destination().to_string(), "10.0.0.1:4000");
            assert_eq!(format!("{p:?}"), "PacketView(10.0.0.2:80 -> 10.0.0.1:4000, 60 bytes)");
            // Several views at once, and data beside them.
            assert_eq!((ev.packet().unwrap().frame().len(), ev.data_ref::<u8>()), (p.frame().len(), None));
        })
        .unwrap();
    let summary = monitor.run().unwrap();
    assert_eq!((summary.counters.panics, summary.counters.in_flow), (0, 5));
}

/// Runs `change` on the client's data packet; returns what is forwarded of it, and what the server received.
fn changed(
    hook: Hook,
    change: impl FnMut(&mut mos::Ctx<'_>) + Send + 'static,
) -> (Option<Vec<u8>>, Vec<u8>, mos::Summary) {
    let mut change = change;
    let mut monitor = of(&mut talk()).forward_to_memory().build().unwrap();
    let stream = monitor.stream().unwrap();
    let received = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    stream
        .on(Event::PktIn, hook, move |ev| {
            if ev.packet().unwrap().payload().starts_with(b"secret") {
                change(ev);
            }
        })
        .unwrap();
    let r = received.clone();
    stream
        .on(Event::NewData, Hook::Null, move |ev| {
            r.lock().unwrap().extend(ev.read_all(Side::Server));
            assert_eq!(ev.edit(Area::Ip, 0, b"", Checksums::Keep), Err(Error::NoPacket));
            assert_eq!(ev.drop_packet(), Err(Error::NoPacket));
        })
        .unwrap();
    let first = monitor.run().unwrap();
    assert_eq!(first.counters.panics, 0);
    let forwarded = monitor.take_forwarded();
    assert!(forwarded.iter().all(|(at, _)| *at >= START));
    let data: Vec<_> =
        forwarded.iter().map(|(_, f)| f.clone()).filter(|f| f.len() > 54 && f[34] != 0).collect();
    let payload = data.iter().find(|f| f[34..36] == 4000u16.to_be_bytes()).map(|f| f[54..].to_vec());
    // What was forwarded is judged by another monitor, which verifies checksums.
    let mut second = Monitor::builder().packets(forwarded).build().unwrap();
    second.stream().unwrap();
    let summary = second.run().unwrap();
    let got = received.lock().unwrap().clone();
    (payload, got, summary)
}

#[test]
fn edits() {
    let secret = || b"secret word".to_vec();
    let (sent, received, after) = changed(Hook::Snd, |ev| {
        ev.edit(Area::Payload, 0, b"public", Checksums::Update).unwrap();
        assert_eq!(ev.packet().unwrap().payload(), b"public word");
    });
    assert_eq!((sent, received), (Some(b"public word".to_vec()), b"public word".to_vec()));
    assert_eq!((after.counters.bad_tcp_checksum, after.counters.bad_ip_checksum), (0, 0));

    // After the receiver's side only what is forwarded changes.
    let (sent, received, _) = changed(Hook::Rcv, |ev| {
        ev.edit(Area::Payload, 7, b"WORD", Checksums::Update).unwrap();
    });
    assert_eq!((sent, received), (Some(b"secret WORD".to_vec()), secret()));

    let (sent, received, after) = changed(Hook::Snd, |ev| {
        ev.insert(Area::Payload, 6, b"ive", Checksums::Update).unwrap();
        ev.chomp(Area::Payload, 0, 2, Checksums::Update).unwrap();
        assert_eq!(ev.packet().unwrap().payload(), b"cretive word");
        ev.edit(Area::Ip, 8, &[7], Checksums::Update).unwrap();
        ev.edit(Area::Ethernet, 0, &[9; 6], Checksums::Update).unwrap();
        ev.edit(Area::Tcp, 14, &[1, 0], Checksums::Update).unwrap();
        let p = ev.packet().unwrap();
        assert_eq!((p.ipv4().unwrap().ttl(), p.tcp().unwrap().window()), (7, 256));
        assert_eq!(p.ethernet().unwrap().dst(), [9; 6]);
    });
    assert_eq!((sent, received), (Some(b"cretive word".to_vec()), b"cretive word".to_vec()));
    assert_eq!((after.counters.bad_tcp_checksum, after.counters.bad_ip_checksum), (0, 0));

    let (_, _, after) = changed(Hook::Snd, |ev| ev.edit(Area::Payload, 0, b"S", Checksums::Keep).unwrap());
    assert_eq!(after.counters.bad_tcp_checksum, 1);
    let (_, _, after) = changed(Hook::Snd, |ev| ev.edit(Area::Ip, 8, &[1], Checksums::Keep).unwrap());
    assert_eq!(after.counters.bad_ip_checksum, 1);
}

#[test]
fn edits_that_do_not_fit() {
    let (sent, received, _) = changed(Hook::Snd, |ev| {
        for (area, offset, len) in
            [(Area::Payload, 11, 1), (Area::Payload, 12, 0), (Area::Tcp, 20, 1), (Area::Ethernet, 9, 6)]
        {
            let error = ev.edit(area, offset, &vec![0; len], Checksums::Update);
            assert!(matches!(error, Err(Error::Edit { .. })), "{area:?} {offset} {len}: {error:?}");
        }
        assert!(matches!(ev.chomp(Area::Payload, 5, 7, Checksums::Update), Err(Error::Edit { .. })));
        assert!(matches!(ev.chomp(Area::Tcp, 0, 4, Checksums::Update), Err(Error::Edit { .. })));
        assert!(matches!(ev.insert(Area::Ethernet, 0, b"x", Checksums::Update), Err(Error::Edit { .. })));
        assert!(matches!(
            ev.insert(Area::Payload, 0, &[0; 65535], Checksums::Update),
            Err(Error::Edit { .. })
        ));
        assert!(matches!(
            ev.edit(Area::Payload, usize::MAX, b"x", Checksums::Update),
            Err(Error::Edit { .. })
        ));
    });
    assert_eq!((sent, received), (Some(b"secret word".to_vec()), b"secret word".to_vec()));
}

#[test]
fn dropped() {
    let (sent, received, _) = changed(Hook::Snd, |ev| ev.drop_packet().unwrap());
    assert_eq!((sent, received), (None, b"secret word".to_vec()));
}

#[test]
fn forwarded_to_a_file() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust_api_forwarded.pcap");
    let log = Log::default();
    for (input, output) in [(DEMO, &path), (path.to_str().unwrap(), &path.with_extension("again.pcap"))] {
        let mut monitor = Monitor::builder().capture(input).forward_to(output).build().unwrap();
        monitor.stream().unwrap();
        let summary = monitor.run().unwrap();
        let c = summary.counters;
        assert!(c.forwarded > 500 && c.drop_no_route == 0 && c.drop_tx == 0);
        log.say(format!("{} {} {} {}", c.forwarded, c.flows_created, c.stream_bytes, c.missing_bytes));
        assert!(monitor.take_forwarded().is_empty());
    }
    let lines = log.lines();
    assert_eq!(lines[0], lines[1], "what was forwarded is what came");
    let same = Monitor::builder().capture(&path).forward_to(&path).build();
    assert!(matches!(same, Err(Error::Output { .. })), "{same:?}");
    assert!(Monitor::open(&path).is_ok(), "the capture is still there");
    let nowhere = Monitor::builder().capture(DEMO).forward_to("/nonexistent/out.pcap").build();
    assert!(matches!(nowhere, Err(Error::Output { .. })));
}

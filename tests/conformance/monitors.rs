//! §10.4: several monitors, filters, RAW, orphan.

use crate::calls::STREAM;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;

#[test]
fn c88_order_of_two_monitors() {
    let mut lab = Lab::new();
    lab.listen();
    lab.packet(syn()).gives(
        "A{ sc.PKT sc.START sc.ST } B{ sc.PKT sc.START sc.ST } | A{ rv.PKT rv.START rv.ST } B{ rv.PKT rv.START rv.ST }",
    );
    lab.packet(syn_ack()).gives("B:sv.PKT A:sv.PKT | B{ rc.PKT rc.ST } A{ rc.PKT rc.ST }");
    lab.feed([ack()]);
    lab.packet(data(0, "x")).gives("A:sc.PKT B:sc.PKT | A:rv.PKT B:rv.PKT | A:nv.NEW B:nv.NEW");
    lab.packet(reply(0, "x")).gives("B:sv.PKT A:sv.PKT | B:rc.PKT A:rc.PKT | B:nc.NEW A:nc.NEW");
    lab.packet(s(R, 1)).gives(
        "B{ sv.PKT sv.ST } A{ sv.PKT sv.ST } | B{ rc.PKT rc.ST } A{ rc.PKT rc.ST } | \
         A{ rc.ST rc.END sc.ST sc.END } B{ rc.ST rc.END sc.ST sc.END } \
         A{ rv.ST rv.END sv.ST sv.END } B{ rv.ST rv.END sv.ST sv.END }",
    );
}

#[test]
fn c89_packets_without_flow() {
    let mut lab = Lab::bare(|_| {});
    let (a, b) = (lab.listen(), lab.listen());
    lab.on("nb.ORPH", move |c| {
        if c.sock == a {
            "a"
        } else if c.sock == b {
            "b"
        } else {
            "?"
        }
    });
    for packet in [data(0, "x"), syn_ack(), c(F | A, 0), c(R, 0)] {
        lab.packet(packet).gives("A:nb.ORPH=a B:nb.ORPH=b");
        assert_eq!(lab.sent(), 1);
    }
    assert_eq!(lab.api.connections(), 0);
}

#[test]
fn c90_syn_filter() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    assert_eq!(lab.api.bind(listener, Some("dst port 80"), None), (0, 0));
    lab.packet(syn()).gives("SYN1");
    for packet in [syn(), syn_ack(), ack(), data(0, "x")] {
        lab.packet(packet.server_port(81)).gives("nb.ORPH");
    }
    // Later packets of the flow are never filtered.
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.ST");
}

#[test]
fn c91_orphan_filter() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    assert_eq!(lab.api.bind(listener, None, Some("dst port 99")), (0, 0));
    lab.packet(ack()).gives("");
    lab.packet(ack().server_port(99)).gives("nb.ORPH");
    assert_eq!(lab.sent(), 2);
}

#[test]
fn c92_syn_filter_of_each_listener() {
    let mut lab = Lab::bare(|_| {});
    for filter in ["dst port 80", "dst port 81"] {
        let listener = lab.listen();
        assert_eq!(lab.api.bind(listener, Some(filter), None), (0, 0));
    }
    lab.packet(syn()).gives("A{ SYN1 }");
    lab.packet(syn().server_port(81)).gives("B{ SYN1 }");
    lab.packet(syn().server_port(82)).gives("A:nb.ORPH B:nb.ORPH");
}

#[test]
fn c93_filter_texts() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    let accepted = [
        "tcp",
        "tcp port 80",
        "tcp and dst net 10.0.1 and dst port 80",
        "src or dst port 80",
        "not port 80",
        "port http",
        "net 10.0.0.0/24",
        "portrange 80-90",
        "host 10.0.1.1",
        "tcp[13]=2",
        "",
        "  dst   port  80 ",
    ];
    let refused = [
        "udp",
        "ip host 1.2.3.4",
        "src 1.2.3.4",
        "(port 80)",
        "port 80 && port 81",
        "port 80 || port 81",
        "port 80 | port 443",
        "not tcp",
        "!tcp",
        "port",
        "tcp port",
        "port notaservice",
        "tcp[13] = 2",
    ];
    for text in accepted {
        assert_eq!(lab.api.bind(listener, Some(text), None), (0, 0), "SYN filter {text:?}");
        assert_eq!(lab.api.bind(listener, None, Some(text)), (0, 0), "orphan filter {text:?}");
    }
    for text in refused {
        assert_eq!(lab.api.bind(listener, Some(text), None), (-1, libc::EINVAL), "SYN filter {text:?}");
        assert_eq!(lab.api.bind(listener, None, Some(text)), (-1, libc::EINVAL), "orphan filter {text:?}");
    }
    // A RAW socket takes any expression; a good SYN filter stays when the orphan filter is refused.
    let raw = lab.listen_raw();
    assert_eq!(lab.api.bind(raw, Some("udp && (port 53 || ip6)"), None), (0, 0));
    assert_eq!(lab.api.bind(raw, Some("not an expression"), None), (-1, libc::EINVAL));
    assert_eq!(lab.api.bind(listener, Some("dst port 81"), Some("udp")), (-1, libc::EINVAL));
    lab.packet(syn().server_port(81)).gives("A{ SYN1 }");
    assert_eq!(lab.api.bind_null(listener), (0, 0));
    assert_eq!(lab.api.bind(lab.sock(), Some("tcp"), None), (-1, libc::ENOPROTOOPT));
    assert_eq!(lab.api.bind(-1, Some("tcp"), None), (-1, libc::EBADF));
}

/// What a RAW callback sees: `tcp` or `-`.
fn view(c: &Call) -> &'static str {
    match c.api.lastpkt(c.sock) {
        Ok(p) if p.tcp => "tcp",
        Ok(_) => "-",
        Err(_) => "error",
    }
}

#[test]
fn c94_raw_alone() {
    let mut lab = Lab::bare(|_| {});
    lab.listen_raw();
    lab.on("nb.PKT", view);
    lab.packet(syn()).gives("nb.PKT=tcp");
    lab.packet(udp()).gives("nb.PKT=-");
    assert_eq!(lab.sent(), 2);
}

#[test]
fn c95_raw_alone_with_a_filter() {
    let mut lab = Lab::bare(|_| {});
    let raw = lab.listen_raw();
    assert_eq!(lab.api.bind(raw, Some("ip"), None), (0, 0));
    lab.on("nb.PKT", view);
    lab.packet(syn()).gives("nb.PKT=tcp");
    lab.packet(udp()).gives("nb.PKT=-");
    assert_eq!(lab.api.bind(raw, Some("udp"), None), (0, 0));
    lab.packet(syn()).gives("");
    lab.packet(udp()).gives("nb.PKT=-");
    assert_eq!(lab.sent(), 4);
}

#[test]
fn c96_raw_and_stream() {
    let mut lab = Lab::new();
    let raw = lab.listen_raw();
    assert_eq!(lab.api.bind(raw, Some("ip"), None), (0, 0));
    lab.on("nb.PKT", view);
    lab.packet(syn()).gives("B:nb.PKT=tcp A{ SYN1 }");
}

#[test]
fn c97_raw_and_stream_udp() {
    let mut lab = Lab::new();
    lab.listen_raw();
    lab.packet(udp()).gives("B:nb.PKT");
    assert_eq!(lab.sent(), 1);
}

#[test]
fn c98_raw_and_orphans() {
    let mut lab = Lab::new();
    let raw = lab.socket(MOS_SOCK_MONITOR_RAW);
    lab.register(raw, MOS_ON_ORPHAN, MOS_NULL);
    lab.listen();
    lab.packet(ack()).gives("A:nb.ORPH B:nb.ORPH C:nb.ORPH");
}

/// Rights the IP header checksum after an edit.
fn right_ip(f: &mut [u8]) {
    f[24..26].fill(0);
    let ihl = (f[14] & 15) as usize * 4;
    let mut sum: u32 = f[14..14 + ihl].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    f[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn c99_odd_frames() {
    let total = |len: u8| {
        move |f: &mut Vec<u8>| {
            f[17] = len;
            right_ip(f);
        }
    };
    let version = |f: &mut Vec<u8>| {
        f[14] = 0x65;
        right_ip(f);
    };
    let cases = [
        ("bad IP checksum", syn().bent(|f| f[25] ^= 1), false),
        ("bad TCP checksum", syn().bent(|f| f[51] ^= 1), true),
        ("version 6 in an IPv4 frame", syn().bent(version), false),
        ("tot_len 10", syn().bent(total(10)), false),
        ("tot_len 30", syn().bent(total(30)), false),
        ("VLAN", ethernet(0x8100, 60), true),
        ("ARP", ethernet(0x0806, 28), true),
        ("IPv6", ethernet(0x86dd, 60), true),
        ("UDP", udp(), true),
        ("ICMP", icmp(), true),
    ];
    let mut lab = Lab::new();
    for (what, frame, forwarded) in cases {
        let tokens = lab.packet(frame.clone()).tokens();
        assert!(tokens.is_empty(), "{what}: {tokens:?}");
        let expected = if forwarded { vec![frame.bytes] } else { Vec::new() };
        assert_eq!(lab.to_server(), expected, "{what}");
    }
}

#[test]
fn c100_padding_stays_behind() {
    let mut lab = Lab::new();
    lab.packet(syn().bent(|f| f.resize(60, 0))).gives("SYN1");
    assert_eq!(lab.to_server(), [syn().bytes()]);
    assert_eq!(syn().bytes().len(), 54);
}

#[test]
fn c101_ip_options() {
    let mut lab = Lab::new();
    lab.packet(syn().ip_options(&[1, 1, 1, 1])).gives("SYN1");
    assert_eq!(lab.sent(), 1);
}

#[test]
fn c89_without_listener_nothing_is_an_orphan() {
    let mut lab = Lab::bare(|_| {});
    lab.packet(ack()).gives("");
    let listener = lab.socket(STREAM);
    lab.packet(ack()).gives("");
    lab.register(listener, MOS_ON_ORPHAN, MOS_NULL);
    lab.packet(ack()).gives("nb.ORPH");
    assert_eq!(lab.sent(), 3);
}

//! Decisions D12 to D20, X3 and X5 beyond the cases of §10: malformed packets, limits, ends, what is off unless asked for.

use crate::calls::*;
use crate::decisions::read_all;
use crate::lab::*;
use crate::packets::*;
use mos::capi::abi::*;

#[test]
fn d12_lengths_are_checked_before_any_callback() {
    let mut lab = Lab::new();
    lab.listen_raw();
    let malformed = [
        ("no Ethernet header", syn().bent(|f| f.truncate(13))),
        ("no IP header", syn().bent(|f| f.truncate(20))),
        ("ihl below 5", syn().bent(|f| f[14] = 0x44)),
        ("ihl beyond the packet", syn().bent(|f| f[14] = 0x4f)),
        ("tot_len beyond the frame", syn().bent(|f| f[17] = 200)),
        (
            "TCP header cut",
            syn().bent(|f| {
                f[17] = 30;
                f.truncate(44);
            }),
        ),
        ("doff below 5", syn().bent(|f| f[46] = 0x40)),
        ("doff beyond the packet", syn().bent(|f| f[46] = 0xf0)),
        ("empty", syn().bent(Vec::clear)),
    ];
    for (what, frame) in malformed {
        let tokens = lab.packet(frame).tokens();
        assert!(tokens.is_empty(), "{what}: {tokens:?}");
        assert_eq!(lab.sent(), 0, "{what}");
    }
    let stats = lab.stats();
    assert_eq!(stats.bad_eth + stats.bad_ip_len + stats.bad_tcp_len, 9, "each is counted");
    lab.packet(syn()).gives("B:nb.PKT A{ SYN1 }");
}

#[test]
fn d12_fragments_are_not_parsed_as_tcp() {
    let mut lab = Lab::established();
    lab.sent();
    let fragment = |p: Packet, field: [u8; 2]| {
        p.bent(|f| {
            f[20..22].copy_from_slice(&field);
            fill_checksums(f);
        })
    };
    for field in [[0x20, 0], [0, 1], [0x20, 1]] {
        lab.packet(fragment(data(0, bytes(16)), field)).gives("");
        assert_eq!(lab.sent(), 1, "forwarded");
    }
    assert_eq!(lab.stats().in_fragment, 3);
}

#[test]
fn d12_options_always_advance() {
    let broken: [&[u8]; 8] = [
        &[8, 0, 0, 0],
        &[8, 1, 0, 0],
        &[3, 0, 0, 0],
        &[2, 40, 0, 0],
        &[8, 10, 0, 0],
        &[99, 1, 99, 1],
        &[1, 1, 1, 8],
        &[3, 2, 3, 3],
    ];
    for (n, options) in broken.into_iter().enumerate() {
        let mut lab = Lab::new();
        lab.packet(syn().options(options)).gives("SYN1");
        lab.packet(syn_ack().options(options)).gives("sv.PKT | rc.PKT rc.ST");
        assert_eq!(lab.sent(), 2, "options {n}");
    }
}

/// `max` ids, one of them the listener's.
fn few_ids(max: i32) -> Lab {
    Lab::with(|mos| mos.max_concurrency = max)
}

#[test]
fn d13_new_syn_evicts_the_oldest_half_open_flow() {
    let mut lab = few_ids(4);
    lab.handshake_from(1);
    lab.at(2000).feed([syn().port(2)]);
    let oldest = lab.sock();
    lab.at(4000).feed([syn().port(3)]);
    lab.on(".END", move |c| {
        assert_eq!(c.sock, oldest);
        c.api.lastpkt(c.sock).map_or_else(name_of, |_| "packet".into())
    });
    lab.on("sc.PKT", |c| c.api.lastpkt(c.sock).map_or_else(name_of, |p| p.frame[35].to_string()));
    lab.at(10_000).packet(syn().port(4)).gives(
        "rc.ST rc.END=EACCES sc.ST sc.END=EACCES rv.ST rv.END=EACCES sv.ST sv.END=EACCES \
         sc.PKT=4 sc.START sc.ST rv.PKT rv.START rv.ST",
    );
    assert_eq!((lab.api.connections(), lab.stats().flows_evicted), (3, 1));
    lab.packet(syn_ack().port(2)).gives("nb.ORPH");
}

#[test]
fn d13_else_the_one_idle_longest() {
    let mut lab = few_ids(4);
    lab.handshake_from(1);
    lab.at(3000).handshake_from(2);
    let idlest = lab.sock();
    lab.at(6000).handshake_from(3);
    lab.at(9000).feed([data(0, "x").port(1)]);
    lab.on(".END", move |c| (c.sock == idlest).to_string());
    let step = lab.at(20_000).packet(syn().port(4)).only(|t| t.contains("END") || t.contains("START"));
    step.gives("rc.END=true sc.END=true rv.END=true sv.END=true sc.START rv.START");
}

#[test]
fn d13_a_flow_of_the_last_second_stays() {
    let mut lab = few_ids(2);
    lab.handshake_from(1);
    lab.at(999).packet(syn().port(2)).gives("nb.ORPH");
    assert_eq!((lab.api.connections(), lab.stats().flows_refused), (1, 1));
    let step = lab.at(2000).packet(syn().port(2)).only(|t| t.contains("END") || t.contains("START"));
    step.gives("rc.END sc.END rv.END sv.END sc.START rv.START");
}

#[test]
fn d13_a_flow_uses_an_id_per_listener() {
    let mut lab = Lab::with(|mos| mos.max_concurrency = 6);
    lab.listen();
    lab.feed([syn().port(1), syn().port(2)]);
    assert_eq!(lab.api.connections(), 2);
    lab.packet(syn().port(3)).gives("A:nb.ORPH B:nb.ORPH");
    lab.at(5000)
        .packet(syn().port(3))
        .only(|t| t.contains("START"))
        .gives("A:sc.START B:sc.START A:rv.START B:rv.START");
    assert_eq!(lab.api.connections(), 2);
}

#[test]
fn d13_mtcp_socket_evicts_likewise() {
    let mut lab = few_ids(3);
    lab.feed([syn().port(1), syn().port(2)]);
    // In a callback there is no eviction.
    lab.on("rv.PKT", |c| said(c.api.socket(STREAM)));
    let full = format!("rv.PKT=-1/errno{}", libc::ENFILE);
    lab.packet(syn().port(1)).only(|t| t.starts_with("rv.PKT")).gives(&full);
    lab.no_handlers();
    let api = lab.api;
    let _ = lab.until(5000);
    let other = std::thread::spawn(move || api.socket(STREAM));
    let mut ended = 0;
    for _ in 0..2000 {
        ended += lab.until(5000).tokens().iter().filter(|t| t.ends_with("END")).count();
        if other.is_finished() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let (sock, errno) = other.join().expect("the application thread");
    assert!((0..3).contains(&sock), "{sock}, errno {errno}");
    assert_eq!((ended, lab.api.connections()), (4, 1));
}

#[test]
fn d16_both_addresses_are_kept() {
    let mut lab = Lab::new();
    lab.packet(syn()).gives("SYN1");
    assert_eq!(lab.to_server()[0][..12], syn().bytes()[..12]);
    lab.on("sv.PKT", |c| said(c.api.setlastpkt(c.sock, 0, &[7; 12], MOS_OVERWRITE | MOS_ETH_HDR)));
    lab.packet(syn_ack()).gives("sv.PKT=0 | rc.PKT rc.ST");
    assert_eq!(lab.to_client()[0][..12], [7; 12], "as the packet has them after edits");
}

#[test]
fn d18_all_flows_get_their_end() {
    let mut lab = Lab::new();
    lab.handshake_from(1);
    lab.feed([syn().port(2), data(0, "x").port(1)]);
    let tokens = lab.end_all().tokens();
    assert_eq!(tokens.iter().filter(|t| t.ends_with("END")).count(), 8, "{tokens:?}");
    assert_eq!(lab.api.connections(), 0);
}

#[test]
fn d18_closing_a_listener_is_for_later_flows() {
    let mut lab = Lab::bare(|_| {});
    let listener = lab.listen();
    lab.feed([syn()]);
    assert_eq!(lab.api.close(listener), (0, 0));
    lab.packet(syn_ack()).gives("sv.PKT | rc.PKT rc.ST");
    lab.packet(syn().port(2)).gives("");
    assert_eq!(lab.api.close(listener), (-1, libc::EBADF));
    lab.packet(c(R, 0)).gives("sc.PKT sc.ST | rv.PKT rv.ST | KILL(v,c)");
}

#[test]
fn d20_mtcp_reset_conn() {
    let mut lab = Lab::established();
    lab.feed([data(0, "HELLO"), reply(0, "abc").acks(5)]);
    lab.sent();
    lab.once("rv.PKT", |c| said(c.api.reset(c.sock)));
    lab.packet(data(5, "WORLD").acks(3)).only(|t| t.starts_with("rv")).gives("rv.PKT=0");
    let resets = |frames: Vec<Vec<u8>>| -> Vec<Seen> {
        frames.iter().map(|f| seen(f)).filter(|p| p.flags & R != 0).collect()
    };
    let (to_server, to_client) = (resets(lab.to_server()), resets(lab.to_client()));
    assert_eq!((to_server.len(), to_client.len()), (1, 1), "one RST to each end");
    assert_eq!((to_server[0].src, to_server[0].dst), (CLIENT, SERVER));
    assert_eq!((to_client[0].src, to_client[0].dst), (SERVER, CLIENT));
    assert!(
        [CLIENT_ISN + 1 + 5, CLIENT_ISN + 1 + 10].contains(&to_server[0].seq),
        "the number the server expects: {}",
        to_server[0].seq
    );
    assert_eq!(to_client[0].seq, SERVER_ISN + 1 + 3);
}

#[test]
fn d20_no_resets_of_our_own_accord() {
    let mut lab = Lab::new();
    for packet in [data(0, "x"), syn_ack(), c(F | A, 0)] {
        lab.packet(packet).gives("nb.ORPH");
    }
    assert_eq!(lab.sent(), 3, "the packets themselves, nothing else");
    let mut lab = Lab::bare(|_| {});
    lab.feed([syn()]);
    assert_eq!(lab.sent(), 1);
}

#[test]
fn x3_flows_seen_in_the_middle() {
    let mut lab = Lab::with(|mos| mos.midstream = true);
    lab.on(".NEW", read_all);
    let tokens = lab.packet(data(100, "HELLO")).tokens();
    assert!(tokens.contains(&"nv.NEW=HELLO".to_owned()), "{tokens:?}");
    assert!(!tokens.iter().any(|t| t.contains("ORPH")), "{tokens:?}");
    lab.packet(reply(0, "WORLD").acks(105)).gives("sv.PKT | rc.PKT | nc.NEW=WORLD");
    assert_eq!(lab.states(), "ESTABLISHED/ESTABLISHED");
    lab.packet(s(R, 5)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
}

#[test]
fn x3_what_opens_nothing() {
    let mut lab = Lab::with(|mos| mos.midstream = true);
    for flags in [R, R | A, S | F, S | R, S | F | A] {
        lab.packet(c(flags, 0)).gives("nb.ORPH");
    }
}

#[test]
fn x5_checksums_are_not_verified_on_request() {
    let bad = || syn().bent(|f| f[51] ^= 1);
    Lab::new().packet(bad()).gives("");
    Lab::with(|mos| mos.verify_checksums = false).packet(bad()).gives("SYN1");
}

#[test]
fn x5_memory_limit() {
    let mut lab = Lab::established_with(|mos| {
        mos.rmem_size = 1 << 20;
        mos.memory_limit = Some(64 << 10);
    });
    for n in 0..200 {
        lab.feed([data(n * 1000, bytes(1000))]);
    }
    let held = lab.ask(|api| api.fragments_of(lab.sock(), 1)).2[0];
    assert!(held.1 > 0 && held.1 <= 64 << 10, "{held:?}");
    assert!(lab.stats().no_memory > 0);
    // Everything else goes on.
    lab.packet(s(R, 0)).gives("sv.PKT sv.ST | rc.PKT rc.ST | KILL(c,v)");
}

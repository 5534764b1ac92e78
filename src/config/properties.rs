//! Properties of the configuration parser: what is written reads back, and nothing makes it panic.

use super::tests::warnings;
use super::*;
use proptest::prelude::*;
use std::fmt::Write;

/// A file that says what `config` says.
fn rendered(config: &Config) -> String {
    let mut out = String::new();
    write_file(&mut out, config).unwrap();
    out
}

fn write_file(out: &mut String, config: &Config) -> std::fmt::Result {
    for app in &config.apps {
        let run = app.run.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(" ");
        writeln!(out, "application {{\n run = {run}\n cpu_mask = {:#x}", app.cpu_mask)?;
        writeln!(out, " type = {}\n ip_forward = {}\n}}", app.kind, i32::from(app.ip_forward))?;
    }
    let mos = &config.mos;
    writeln!(out, "mos {{\n forward = {}", i32::from(mos.forward))?;
    writeln!(out, " nb_mem_channels = {}\n max_concurrency = {}", mos.nb_mem_channels, mos.max_concurrency)?;
    writeln!(out, " rmem_size = {}\n wmem_size = {:#x}", mos.rmem_size, mos.wmem_size)?;
    writeln!(out, " tcp_tw_interval = {}\n tcp_timeout = {}", mos.tcp_tw_interval, mos.tcp_timeout)?;
    writeln!(out, " mos_log = {}\n stat_print = {}", mos.mos_log, mos.stat_print.join(" "))?;
    writeln!(out, " midstream = {} # yes or no", i32::from(mos.midstream))?;
    writeln!(out, " verify_checksums = {}", i32::from(mos.verify_checksums))?;
    writeln!(out, " memory_limit = {}", mos.memory_limit.unwrap_or(0))?;
    writeln!(out, " netdev {{")?;
    for d in &mos.netdevs {
        write!(out, "  {} {:#x}", d.name, d.mask)?;
        if let Some((addr, prefix)) = d.addr {
            write!(out, " {addr}/{prefix}")?;
        }
        if let Some(mac) = d.mac {
            write!(out, " {}", mac.map(|b| format!("{b:x}")).join(":"))?;
        }
        writeln!(out)?;
    }
    writeln!(out, " }}\n arp_table {{")?;
    for a in &mos.arp {
        writeln!(out, "  {}/{} {}", a.addr, a.prefix, a.mac.map(|b| format!("{b:02X}")).join(":"))?;
    }
    writeln!(out, " }}\n route_table {{")?;
    for r in &mos.routes {
        let gateway = r.gateway.map(|g| format!(" via {g}")).unwrap_or_default();
        writeln!(out, "  {}/{} {}{gateway}", r.addr, r.prefix, r.device)?;
    }
    writeln!(out, " }}\n nic_forward_table {{")?;
    for (a, b) in &mos.forward_pairs {
        writeln!(out, "  {a} {b}")?;
    }
    writeln!(out, " }}\n dpdk {{\n eal = \"{}\"\n }}\n}}", mos.dpdk_eal)
}

fn any_app() -> impl Strategy<Value = Application> {
    ("[a-z]{1,8}", prop::collection::vec("[a-z =./\"-]{0,8}", 1..6), any::<u64>(), any::<bool>()).prop_map(
        |(kind, run, cpu_mask, ip_forward)| {
            // Words are rendered in single quotes, inside which double ones still toggle.
            let run = run.into_iter().map(|w| w.replace('"', "")).collect();
            Application { kind, run, cpu_mask, ip_forward }
        },
    )
}

fn any_netdev() -> impl Strategy<Value = NetDev> {
    let addr = prop::option::of((any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, p)| (a.into(), p)));
    ("[a-z0-9_.:/-]{1,20}", 1u64.., addr, any::<Option<[u8; 6]>>())
        .prop_map(|(name, mask, addr, mac)| NetDev { name, mask, addr, mac })
}

fn any_mos() -> impl Strategy<Value = Mos> {
    let net = || (any::<[u8; 4]>(), 0u8..=32).prop_map(|(a, p)| (value::network(a.into(), p), p));
    let arp = (net(), any::<[u8; 6]>()).prop_map(|((addr, prefix), mac)| ArpEntry { addr, prefix, mac });
    let route =
        (net(), any::<Option<[u8; 4]>>(), "[a-z0-9.-]{1,9}").prop_map(|((addr, prefix), gateway, device)| {
            Route { addr, prefix, gateway: gateway.map(Into::into), device }
        });
    let numbers = (any::<i32>(), 1i32.., 1i32..=1 << 20, 4i32..=1 << 28, 0..=MAX_SECONDS, -1..=MAX_SECONDS);
    let flags = any::<[bool; 3]>();
    let lists = (
        prop::collection::vec(any_netdev(), 1..6),
        prop::collection::vec(arp, 0..4),
        prop::collection::vec(route, 0..4),
    );
    let texts = ("[a-z/.]{1,12}", prop::collection::vec("[a-z0-9]{1,6}", 1..4), "[a-z =-]{0,10}[a-z]");
    (numbers, flags, lists, texts, 1u64..).prop_map(|(numbers, flags, lists, texts, limit)| {
        let (mut netdevs, arp, routes) = lists;
        netdevs.sort_by(|a, b| a.name.cmp(&b.name));
        netdevs.dedup_by(|a, b| a.name == b.name);
        let forward_pairs = netdevs.chunks_exact(2).map(|d| (d[0].name.clone(), d[1].name.clone())).collect();
        Mos {
            nb_mem_channels: numbers.0,
            max_concurrency: numbers.1,
            rmem_size: numbers.2 * 1024,
            wmem_size: numbers.3 * 4,
            tcp_tw_interval: numbers.4,
            tcp_timeout: numbers.5,
            forward: flags[0],
            midstream: flags[1],
            verify_checksums: flags[2],
            cpu_mask: netdevs.iter().fold(0, |all, d| all | d.mask),
            netdevs,
            arp,
            routes,
            forward_pairs,
            mos_log: texts.0,
            stat_print: texts.1,
            dpdk_eal: texts.2,
            memory_limit: Some(limit),
            ..Mos::default()
        }
    })
}

proptest! {
    #[test]
    fn a_rendered_configuration_reads_back(apps in prop::collection::vec(any_app(), 0..4), mos in any_mos()) {
        let mut config = Config { apps, mos };
        let text = rendered(&config);
        config.mos.forward &= config.apps.iter().all(|a| a.ip_forward);
        let loaded = Config::parse(&text, "t").map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(warnings(&loaded), [""; 0], "{}", text);
        prop_assert_eq!(loaded.config, config);
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        check_any(&bytes);
    }

    #[test]
    fn random_tokens_never_panic(text in "(mos|netdev|application|dpdk|\\{|\\}|=|\n| |#|'|\"|0x|1|/|run|lo|é|\\.){0,60}") {
        check_any(text.as_bytes());
    }

    #[test]
    fn mutated_files_never_panic(mos in any_mos(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..8)) {
        let mut bytes = rendered(&Config { apps: vec![], mos }).into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        check_any(&bytes);
    }
}

/// What holds for every text: it is accepted with sound values, or refused with a reason.
fn check_any(bytes: &[u8]) {
    match Config::parse(bytes, "t") {
        Ok(loaded) => {
            let mos = &loaded.config.mos;
            assert!(mos.max_concurrency > 0 && mos.rmem_size > 0 && mos.rmem_size % 1024 == 0);
            assert!(mos.wmem_size >= 16 && mos.wmem_size % 4 == 0);
            assert!(loaded.config.apps.iter().all(|a| !a.run.is_empty()));
            assert!(!loaded.config.dump().is_empty());
        }
        Err(error) => assert!(!error.errors().is_empty() && error.to_string().starts_with("t:")),
    }
}

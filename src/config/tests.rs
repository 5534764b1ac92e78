//! The rules of endpoint-io §2 that are kept, those that are changed (D14, D15, D22), and the error texts.

use super::*;
use std::fmt::Write;

/// A file with `mos` as the body of its `mos` block, which starts on line 2.
fn file_of(mos: &str) -> String {
    format!("mos {{\n{mos}\n netdev {{\n lo 1\n }}\n}}\n")
}

fn loaded(text: &str) -> Loaded {
    match Config::parse(text, "t.conf") {
        Ok(loaded) => loaded,
        Err(e) => panic!("{e}\n{text}"),
    }
}

pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// The `mos` block of `file_of(mos)`, which must draw no warning.
fn quiet(mos: &str) -> Mos {
    let loaded = loaded(&file_of(mos));
    assert_eq!(warnings(&loaded), [""; 0], "{mos}");
    loaded.config.mos
}

/// The `mos` block and the one warning of `file_of(mos)`.
fn warned(mos: &str) -> (Mos, String) {
    let loaded = loaded(&file_of(mos));
    assert_eq!(loaded.warnings.len(), 1, "{mos}: {:?}", loaded.warnings);
    let warning = warnings(&loaded).remove(0);
    (loaded.config.mos, warning)
}

/// Checks that a line draws `message` and changes nothing.
fn ignored(line: &str, message: &str) {
    let (mos, warning) = warned(line);
    assert_eq!(warning, format!("t.conf:2: {message}"));
    assert_eq!(mos, quiet(""), "{line}");
}

fn failed(text: &str) -> String {
    match Config::parse(text, "t.conf") {
        Ok(_) => panic!("accepted: {text}"),
        Err(e) => e.to_string(),
    }
}

fn names(mos: &Mos) -> Vec<(&str, u64)> {
    mos.netdevs.iter().map(|d| (d.name.as_str(), d.mask)).collect()
}

// Whole files.

#[test]
fn shipped_files_parse_without_a_warning() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut checked = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "conf") {
            let loaded = Config::load(&path).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(warnings(&loaded), [""; 0]);
            loaded.validate().unwrap();
            assert!(!loaded.config.mos.netdevs.is_empty(), "{}", path.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 6);
}

#[test]
fn a_file_as_the_original_ships_it() {
    let text = "# templates write it so\n\
        ######################\n\
        application {\n\ttype = monitor\t\t\t# (end/monitor)\n\trun = bin/nat -c 1 'a b'\n\
        \tcore_mask = 0x00FF\n\tip_forward = 1\n}\n\
        mos {\n\tforward = 1\n\n\tnb_mem_channels=4\n\tmax_concurrency = 010\n\trmem_size = 0x4000\n\
        \ttcp_tw_interval = 30\n\ttcp_timeout = -1\n\tno_ring_buffers = 1\n\tmos_log = logs/ \n\
        \tstat_print = dpdk0  dpdk1\n\tmultiprocess = 1 master\n\
        \tnetdev {\n\t\tdpdk0 0x00FF\n\t\tdpdk1 0xFF00\n\t}\n\
        \tarp_table {\n\t\t10.0.0.9/32 A0:36:9f:0:1:02\n\t}\n\
        \troute_table {\n\t\t10.0.1.7/24 dpdk1\n\t}\n\
        \tnic_forward_table {\n\t\tdpdk0 dpdk1\n\t}\n}\n";
    let loaded = loaded(text);
    assert_eq!(
        warnings(&loaded),
        [
            "t.conf:6: `core_mask` has no effect: the key is `cpu_mask`",
            "t.conf:20: `multiprocess` has no effect: one process serves all cores",
        ]
    );
    let app = &loaded.config.apps[0];
    assert_eq!(app.kind, "monitor");
    assert_eq!(app.run, ["bin/nat", "-c", "1", "a b"]);
    assert_eq!((app.cpu_mask, app.ip_forward), (u64::MAX, true));
    let mos = &loaded.config.mos;
    assert_eq!((mos.nb_mem_channels, mos.max_concurrency, mos.rmem_size), (4, 8, 16384));
    assert_eq!((mos.tcp_tw_interval, mos.tcp_timeout, mos.no_ring_buffers), (30, -1, true));
    assert_eq!((mos.mos_log.as_str(), mos.stat_print.join(",")), ("logs/", "dpdk0,dpdk1".into()));
    assert_eq!(names(mos), [("dpdk0", 0xFF), ("dpdk1", 0xFF00)]);
    assert_eq!((mos.cpu_mask, loaded.config.num_cores()), (0xFFFF, 16));
    let arp = ArpEntry { addr: [10, 0, 0, 9].into(), prefix: 32, mac: [0xA0, 0x36, 0x9F, 0, 1, 2] };
    assert_eq!(mos.arp, [arp]);
    let route = Route { addr: [10, 0, 1, 0].into(), prefix: 24, gateway: None, device: "dpdk1".into() };
    assert_eq!(mos.routes, [route]);
    assert_eq!(mos.forward_pairs, [("dpdk0".into(), "dpdk1".into())]);
    // The same with the line ends of another system.
    let crlf = loaded_crlf(text);
    assert_eq!(crlf, loaded.config);
}

fn loaded_crlf(text: &str) -> Config {
    loaded(&text.replace('\n', "\r\n")).config
}

#[test]
fn defaults_where_a_file_says_nothing() {
    let config = loaded("mos { netdev { lo 0x2 } }").config;
    let netdevs = vec![NetDev { name: "lo".into(), mask: 2, addr: None, mac: None }];
    assert_eq!(config, Config { apps: vec![], mos: Mos { netdevs, cpu_mask: 2, ..Mos::default() } });
    assert_eq!(config.num_cores(), 2, "context ids are core ids (D14)");
}

#[test]
fn d15_one_line_blocks_and_text_before_the_closing_brace() {
    let config =
        loaded("application { run = x } mos { forward = 0 netdev { eth0.100 0x3 } rmem_size = 4096 }").config;
    assert_eq!(config.apps[0].run, ["x"]);
    assert_eq!((config.mos.forward, config.mos.rmem_size), (false, 4096));
    assert_eq!(names(&config.mos), [("eth0.100", 3)]);
}

#[test]
fn d15_last_line_without_newline_and_comment_in_it() {
    assert!(!loaded("mos {\n netdev {\n lo 1\n }\n forward = 0 }# }").config.mos.forward);
}

#[test]
fn a_nul_byte_ends_the_text_and_a_byte_order_mark_is_skipped() {
    let text = "\u{feff}mos { netdev { lo 1 } }\n\0 garbage }}}\nmos {";
    assert_eq!(warnings(&loaded(text)), [""; 0]);
}

#[test]
fn text_outside_blocks_and_unknown_blocks_have_no_effect() {
    let text =
        "forward = 0\nfoo {\n forward = 0\n}\nnetdev { eth0 8 }\nmos { netdev { lo 1 } }\n}\napplication {\n";
    let loaded = loaded(text);
    assert_eq!(
        warnings(&loaded),
        [
            "t.conf:1: `forward = 0` stands outside any block: no effect",
            "t.conf:2: expected `application` or `mos`, found block `foo`: no effect",
            "t.conf:5: expected `application` or `mos`, found block `netdev`: no effect",
            "t.conf:7: `}` closes no block",
            "t.conf:8: block `application` has no closing `}`: it has no effect",
        ]
    );
    assert!(loaded.config.mos.forward && loaded.config.apps.is_empty());
    assert_eq!(loaded.config.mos.cpu_mask, 1);
}

#[test]
fn text_that_is_not_utf8_is_a_malformed_line_only_outside_comments() {
    let loaded =
        Config::parse(b"mos { # caf\xe9\n mos_log = \xe9\n netdev { lo 1\n \xff 2\n } }", "t").unwrap();
    let expected = "expected UTF-8 text: the line has no effect";
    assert_eq!(warnings(&loaded), [format!("t:2: {expected}"), format!("t:4: {expected}")]);
    assert_eq!(names(&loaded.config.mos), [("lo", 1)]);
}

// Errors.

#[test]
fn a_file_without_a_mos_block_is_an_error() {
    assert_eq!(failed(""), "t.conf:1: expected a block `mos { … }`, found none in the file");
    assert_eq!(
        failed("application {\n run = x\n}\n"),
        "t.conf:4: expected a block `mos { … }`, found none in the file"
    );
    assert_eq!(
        failed("mos {\n netdev {\n lo 1\n\n}\n"),
        "t.conf:1: block `mos` has no closing `}`, and no block `mos { … }` was found"
    );
}

#[test]
fn d15_an_application_without_run_is_an_error_with_its_line() {
    let message = "expected `run = program [words]` in block `application`, found no program to run";
    let mos = "mos { netdev { lo 1 } }";
    assert_eq!(failed(&format!("\napplication {{\n type = end\n}}\n{mos}")), format!("t.conf:2: {message}"));
    assert_eq!(failed(&format!("{mos}\napplication {{ run = }}")), format!("t.conf:2: {message}"));
    // All errors at once, and the warning that explains one.
    let error = Config::parse("application {\n runn = x\n}\n", "t.conf").unwrap_err();
    assert_eq!(error.errors().len(), 2);
    assert_eq!(error.to_string().lines().next(), Some(&*format!("t.conf:1: {message}")));
    assert_eq!(
        error.warnings()[0].to_string(),
        "t.conf:2: unknown key `runn` in block `application`: no effect"
    );
}

#[test]
fn no_netdev_block_is_an_error_unless_devices_come_from_elsewhere() {
    let mut loaded = loaded("\nmos {\n forward = 1\n}\n");
    assert_eq!(
        loaded.validate().unwrap_err().to_string(),
        "t.conf:2: expected a block `netdev { device mask }` in block `mos` (or devices in MOS_NETDEV), found none"
    );
    loaded.config.apply_netdev_env(" ").unwrap();
    assert!(loaded.validate().is_err());
    loaded.config.apply_netdev_env("a.pcap").unwrap();
    loaded.validate().unwrap();
}

#[test]
fn an_empty_netdev_block_means_no_devices() {
    let loaded = loaded("mos {\n netdev {\n }\n}");
    loaded.validate().unwrap();
    assert_eq!(warnings(&loaded), ["t.conf:2: expected lines `device mask` in block `netdev`: no devices"]);
}

#[test]
fn unreadable_files_are_named_with_the_reason() {
    let error = Config::load(Path::new("/nonexistent/mos.conf")).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/mos.conf: cannot open the configuration file: No such file"),
        "{error}"
    );
    let error = Config::load(Path::new("/")).unwrap_err().to_string();
    assert!(error.starts_with("/: cannot read the configuration file: "), "{error}");
    let error = Config::load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("at most 4194304 bytes"), "{error}");
}

// Keys and values.

#[test]
fn keys_are_matched_whole() {
    for key in ["rmem_size_y", "rmem_sizeX", "rmem", "RMEM_SIZE", "rmem_size x"] {
        ignored(&format!("{key} = 16384"), &format!("unknown key `{key}` in block `mos`: no effect"));
    }
}

#[test]
fn malformed_lines_have_no_effect() {
    let shape = "expected `key = value` or a block, found";
    ignored("rmem_size 16384", &format!("{shape} `rmem_size 16384`: the line has no effect"));
    ignored("rmem_size =", "expected a value after `rmem_size =`: the line has no effect");
    ignored("= 3", "unknown key `` in block `mos`: no effect");
    ignored("port = eth0", "`port` has no effect");
    for value in ["slave", "1 master", "0"] {
        let notice = "`multiprocess` has no effect: one process serves all cores";
        ignored(&format!("multiprocess = {value}"), notice);
    }
}

#[test]
fn lines_of_an_unknown_nested_block_have_no_effect() {
    let expected =
        "expected `netdev`, `arp_table`, `route_table`, `nic_forward_table` or `dpdk`, found block";
    for name in ["foo", "two words", "", "rmem ="] {
        ignored(
            &format!("{name} {{\n rmem_size = 4096\n netdev {{ eth9 8 }}\n}}"),
            &format!("{expected} `{name}`: no effect"),
        );
    }
}

#[test]
fn numbers_as_scanf_reads_them_and_the_last_assignment_wins() {
    assert_eq!(quiet("max_concurrency = 010").max_concurrency, 8);
    assert_eq!(quiet("max_concurrency=0x10\nmax_concurrency\t=\t+20").max_concurrency, 20);
    assert_eq!(quiet("nb_mem_channels = -3").nb_mem_channels, -3);
    let (mos, warning) = warned("tcp_timeout = 7 seconds");
    assert_eq!(
        (mos.tcp_timeout, warning.as_str()),
        (7, "t.conf:2: `seconds` at the end of the line is ignored")
    );
}

#[test]
fn numbers_that_are_none_keep_what_was_set() {
    for value in ["abc", "2147483648", "-", "99999999999999999999"] {
        ignored(
            &format!("max_concurrency = {value}"),
            &format!(
                "expected an integer of 32 bits for `max_concurrency`, found `{value}`: the line has no effect"
            ),
        );
    }
    let range = "expected a number from 1 to 2147483647 for `max_concurrency`, found";
    ignored("max_concurrency = 0", &format!("{range} `0`: the line has no effect"));
    ignored("max_concurrency = -5", &format!("{range} `-5`: the line has no effect"));
    assert_eq!(warned("tcp_timeout = 9\ntcp_timeout = x").0.tcp_timeout, 9);
}

#[test]
fn d15_buffer_sizes_are_rounded_up() {
    assert_eq!(quiet("rmem_size = 262144").rmem_size, 262_144);
    let (mos, warning) = warned("rmem_size = 1500");
    assert_eq!(
        (mos.rmem_size, warning.as_str()),
        (2048, "t.conf:2: `rmem_size` of 1500 bytes is taken as 2048")
    );
    assert_eq!(warned("rmem_size = -1").0.rmem_size, 1024);
    assert_eq!(warned("rmem_size = 2147483647").0.rmem_size, 1 << 30);
    assert_eq!(warned("wmem_size = 3").0.wmem_size, 16);
    assert_eq!(warned("wmem_size = 8193").0.wmem_size, 8196);
}

#[test]
fn times_fit_into_milliseconds() {
    assert_eq!(quiet("tcp_timeout = 0").tcp_timeout, 0);
    assert_eq!(quiet("tcp_timeout = 2147483").tcp_timeout, MAX_SECONDS);
    assert_eq!(warned("tcp_timeout = 2147484").0.tcp_timeout, MAX_SECONDS);
    assert_eq!(quiet("tcp_timeout = -2147483648").tcp_timeout, -MAX_SECONDS);
    assert_eq!(warned("tcp_tw_interval = -1").0.tcp_tw_interval, 0);
    assert!(MAX_SECONDS.checked_mul(1000).is_some());
}

#[test]
fn forward_is_an_and_over_all_applications() {
    let forward = |mos, a, b| {
        let app = |v| format!("application {{ run = x\n ip_forward = {v}\n }}\n");
        loaded(&format!("{}mos {{ forward = {mos}\n netdev {{ lo 1 }} }}\n{}", app(a), app(b)))
            .config
            .mos
            .forward
    };
    assert!(forward(1, 2, -1));
    assert!(!forward(0, 1, 1) && !forward(1, 0, 1) && !forward(1, 1, 0));
}

#[test]
fn the_eleventh_application_is_an_unknown_block() {
    let apps = "application { run = x }\n".repeat(10);
    let text = format!("{apps}application {{ ip_forward = 0 }}\nmos {{ netdev {{ lo 1 }} }}");
    let loaded = loaded(&text);
    assert_eq!(loaded.config.apps.len(), 10);
    assert!(loaded.config.mos.forward);
    assert_eq!(
        warnings(&loaded),
        ["t.conf:11: expected at most 10 blocks `application`: this one has no effect"]
    );
}

#[test]
fn application_keys() {
    let text = "application {\n type = end\n run = a\n cpu_mask = 0xffffffffffffffff\n cpu_mask = 0x6\n foo = 1\n \
        cpu_mask = x\n bar {\n type = x\n }\n}\nmos { netdev { lo 1 } }";
    let loaded = loaded(text);
    assert!(loaded.config.has_endpoint());
    assert_eq!(loaded.config.apps[0].cpu_mask, 6);
    assert_eq!(
        warnings(&loaded),
        [
            "t.conf:6: unknown key `foo` in block `application`: no effect",
            "t.conf:7: expected a core mask for `cpu_mask`, found `x`: the line has no effect",
            "t.conf:8: expected `key = value`, found block `bar`: no effect",
        ]
    );
}

#[test]
fn run_keeps_at_most_twenty_words() {
    let run =
        |n: usize| loaded(&format!("application {{ run = {} }} mos {{ netdev {{ lo 1 }} }}", "w ".repeat(n)));
    assert_eq!((run(20).config.apps[0].run.len(), run(20).warnings.len()), (20, 0));
    assert_eq!((run(21).config.apps[0].run.len(), run(21).warnings.len()), (20, 1));
}

#[test]
fn keys_beyond_the_reference() {
    let mos = quiet(
        "io = file\nmidstream = 1\nverify_checksums = 0\nmemory_limit = 2G\nrss = fair\n\
         dpdk {\n eal = \"--no-huge --vdev='a b'\"\n clock = packet\n}",
    );
    assert_eq!((mos.io, mos.midstream, mos.verify_checksums), (Some(IoKind::File), true, false));
    assert_eq!((mos.memory_limit, mos.rss_fair), (Some(2 << 30), true));
    assert_eq!((mos.dpdk_eal.as_str(), mos.dpdk_clock_packet), ("--no-huge --vdev='a b'", true));
    assert_eq!(quiet("memory_limit = 5\nmemory_limit = 0").memory_limit, None);
    assert_eq!(quiet("dpdk {\n eal = -n 4 \"x y\"\n}").dpdk_eal, "-n 4 \"x y\"");
    assert_eq!(quiet("dpdk {\n eal = \"x y\" \"z\"\n}").dpdk_eal, "\"x y\" \"z\"");
    assert_eq!(quiet("rss = fair\nrss = default\nio = pcap\nio = dpdk").io, Some(IoKind::Dpdk));
    ignored("io = tap", "expected `file`, `pcap` or `dpdk` for `io`, found `tap`: the line has no effect");
    ignored("rss = even", "expected `fair` or `default` for `rss`, found `even`: the line has no effect");
    ignored(
        "memory_limit = 1T",
        "expected a number of bytes such as `512M` (suffix K, M or G) for `memory_limit`, found `1T`: the line has no effect",
    );
    ignored(
        "dpdk { clock = sun }",
        "expected `packet` or `system` for `clock`, found `sun`: the line has no effect",
    );
    ignored("dpdk { lcores = 1 }", "unknown key `lcores` in block `dpdk`: no effect");
}

// Nested blocks.

/// The `mos` block and warnings of a file whose `netdev` block has these lines, from line 2 on.
fn netdev(lines: &str) -> (Mos, Vec<String>) {
    let loaded = loaded(&format!("mos {{ netdev {{\n{lines}\n}}\n}}"));
    let warnings = warnings(&loaded);
    (loaded.config.mos, warnings)
}

#[test]
fn d15_device_names_and_d22_addresses() {
    let (mos, warnings) = netdev(
        "veth-a 1\n0000:03:00.0 0x2\n/tmp/a_b.pcap.gz 010\neth0.100 -1\n\
         dpdk0 0x1 10.0.0.1/24 02:00:00:00:00:01\ndpdk1 1 10.0.1.1/16\ndpdk2 1 02:00:00:00:00:03",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        names(&mos)[..4],
        [("veth-a", 1), ("0000:03:00.0", 2), ("/tmp/a_b.pcap.gz", 8), ("eth0.100", u64::MAX)]
    );
    assert_eq!(mos.netdevs[4].addr, Some(([10, 0, 0, 1].into(), 24)));
    assert_eq!(mos.netdevs[4].mac, Some([2, 0, 0, 0, 0, 1]));
    assert_eq!((mos.netdevs[5].addr, mos.netdevs[5].mac), (Some(([10, 0, 1, 1].into(), 16)), None));
    assert_eq!((mos.netdevs[6].addr, mos.netdevs[6].mac), (None, Some([2, 0, 0, 0, 0, 3])));
    assert_eq!(mos.cpu_mask, u64::MAX);
}

#[test]
fn odd_device_lines_are_warned_about() {
    let (mos, warnings) = netdev(
        "lo\neth0 x\na b c\nzero 0\nwide 0x10000000000000001\njunk 0x3; more\nbad 1 10.0.0.300/8\nlo 1\nlo 6\nfoo {\nx 1\n}",
    );
    assert_eq!(
        names(&mos),
        [("zero", 0), ("wide", 1), ("junk", 3), ("bad", 1), ("lo", 7)],
        "what can be read has its effect, as before"
    );
    let bad = "expected an address `a.b.c.d/prefix` or `hh:hh:hh:hh:hh:hh` after the core mask, found";
    assert_eq!(
        warnings,
        [
            "t.conf:2: expected `device mask`, found no core mask: the line has no effect",
            "t.conf:3: expected a core mask, found `x`: the line has no effect",
            "t.conf:4: expected a core mask, found `b`: the line has no effect",
            "t.conf:5: no core serves `zero`: its mask is 0",
            "t.conf:6: `0x10000000000000001` names a core beyond 63: ignored",
            "t.conf:7: `;` after the core mask is ignored",
            &format!("t.conf:7: {bad} `more`: ignored"),
            &format!("t.conf:8: {bad} `10.0.0.300/8`: ignored"),
            "t.conf:10: device `lo` is listed twice: only its cores are added",
            "t.conf:11: expected lines, found block `foo`: no effect",
        ]
    );
}

#[test]
fn the_last_netdev_block_wins_and_the_masks_of_all_count() {
    let loaded = loaded("mos {\n netdev {\n a 0x1\n }\n netdev {\n b 0x8\n }\n}");
    assert_eq!(names(&loaded.config.mos), [("b", 8)]);
    assert_eq!(loaded.config.mos.cpu_mask, 9);
    assert_eq!(
        warnings(&loaded),
        ["t.conf:5: this block `netdev` replaces the devices of the one in line 2; their cores stay"]
    );
}

#[test]
fn second_blocks_of_the_other_kinds_have_no_effect() {
    let text = "mos { netdev { lo 1 }\n route_table {\n 10.0.0.0/8 lo\n }\n route_table {\n 11.0.0.0/8 lo\n }\n}\n\
        mos { forward = 0 }";
    let loaded = loaded(text);
    assert_eq!(loaded.config.mos.routes.len(), 1);
    assert!(loaded.config.mos.forward);
    assert_eq!(
        warnings(&loaded),
        [
            "t.conf:5: a second block `route_table` has no effect",
            "t.conf:9: a second block `mos` has no effect"
        ]
    );
}

#[test]
fn there_is_a_limit_to_devices() {
    let mut lines = String::new();
    for i in 0..=MAX_DEVICES {
        writeln!(lines, "d{i} 1").unwrap();
    }
    let (mos, warnings) = netdev(&lines);
    assert_eq!(mos.netdevs.len(), MAX_DEVICES);
    assert_eq!(warnings, ["t.conf:258: expected at most 256 devices: the line has no effect"]);
    let env: String = (0..=MAX_DEVICES).map(|i| format!("d{i};")).collect();
    let mut config = Config { apps: vec![], mos };
    assert!(config.apply_netdev_env(&env).unwrap_err().to_string().contains("at most 256 devices"));
}

#[test]
fn arp_lines() {
    let mos = quiet("arp_table {\n 10.0.0.1/32 1:2:3:4:5:FF\n 10.9.8.7/8 0a:0b:0c:0d:0e:0f\n}");
    assert_eq!(mos.arp[0], ArpEntry { addr: [10, 0, 0, 1].into(), prefix: 32, mac: [1, 2, 3, 4, 5, 255] });
    assert_eq!((mos.arp[1].addr, mos.arp[1].prefix), ([10, 0, 0, 0].into(), 8));
    for line in
        ["10.0.0.1 1:2:3:4:5:6", "10.0.0.1/33 1:2:3:4:5:6", "10.0.0.1/32 1:2:3:4:5", "10.0.0.1/32", "x"]
    {
        let shape = "expected `a.b.c.d/prefix hh:hh:hh:hh:hh:hh`: the line has no effect";
        ignored(&format!("arp_table {{ {line} }}"), shape);
    }
}

#[test]
fn d15_route_lines_may_name_a_gateway() {
    let route = |line: &str| quiet(&format!("route_table {{ {line} }}")).routes.remove(0);
    let via = route("10.0.0.5/8 lo via 192.168.0.1");
    assert_eq!((via.addr, via.prefix, via.device.as_str()), ([10, 0, 0, 0].into(), 8, "lo"));
    assert_eq!(via.gateway, Some([192, 168, 0, 1].into()));
    assert_eq!(route("10.0.0.5/8 lo 192.168.0.1"), via);
    assert_eq!(route("0.0.0.0/0 veth-a").gateway, None);
    let (mos, warning) = warned("route_table { 10.0.0.0/8 lo metric 3 }");
    assert_eq!((mos.routes.len(), warning.contains("`metric` at the end of the line is ignored")), (1, true));
    let shape = "expected `a.b.c.d/prefix device [via gateway]`";
    for (line, found) in
        [("10.0.0.0/8 lo via", ""), ("10.0.0.0/8 lo via x", "x"), ("1.0.0.0/8 lo 1.2.3", "1.2.3")]
    {
        ignored(
            &format!("route_table {{ {line} }}"),
            &format!("{shape}, found `{found}` for the gateway: the line has no effect"),
        );
    }
    for line in ["10.0.0.0 lo", "10.0.0.0/33 lo", "10.0.0.0/8", "default lo"] {
        ignored(&format!("route_table {{ {line} }}"), &format!("{shape}: the line has no effect"));
    }
}

#[test]
fn forwarding_pairs() {
    let table = |devices: &str, lines: &str| {
        let loaded =
            loaded(&format!("mos {{ netdev {{\n{devices}\n}}\nnic_forward_table {{\n{lines}\n}} }}"));
        let warnings = warnings(&loaded);
        (loaded.config.mos.forward_pairs, warnings)
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(table("a 1\nb 1", "a b\nb a").0, [pair("b", "a")]);
    assert_eq!(table("a 1\nb 1", "a b\nb a").1, [""; 0]);
    assert_eq!(table("x.pcap 1", "x.pcap out.pcap"), (vec![pair("x.pcap", "out.pcap")], vec![]));
    assert_eq!(
        table("a 1\nb 1\nc 1", "a b\nc b"),
        (
            vec![pair("c", "b")],
            vec!["t.conf:8: a device has one partner: `a` no longer forwards to `b`".into()]
        )
    );
    assert_eq!(table("a 1", "a b").1, ["t.conf:4: `b` in `nic_forward_table` is no device of `netdev`"]);
    assert_eq!(table("a 1", "a").1, ["t.conf:5: expected `device device`: the line has no effect"]);
}

#[test]
fn messages_hold_no_control_characters_and_warnings_are_limited() {
    let (_, warning) = warned("\u{1b}[31m = 1");
    assert!(warning.contains("`?[31m`"), "{warning}");
    let loaded = loaded(&file_of(&"x\n".repeat(1000)));
    assert_eq!(loaded.warnings.len(), 201);
    assert_eq!(loaded.warnings[200].to_string(), "t.conf: 800 further warnings are not shown");
}

#[test]
fn dump_has_the_shape_of_the_reference() {
    let text = "application { type = monitor\n run = a b\n }\nmos { netdev { dpdk0 0x3 }\n tcp_timeout = 7\n \
        mos_log = l\n arp_table { 10.0.0.1/32 1:2:3:4:5:6 }\n route_table { 10.1.0.0/16 dpdk0\n }\n \
        nic_forward_table { dpdk0 x.pcap }\n }";
    let dump = loaded(text).config.dump();
    for line in [
        "===== Application configuration =====",
        "| type:       monitor",
        "| run:        a",
        "| cpu_mask:   0xFFFFFFFFFFFFFFFF",
        "| ip_forward: forward",
        "===== MOS configuration =====",
        "| num_cores:       2",
        "| max_concurrency: 100000",
        "| tcp_tw_interval: 0",
        "| tcp_timeout:     7000",
        "| mos_log:         l",
        "| forward:         forward",
        " +===== Netdev configuration (1 entries) =====",
        " | dpdk0(idx: 0, HADDR: 00:00:00:00:00:00) maps to CPU 0x0000000000000003",
        " +===== Static ARP table configuration (1 entries) =====",
        " | IP: 0x0A000001, NETMASK: 0xFFFFFFFF, HADDR: 01:02:03:04:05:06",
        " | IP: 0x0A010000, NETMASK: 0xFFFF0000, INTERFACE: dpdk0(idx: 0)",
        " | NIC Forwarding Entry: dpdk0 <---> x.pcap",
        " | 0 --> -1 | ",
    ] {
        assert!(dump.lines().any(|l| l == line), "{line:?} not in:\n{dump}");
    }
}

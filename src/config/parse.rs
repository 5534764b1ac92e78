//! Blocks and lines → [`Config`] (endpoint-io §2.2–2.4, D15, D22).
//!
//! A line that is not understood draws a warning and changes nothing; so does everything inside a block
//! that is not understood. Keys are matched whole.

use super::args::split_args;
use super::diag::{ConfigError, Sink, quoted};
use super::grammar::{Block, Entry, Item, lex};
use super::model::*;
use super::value::{self, MAX_SECONDS, round_rmem_size, round_wmem_size};
use super::{Diagnostic, Loaded};

/// `application` blocks that have an effect; further ones are unknown blocks (endpoint-io §2.1 rule 7).
const MAX_APP_BLOCKS: usize = 10;

/// Parses a whole text. A NUL ends it, a byte order mark is skipped.
pub(super) fn parse(text: &[u8], file: &str) -> Result<Loaded, ConfigError> {
    let text = text.split(|&b| b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut sink = Sink::new(file);
    let lexed = lex(text, &mut sink);

    let mut parser = Parser { sink: &mut sink, apps: Vec::new(), mos: None };
    for item in &lexed.items {
        parser.top(item);
    }
    let Parser { apps, mos, .. } = parser;

    let unclosed =
        |&(line, name): &(u32, &str)| (line, format!("block {} has no closing `}}`", quoted(name)));
    let unclosed: Vec<_> = lexed.unclosed.iter().map(unclosed).collect();
    let (mut mos, missing_netdev) = match mos {
        Some(mos) => {
            for (line, message) in unclosed {
                sink.warn(line, format!("{message}: it has no effect"));
            }
            mos
        }
        None => {
            // A block left open usually is why: then its line says more than the last one.
            if unclosed.is_empty() {
                sink.error(lexed.lines, "expected a block `mos { … }`, found none in the file");
            }
            for (line, message) in unclosed {
                sink.error(line, format!("{message}, and no block `mos {{ … }}` was found"));
            }
            (Mos::default(), None)
        }
    };
    mos.forward &= apps.iter().all(|a| a.ip_forward);
    let (errors, warnings) = sink.finish();
    if errors.is_empty() {
        Ok(Loaded { config: Config { apps, mos }, warnings, missing_netdev })
    } else {
        Err(ConfigError::new(errors, warnings))
    }
}

struct Parser<'p, 'f> {
    sink: &'p mut Sink<'f>,
    apps: Vec<Application>,
    /// The `mos` block, and the complaint to raise if nothing else names devices.
    mos: Option<(Mos, Option<Diagnostic>)>,
}

impl Parser<'_, '_> {
    fn top(&mut self, item: &Item<'_>) {
        match item {
            Item::Entry(entry) => {
                self.warn(entry, format!("{} stands outside any block: no effect", quoted(entry.text)));
            }
            Item::Block(block) => match block.name {
                "application" if self.apps.len() < MAX_APP_BLOCKS => self.application(block),
                "application" => self.sink.warn(
                    block.line,
                    format!("expected at most {MAX_APP_BLOCKS} blocks `application`: this one has no effect"),
                ),
                "mos" if self.mos.is_none() => self.mos(block),
                "mos" => self.duplicate(block),
                _ => self.unknown_block(block, "`application` or `mos`"),
            },
        }
    }

    fn application(&mut self, block: &Block<'_>) {
        let mut app =
            Application { kind: String::new(), run: Vec::new(), cpu_mask: u64::MAX, ip_forward: true };
        for item in &block.items {
            let Some((entry, key, value)) = self.key_value(item, "`key = value`") else { continue };
            match key {
                "type" => app.kind = value.to_owned(),
                "run" => {
                    // One word more than is kept tells whether there are too many.
                    app.run = split_args(value, MAX_APPS + 1);
                    if app.run.len() > MAX_APPS {
                        app.run.truncate(MAX_APPS);
                        self.warn(
                            entry,
                            format!("expected at most {MAX_APPS} words in `run`: the rest is cut"),
                        );
                    }
                }
                "cpu_mask" => self.set(entry, key, value, &mut app.cpu_mask, Self::mask),
                "ip_forward" => self.set(entry, key, value, &mut app.ip_forward, Self::flag),
                "core_mask" => self.warn(entry, "`core_mask` has no effect: the key is `cpu_mask`"),
                _ => self.unknown_key(entry, key, "application"),
            }
        }
        if app.run.is_empty() {
            self.sink.error(
                block.line,
                "expected `run = program [words]` in block `application`, found no program to run",
            );
        }
        self.apps.push(app);
    }

    fn mos(&mut self, block: &Block<'_>) {
        let mut mos = Mos::default();
        let mut seen = Vec::new();
        for item in &block.items {
            if let Item::Block(inner) = item {
                self.mos_block(inner, &mut mos, &mut seen);
            } else if let Some((entry, key, value)) = self.key_value(item, "`key = value` or a block") {
                self.mos_key(entry, key, value, &mut mos);
            }
        }
        let missing = (!seen.iter().any(|&(name, _)| name == "netdev")).then(|| {
            self.sink.at(
                block.line,
                "expected a block `netdev { device mask }` in block `mos` (or devices in MOS_NETDEV), found none",
            )
        });
        self.check_forward_devices(&mos, &seen);
        self.mos = Some((mos, missing));
    }

    fn mos_block<'t>(&mut self, block: &Block<'t>, mos: &mut Mos, seen: &mut Vec<(&'t str, u32)>) {
        let earlier = seen.iter().find(|(name, _)| *name == block.name).map(|&(_, line)| line);
        match (block.name, earlier) {
            ("netdev", _) => {
                if let Some(line) = earlier {
                    self.sink.warn(
                        block.line,
                        format!(
                            "this block `netdev` replaces the devices of the one in line {line}; their cores stay"
                        ),
                    );
                }
                self.netdev(block, mos);
            }
            ("arp_table", None) => self.lines(block, &mut mos.arp, Self::arp),
            ("route_table", None) => self.lines(block, &mut mos.routes, Self::route),
            ("nic_forward_table", None) => self.forward_table(block, mos),
            ("dpdk", None) => self.dpdk(block, mos),
            ("arp_table" | "route_table" | "nic_forward_table" | "dpdk", Some(_)) => self.duplicate(block),
            _ => {
                self.unknown_block(
                    block,
                    "`netdev`, `arp_table`, `route_table`, `nic_forward_table` or `dpdk`",
                );
                return;
            }
        }
        seen.retain(|(name, _)| *name != block.name);
        seen.push((block.name, block.line));
    }

    fn mos_key(&mut self, entry: &Entry<'_>, key: &str, value: &str, mos: &mut Mos) {
        match key {
            "nb_mem_channels" => self.set(entry, key, value, &mut mos.nb_mem_channels, Self::int),
            "forward" => self.set(entry, key, value, &mut mos.forward, Self::flag),
            "max_concurrency" => self.set(entry, key, value, &mut mos.max_concurrency, Self::positive),
            "rmem_size" => self.rounded(entry, key, value, &mut mos.rmem_size, round_rmem_size),
            "wmem_size" => self.rounded(entry, key, value, &mut mos.wmem_size, round_wmem_size),
            "tcp_tw_interval" => self.set(entry, key, value, &mut mos.tcp_tw_interval, Self::wait),
            "tcp_timeout" => self.set(entry, key, value, &mut mos.tcp_timeout, Self::seconds),
            "no_ring_buffers" => self.set(entry, key, value, &mut mos.no_ring_buffers, Self::flag),
            "mos_log" => mos.mos_log = value.to_owned(),
            "stat_print" => mos.stat_print = value.split_whitespace().map(str::to_owned).collect(),
            "port" => self.warn(entry, "`port` has no effect"),
            "multiprocess" => {
                self.warn(entry, "`multiprocess` has no effect: one process serves all cores");
            }
            "io" => {
                let kinds = [("file", IoKind::File), ("pcap", IoKind::Pcap), ("dpdk", IoKind::Dpdk)];
                if let Some(kind) = self.choice(entry, key, value, &kinds, "`file`, `pcap` or `dpdk`") {
                    mos.io = Some(kind);
                }
            }
            "midstream" => self.set(entry, key, value, &mut mos.midstream, Self::flag),
            "verify_checksums" => self.set(entry, key, value, &mut mos.verify_checksums, Self::flag),
            "memory_limit" => match value::byte_size(value) {
                Some(bytes) => mos.memory_limit = Some(bytes).filter(|&b| b > 0),
                None => {
                    self.expected(entry, key, "a number of bytes such as `512M` (suffix K, M or G)", value)
                }
            },
            "rss" => {
                let keys = [("fair", true), ("default", false)];
                if let Some(fair) = self.choice(entry, key, value, &keys, "`fair` or `default`") {
                    mos.rss_fair = fair;
                }
            }
            _ => self.unknown_key(entry, key, "mos"),
        }
    }

    fn netdev(&mut self, block: &Block<'_>, mos: &mut Mos) {
        mos.netdevs.clear();
        self.each_entry(block, |this, entry| {
            let line = match value::device_line(entry.text) {
                Ok(line) => line,
                Err(message) => return this.malformed(entry, &message),
            };
            let Some(mask) = line.mask else {
                return this.malformed(entry, "expected `device mask`, found no core mask");
            };
            for complaint in line.complaints {
                this.warn(entry, complaint);
            }
            if mos.netdevs.len() >= MAX_DEVICES {
                return this.malformed(entry, &format!("expected at most {MAX_DEVICES} devices"));
            }
            if mask == 0 {
                this.warn(entry, format!("no core serves {}: its mask is 0", quoted(&line.name)));
            }
            mos.cpu_mask |= mask;
            if let Some(known) = mos.netdevs.iter_mut().find(|d| d.name == line.name) {
                known.mask |= mask;
                this.warn(
                    entry,
                    format!("device {} is listed twice: only its cores are added", quoted(&line.name)),
                );
            } else {
                mos.netdevs.push(NetDev { name: line.name, mask, addr: line.addr, mac: line.mac });
            }
        });
        if mos.netdevs.is_empty() {
            self.sink.warn(block.line, "expected lines `device mask` in block `netdev`: no devices");
        }
    }

    fn arp(&mut self, entry: &Entry<'_>) -> Option<ArpEntry> {
        const SHAPE: &str = "expected `a.b.c.d/prefix hh:hh:hh:hh:hh:hh`";
        let mut words = entry.text.split_whitespace();
        let (Some((addr, prefix)), Some(mac)) =
            (words.next().and_then(value::addr_prefix), words.next().and_then(value::mac))
        else {
            self.malformed(entry, SHAPE);
            return None;
        };
        self.rest_ignored(entry, words.next());
        Some(ArpEntry { addr: value::network(addr, prefix), prefix, mac })
    }

    /// `a.b.c.d/prefix device [via] [g.w.a.y]`.
    fn route(&mut self, entry: &Entry<'_>) -> Option<Route> {
        const SHAPE: &str = "expected `a.b.c.d/prefix device [via gateway]`";
        let mut words = entry.text.split_whitespace();
        let (Some((addr, prefix)), Some(device)) =
            (words.next().and_then(value::addr_prefix), words.next().filter(|w| value::is_device_name(w)))
        else {
            self.malformed(entry, SHAPE);
            return None;
        };
        let mut next = words.next();
        let via = next == Some("via");
        if via {
            next = words.next();
        }
        let gateway = next.and_then(|word| word.parse().ok());
        if gateway.is_some() {
            next = words.next();
        } else if via || next.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            // Without its gateway the route would send elsewhere: better none at all.
            self.malformed(entry, &format!("{SHAPE}, found {} for the gateway", quoted(next.unwrap_or(""))));
            return None;
        }
        self.rest_ignored(entry, next);
        Some(Route { addr: value::network(addr, prefix), prefix, gateway, device: device.to_owned() })
    }

    fn forward_table(&mut self, block: &Block<'_>, mos: &mut Mos) {
        self.each_entry(block, |this, entry| {
            let mut words = entry.text.split_whitespace();
            let mut name = || words.next().filter(|w| value::is_device_name(w));
            let (Some(a), Some(b)) = (name(), name()) else {
                return this.malformed(entry, "expected `device device`");
            };
            this.rest_ignored(entry, words.next());
            if mos.forward_pairs.len() >= MAX_DEVICES {
                return this.malformed(entry, &format!("expected at most {MAX_DEVICES} pairs"));
            }
            for (old_a, old_b) in mos.add_forward_pair(a, b) {
                this.warn(
                    entry,
                    format!(
                        "a device has one partner: {} no longer forwards to {}",
                        quoted(&old_a),
                        quoted(&old_b)
                    ),
                );
            }
        });
    }

    fn dpdk(&mut self, block: &Block<'_>, mos: &mut Mos) {
        for item in &block.items {
            let Some((entry, key, value)) = self.key_value(item, "`key = value`") else { continue };
            match key {
                "eal" => mos.dpdk_eal = unquoted(value).to_owned(),
                "mtu" => match value.parse() {
                    Ok(mtu @ 68..=u16::MAX) => mos.dpdk_mtu = Some(mtu),
                    _ => self.expected(entry, key, "a number of bytes from 68 to 65535", value),
                },
                "clock" => {
                    let clocks = [("packet", true), ("system", false)];
                    if let Some(packet) = self.choice(entry, key, value, &clocks, "`packet` or `system`") {
                        mos.dpdk_clock_packet = packet;
                    }
                }
                _ => self.unknown_key(entry, key, "dpdk"),
            }
        }
    }

    /// A pair of the forwarding table needs two devices; a capture to be written need not be listed.
    fn check_forward_devices(&mut self, mos: &Mos, seen: &[(&str, u32)]) {
        let Some(&(_, line)) = seen.iter().find(|(name, _)| *name == "nic_forward_table") else { return };
        if mos.netdevs.is_empty() {
            return;
        }
        for name in mos.forward_pairs.iter().flat_map(|(a, b)| [a, b]) {
            let is_file = mos.io.unwrap_or(IoKind::of_name(name)) == IoKind::File;
            if !is_file && !mos.netdevs.iter().any(|d| &d.name == name) {
                self.sink
                    .warn(line, format!("{} in `nic_forward_table` is no device of `netdev`", quoted(name)));
            }
        }
    }

    // Parts shared by all blocks.

    fn each_entry(&mut self, block: &Block<'_>, mut take: impl FnMut(&mut Self, &Entry<'_>)) {
        for item in &block.items {
            match item {
                Item::Block(inner) => self.unknown_block(inner, "lines"),
                Item::Entry(entry) if self.is_text(entry) => take(self, entry),
                Item::Entry(_) => {}
            }
        }
    }

    fn lines<T>(
        &mut self,
        block: &Block<'_>,
        into: &mut Vec<T>,
        read: impl Fn(&mut Self, &Entry<'_>) -> Option<T>,
    ) {
        self.each_entry(block, |this, entry| into.extend(read(this, entry)));
    }

    /// The parts of a `key = value` line; anything else is warned about.
    fn key_value<'i, 't>(
        &mut self,
        item: &'i Item<'t>,
        expected: &str,
    ) -> Option<(&'i Entry<'t>, &'t str, &'t str)> {
        let entry = match item {
            Item::Block(block) => {
                self.unknown_block(block, expected);
                return None;
            }
            Item::Entry(entry) => entry,
        };
        if !self.is_text(entry) {
            return None;
        }
        let Some((key, value)) = entry.text.split_once('=') else {
            self.malformed(entry, &format!("expected {expected}, found {}", quoted(entry.text)));
            return None;
        };
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() {
            self.malformed(entry, &format!("expected a value after {}", quoted(entry.text)));
            return None;
        }
        Some((entry, key, value))
    }

    /// Warns about text that is not UTF-8 (it was replaced by U+FFFD).
    fn is_text(&mut self, entry: &Entry<'_>) -> bool {
        let good = !entry.text.contains(char::REPLACEMENT_CHARACTER);
        if !good {
            self.malformed(entry, "expected UTF-8 text");
        }
        good
    }

    /// Stores what `read` makes of a value, if anything.
    fn set<T>(
        &mut self,
        entry: &Entry<'_>,
        key: &str,
        value: &str,
        field: &mut T,
        read: impl Fn(&mut Self, &Entry<'_>, &str, &str) -> Option<T>,
    ) {
        if let Some(value) = read(self, entry, key, value) {
            *field = value;
        }
    }

    fn int(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<i32> {
        let int = value::int(value);
        let Some(number) = int.as_ref().and_then(value::Int::to_i32) else {
            self.expected(entry, key, "an integer of 32 bits", value);
            return None;
        };
        self.rest_ignored(entry, int.map(|i| i.rest.trim()).filter(|rest| !rest.is_empty()));
        Some(number)
    }

    fn flag(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<bool> {
        self.int(entry, key, value).map(|i| i != 0)
    }

    fn positive(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<i32> {
        let number = self.int(entry, key, value)?;
        if number <= 0 {
            self.expected(entry, key, "a number from 1 to 2147483647", value);
        }
        (number > 0).then_some(number)
    }

    fn seconds(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<i32> {
        let number = self.int(entry, key, value)?;
        if number > MAX_SECONDS {
            self.warn(entry, format!("`{key}` is cut to {MAX_SECONDS} seconds"));
        }
        // Every value of zero or less means the same, and must survive the way to milliseconds.
        Some(number.clamp(-MAX_SECONDS, MAX_SECONDS))
    }

    fn wait(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<i32> {
        let number = self.seconds(entry, key, value)?;
        if number < 0 {
            self.warn(entry, format!("`{key}` is raised to 0 seconds"));
        }
        Some(number.max(0))
    }

    fn mask(&mut self, entry: &Entry<'_>, key: &str, value: &str) -> Option<u64> {
        let Some(int) = value::int(value) else {
            self.expected(entry, key, "a core mask", value);
            return None;
        };
        if int.overflow {
            self.warn(entry, format!("{} names a core beyond 63: ignored", quoted(value)));
        }
        self.rest_ignored(entry, Some(int.rest.trim()).filter(|rest| !rest.is_empty()));
        Some(int.to_mask())
    }

    fn rounded(
        &mut self,
        entry: &Entry<'_>,
        key: &str,
        value: &str,
        field: &mut i32,
        round: impl Fn(i32) -> i32,
    ) {
        let Some(given) = self.int(entry, key, value) else { return };
        *field = round(given);
        if *field != given {
            self.warn(entry, format!("`{key}` of {given} bytes is taken as {field}"));
        }
    }

    fn choice<T: Copy>(
        &mut self,
        entry: &Entry<'_>,
        key: &str,
        value: &str,
        choices: &[(&str, T)],
        expected: &str,
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == value).map(|&(_, choice)| choice);
        if found.is_none() {
            self.expected(entry, key, expected, value);
        }
        found
    }

    fn warn(&mut self, entry: &Entry<'_>, message: impl Into<String>) {
        self.sink.warn(entry.line, message);
    }

    fn malformed(&mut self, entry: &Entry<'_>, message: &str) {
        self.sink.warn(entry.line, format!("{message}: the line has no effect"));
    }

    fn expected(&mut self, entry: &Entry<'_>, key: &str, expected: &str, found: &str) {
        self.malformed(entry, &format!("expected {expected} for `{key}`, found {}", quoted(found)));
    }

    fn rest_ignored(&mut self, entry: &Entry<'_>, rest: Option<&str>) {
        if let Some(rest) = rest {
            self.warn(entry, format!("{} at the end of the line is ignored", quoted(rest)));
        }
    }

    fn unknown_key(&mut self, entry: &Entry<'_>, key: &str, block: &str) {
        self.warn(entry, format!("unknown key {} in block `{block}`: no effect", quoted(key)));
    }

    fn unknown_block(&mut self, block: &Block<'_>, expected: &str) {
        self.sink
            .warn(block.line, format!("expected {expected}, found block {}: no effect", quoted(block.name)));
    }

    fn duplicate(&mut self, block: &Block<'_>) {
        self.sink.warn(block.line, format!("a second block `{}` has no effect", block.name));
    }
}

/// A value without the one pair of quotes around all of it, if there is one.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote));
        if let Some(inner) = inner
            && !inner.contains(quote)
        {
            return inner;
        }
    }
    value
}

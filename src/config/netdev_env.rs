//! `MOS_NETDEV`: the device list from the environment, so that an application runs on other devices
//! without an edit of its configuration (X1).
//!
//! Items are separated by `;`. An item is `NAME[ MASK]`, going on as a `netdev` line may, or two of them
//! as `A > B`, which adds the forwarding pair. A name without a mask takes that of its partner, else 1.

use super::diag::{ConfigError, Diagnostic, quoted};
use super::model::{Config, MAX_DEVICES, Mos, NetDev};
use super::value::{DeviceLine, device_line};

/// What diagnostics name as the file.
const SOURCE: &str = "MOS_NETDEV";

impl Config {
    /// Replaces the device list and its cores by those of `value`, and adds its forwarding pairs. A
    /// blank value changes nothing, and so does one with a mistake: the error counts items as lines.
    pub fn apply_netdev_env(&mut self, value: &str) -> Result<(), ConfigError> {
        let mut devices = Vec::new();
        let mut pairs = Vec::new();
        let mut errors = Vec::new();
        for (i, item) in value.split(';').enumerate().filter(|(_, item)| !item.trim().is_empty()) {
            match read_item(item) {
                Ok((first, second)) => {
                    if let Some(second) = &second {
                        pairs.push((first.name.clone(), second.name.clone()));
                    }
                    devices.push(first);
                    devices.extend(second);
                }
                Err(message) => {
                    let line = u32::try_from(i + 1).unwrap_or(u32::MAX);
                    errors.push(Diagnostic { file: SOURCE.to_owned(), line, message });
                }
            }
        }
        if devices.len() > MAX_DEVICES {
            let message = format!("expected at most {MAX_DEVICES} devices, found {}", devices.len());
            errors.push(Diagnostic { file: SOURCE.to_owned(), line: 0, message });
        }
        if !errors.is_empty() {
            return Err(ConfigError::new(errors, Vec::new()));
        }
        if devices.is_empty() {
            return Ok(());
        }
        self.mos.netdevs.clear();
        for line in devices {
            self.mos.add_device(line);
        }
        for device in &mut self.mos.netdevs {
            if device.mask == UNSET {
                device.mask = 1;
            }
        }
        self.mos.cpu_mask = self.mos.netdevs.iter().fold(0, |all, d| all | d.mask);
        for (a, b) in pairs {
            self.mos.add_forward_pair(&a, &b);
        }
        Ok(())
    }
}

/// A mask not given yet; a given mask of 0 is refused, so that it can stand for this.
const UNSET: u64 = 0;

/// One item: a device, or the two of a pair.
fn read_item(item: &str) -> Result<(DeviceLine, Option<DeviceLine>), String> {
    let strict = |text: &str| -> Result<DeviceLine, String> {
        let line = device_line(text)?;
        if let Some(complaint) = line.complaints.first() {
            return Err(complaint.clone());
        }
        if line.mask == Some(UNSET) {
            return Err(format!("expected a core mask other than 0 for {}", quoted(&line.name)));
        }
        Ok(line)
    };
    let shape = |message: String| {
        format!(
            "expected `NAME [MASK]` or `NAME [MASK] > NAME [MASK]`, found {}: {message}",
            quoted(item.trim())
        )
    };
    match item.split_once('>') {
        None => Ok((strict(item).map_err(shape)?, None)),
        Some((a, b)) => {
            let (mut a, mut b) = (strict(a).map_err(shape)?, strict(b).map_err(shape)?);
            (a.mask, b.mask) = (a.mask.or(b.mask), b.mask.or(a.mask));
            Ok((a, Some(b)))
        }
    }
}

impl Mos {
    /// Adds a device, or what an item says more of one already listed.
    fn add_device(&mut self, line: DeviceLine) {
        let mask = line.mask.unwrap_or(UNSET);
        if let Some(known) = self.netdevs.iter_mut().find(|d| d.name == line.name) {
            known.mask |= mask;
            known.addr = known.addr.or(line.addr);
            known.mac = known.mac.or(line.mac);
        } else {
            self.netdevs.push(NetDev { name: line.name, mask, addr: line.addr, mac: line.mac });
        }
    }

    /// Adds a forwarding pair; a device has one partner, the last one named. Returns the pairs that
    /// gave way (not one that said the same).
    pub(super) fn add_forward_pair(&mut self, a: &str, b: &str) -> Vec<(String, String)> {
        let pair = (a.to_owned(), b.to_owned());
        let touches = |p: &(String, String)| [&p.0, &p.1].into_iter().any(|name| name == a || name == b);
        let (mut gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.forward_pairs).into_iter().partition(touches);
        gone.retain(|p| *p != pair && (p.1.as_str(), p.0.as_str()) != (a, b));
        self.forward_pairs = kept;
        self.forward_pairs.push(pair);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(value: &str) -> Result<Mos, String> {
        let mos = Mos {
            netdevs: vec![NetDev { name: "old".into(), mask: 0xF0, addr: None, mac: None }],
            cpu_mask: 0xF0,
            forward_pairs: vec![("old".into(), "older".into())],
            ..Mos::default()
        };
        let mut config = Config { apps: Vec::new(), mos };
        let before = config.clone();
        match config.apply_netdev_env(value) {
            Ok(()) => Ok(config.mos),
            Err(e) => {
                assert_eq!(config, before, "an error changes nothing");
                Err(e.to_string())
            }
        }
    }

    fn devices(value: &str) -> Vec<(String, u64)> {
        applied(value).unwrap().netdevs.into_iter().map(|d| (d.name, d.mask)).collect()
    }

    fn named(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|&(name, mask)| (name.to_owned(), mask)).collect()
    }

    #[test]
    fn names_and_masks_replace_the_list() {
        assert_eq!(devices("a.pcap"), named(&[("a.pcap", 1)]));
        assert_eq!(devices(" /tmp/a.pcap 0x3 ; b 4;"), named(&[("/tmp/a.pcap", 3), ("b", 4)]));
        let mos = applied("a 0x3; b 0x8 10.0.0.1/24 02:00:00:00:00:01").unwrap();
        assert_eq!(mos.cpu_mask, 0xB);
        assert_eq!(mos.netdevs[1].addr, Some(([10, 0, 0, 1].into(), 24)));
        assert_eq!(mos.netdevs[1].mac, Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(mos.forward_pairs, [("old".into(), "older".into())]);
    }

    #[test]
    fn pairs_are_devices_and_forward() {
        let mos = applied("a>b").unwrap();
        assert_eq!(mos.forward_pairs.last(), Some(&("a".into(), "b".into())));
        assert_eq!(devices("a>b"), named(&[("a", 1), ("b", 1)]));
        assert_eq!(devices("a 3 > b"), named(&[("a", 3), ("b", 3)]));
        assert_eq!(devices("a>b 2"), named(&[("a", 2), ("b", 2)]));
        assert_eq!(devices("a 2; b 4; a>b"), named(&[("a", 2), ("b", 4)]));
        assert_eq!(devices("a>b; b 4"), named(&[("a", 1), ("b", 4)]));
        assert_eq!(applied("old>new").unwrap().forward_pairs, [("old".into(), "new".into())]);
    }

    #[test]
    fn a_blank_value_changes_nothing() {
        for value in ["", "  ", ";;"] {
            assert_eq!(devices(value), named(&[("old", 0xF0)]));
        }
    }

    #[test]
    fn mistakes_name_the_item_and_change_nothing() {
        let error = applied("a; b x").unwrap_err();
        assert_eq!(
            error,
            "MOS_NETDEV:2: expected `NAME [MASK]` or `NAME [MASK] > NAME [MASK]`, found `b x`: \
             expected a core mask, found `x`"
        );
        for value in ["a>", ">b", "a>b>c", "a 1 2", "a 0", "a 1x", "a 0x10000000000000000", "a=b"] {
            assert!(applied(value).unwrap_err().starts_with("MOS_NETDEV:1: expected"), "{value}");
        }
        assert_eq!(applied("a 0; b 0").unwrap_err().lines().count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn any_value_gives_devices_or_errors(value in "[a-c01x >;./:-]{0,40}") {
            if let Ok(mos) = applied(&value) {
                proptest::prop_assert!(!mos.netdevs.is_empty());
                proptest::prop_assert!(mos.netdevs.iter().all(|d| d.mask != 0));
            }
        }
    }
}

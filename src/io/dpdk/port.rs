//! A DPDK port: found by name, set up by its plan (`plan`), started, shared out over the cores, stopped when the last core's
//! queues are gone, closed at the end.

use super::plan::{Abilities, Plan, plan};
use super::queue::{Queue, TxQueue};
use super::{Arguments, eal, reason};
use crate::io::device::{Device, LivePort, PortInfo, Queues};
use crate::io::pcap::interface::Interface;
use crate::wire::rss::{Rss, RssForm};
use dpdk_sys as sys;
use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_rss_reta_entry64, rte_eth_stats, rte_mempool};
use parking_lot::Mutex;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Weak};

/// What all ports have in common.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `dpdk { mtu = … }`; `None`: as the port has it.
    pub mtu: Option<u16>,
    /// `dpdk { clock = packet }`: received frames have stamps, or the port cannot be used.
    pub stamps: bool,
}

/// A port that was found.
pub struct Port {
    /// As in the configuration.
    name: String,
    id: u16,
    info: PortInfo,
    options: Options,
    form: RssForm,
    running: Mutex<Weak<Running>>,
}

/// Everything to be given back when EAL ends.
struct Opened {
    ports: Vec<u16>,
    pools: Vec<Pool>,
    /// How ports are set up at present.
    setups: Vec<Setup>,
}

/// A port's queues as they were last set up. One that is stopped and started again keeps them: not every driver can set
/// queues up twice.
#[derive(Clone)]
struct Setup {
    port: u16,
    /// The plan as it was made.
    asked: Plan,
    /// The plan as the driver let it be.
    plan: Plan,
    pool: Pool,
}

/// A pool of packets. It stays until EAL ends: packets may outlive the port that received them.
#[derive(Clone, Copy)]
struct Pool {
    pool: *mut rte_mempool,
    port: u16,
    packets: u32,
    buffer: u16,
}

// SAFETY: a pool may be used by any thread.
unsafe impl Send for Pool {}

static OPENED: Mutex<Opened> =
    Mutex::new(Opened { ports: Vec::new(), pools: Vec::new(), setups: Vec::new() });

/// Begins EAL if need be, and finds the port of this name.
///
/// # Errors
/// A line that names the device and says what was expected.
pub fn open(name: &str, arguments: &Arguments, options: Options) -> Result<Box<dyn LivePort>, String> {
    eal::begin(arguments)?;
    Ok(Box::new(Port::new(name, find(name)?, options)?))
}

/// The port number of a name.
fn find(name: &str) -> Result<u16, String> {
    let ports = ports();
    if let Some(n) = name.strip_prefix("dpdk").and_then(|n| n.parse::<usize>().ok()) {
        return ports.get(n).copied().ok_or_else(|| {
            let there = match ports.len() {
                0 => "there is none (are the cards bound to vfio-pci, or virtual devices given as --vdev in `dpdk { eal }`?)"
                    .to_owned(),
                1 => "there is only dpdk0".to_owned(),
                more => format!("there are dpdk0 to dpdk{}", more - 1),
            };
            format!("device '{name}': no such DPDK port: {there}")
        });
    }
    let mut id = 0;
    let c_name =
        CString::new(name).map_err(|_| format!("device '{name}': a name without NUL was expected"))?;
    // SAFETY: EAL is up; the name is a C string, `id` lives through the call.
    match unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) } {
        0 => Ok(id),
        _ => Err(format!(
            "device '{name}': no DPDK port of that name; expected dpdk0, dpdk1 … or one of: {}",
            ports.iter().map(|&id| own_name(id)).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// The ports that belong to nobody, ascending.
fn ports() -> Vec<u16> {
    let mut all = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: EAL is up.
        let id = unsafe { sys::rte_eth_find_next_owned_by(next, sys::SHIM_NO_OWNER) };
        if id >= u64::from(sys::SHIM_MAX_PORTS) {
            return all;
        }
        all.push(id as u16);
        next = id as u16 + 1;
    }
}

/// DPDK's name for a port.
fn own_name(id: u16) -> String {
    let mut name = [0; 256];
    // SAFETY: EAL is up; a name has at most RTE_ETH_NAME_MAX_LEN = 64 bytes.
    match unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) } {
        // SAFETY: filled with a C string.
        0 => unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned(),
        _ => format!("port {id}"),
    }
}

fn abilities(id: u16) -> Result<(Abilities, rte_eth_dev_info), String> {
    let mut info = rte_eth_dev_info::default();
    // SAFETY: EAL is up; `info` lives through the call.
    let code = unsafe { sys::rte_eth_dev_info_get(id, &mut info) };
    if code != 0 {
        return Err(format!("DPDK port {id} does not say what it can do: {}", reason(code)));
    }
    let mut mtu = 0;
    // SAFETY: as above.
    if unsafe { sys::rte_eth_dev_get_mtu(id, &mut mtu) } != 0 || mtu == 0 {
        mtu = 1500;
    }
    let driver = if info.driver_name.is_null() {
        String::new()
    } else {
        // SAFETY: a driver's name is a constant C string.
        unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
    };
    let can = Abilities {
        driver,
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        rx_offloads: info.rx_offload_capa,
        tx_offloads: info.tx_offload_capa,
        rss_types: info.flow_type_rss_offloads,
        key_len: info.hash_key_size.into(),
        reta_size: info.reta_size.into(),
        min_mtu: info.min_mtu,
        max_mtu: info.max_mtu,
        mtu,
        rx_ring: info.default_rxportconf.ring_size,
        tx_ring: info.default_txportconf.ring_size,
        interface: info.if_index,
    };
    Ok((can, info))
}

impl Port {
    fn new(name: &str, id: u16, options: Options) -> Result<Self, String> {
        let (can, _) = abilities(id)?;
        // The map of the C library (D21).
        let form = if can.driver == "net_i40e" { RssForm::Wide } else { RssForm::Narrow };
        let plan = plan(&can, &Rss::new(form), 1, 1, options.mtu, options.stamps)
            .map_err(|what| wanted(name, &what))?;
        let mut mac = sys::rte_ether_addr::default();
        // SAFETY: EAL is up; `mac` lives through the call.
        unsafe { sys::rte_eth_macaddr_get(id, &mut mac) };
        // D22: the address of a kernel interface of the same name.
        let addr = Interface::find(name).ok().and_then(|i| i.info().addr);
        let info = PortInfo { mac: mac.addr_bytes, addr, mtu: plan.mtu.into() };
        if let Some(interface) = can.link_of().and_then(Interface::of_index) {
            interface.settle_offloads();
        }
        let mut opened = OPENED.lock();
        if !opened.ports.contains(&id) {
            opened.ports.push(id);
        }
        Ok(Port { name: name.to_owned(), id, info, options, form, running: Mutex::new(Weak::new()) })
    }

    /// Sets the port up, unless it is, and starts it.
    fn start(&self, receivers: usize, cores: usize, rss: &Rss) -> Result<Running, String> {
        let (can, info) = abilities(self.id)?;
        let asked = plan(&can, rss, receivers, cores, self.options.mtu, self.options.stamps)
            .map_err(|what| wanted(&self.name, &what))?;
        let known = OPENED.lock().setups.iter().find(|s| s.port == self.id && s.asked == asked).cloned();
        let Setup { mut plan, pool, .. } = match known {
            Some(setup) => setup,
            None => self.set_up(asked, &info)?,
        };
        // SAFETY: EAL is up, and the port's queues are set up.
        self.check("it cannot be started", unsafe { sys::rte_eth_dev_start(self.id) })?;
        let before = stats(self.id);
        self.promiscuous();
        if plan.spread.as_ref().is_some_and(|s| s.exact) && !self.write_table(&plan) {
            plan.spread.iter_mut().for_each(|s| s.exact = false);
        }
        log::info!(
            "device '{}': {} ({}), {} receive and {} transmit queues of {} and {} descriptors, MTU {}",
            self.name,
            own_name(self.id),
            can.driver,
            plan.rx_queues,
            plan.tx_queues,
            plan.rx_ring,
            plan.tx_ring,
            plan.mtu
        );
        let shared = cores > usize::from(plan.tx_queues);
        let tx = (0..plan.tx_queues).map(|queue| Arc::new(TxQueue::new(self.id, queue, shared))).collect();
        let interface = can.link_of().and_then(Interface::of_index);
        Ok(Running { id: self.id, pool: pool.pool, plan, tx, before, interface })
    }

    /// Configures the port and sets its queues up.
    fn set_up(&self, asked: Plan, info: &rte_eth_dev_info) -> Result<Setup, String> {
        OPENED.lock().setups.retain(|s| s.port != self.id);
        let mut plan = asked.clone();
        if let Err(why) = self.configure(&plan) {
            // A driver may refuse a key it says it takes, or several queues.
            if plan.spread.take().is_none() {
                return Err(why);
            }
            log::warn!("{why}: one queue is used instead");
            (plan.rx_queues, plan.tx_queues) = (1, 1);
            self.configure(&plan)?;
        }
        // SAFETY: EAL is up, the port configured and not started.
        let code =
            unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut plan.rx_ring, &mut plan.tx_ring) };
        if code != 0 && code != -libc::ENOTSUP {
            return Err(self.failed("no ring sizes to suit it", code));
        }
        // SAFETY: EAL is up.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) };
        let pool =
            pool_for(self.id, &plan, socket).map_err(|why| format!("device '{}': {why}", self.name))?;
        let (mut rx, mut tx) = (info.default_rxconf, info.default_txconf);
        rx.offloads = plan.rx_offloads;
        tx.offloads = plan.tx_offloads;
        // SAFETY: for these calls: EAL is up, the port is configured with at least so many queues and not started, the
        // structures live through the calls and the pool as long as EAL.
        unsafe {
            for queue in 0..plan.rx_queues {
                let code =
                    sys::rte_eth_rx_queue_setup(self.id, queue, plan.rx_ring, socket as u32, &rx, pool.pool);
                self.check("a receive queue cannot be set up", code)?;
            }
            for queue in 0..plan.tx_queues {
                let code = sys::rte_eth_tx_queue_setup(self.id, queue, plan.tx_ring, socket as u32, &tx);
                self.check("a transmit queue cannot be set up", code)?;
            }
        }
        let setup = Setup { port: self.id, asked, plan, pool };
        OPENED.lock().setups.push(setup.clone());
        Ok(setup)
    }

    fn configure(&self, plan: &Plan) -> Result<(), String> {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = plan.mtu.into();
        conf.rxmode.offloads = plan.rx_offloads;
        conf.txmode.offloads = plan.tx_offloads;
        // The driver copies the key during the call.
        let mut key = plan.spread.as_ref().map_or(Vec::new(), |s| s.key.clone());
        if let Some(spread) = &plan.spread {
            conf.rxmode.mq_mode = sys::SHIM_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = spread.types;
            if !key.is_empty() {
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
            }
        }
        // SAFETY: EAL is up, the port stopped; `conf` and `key` live through the call.
        let code = unsafe { sys::rte_eth_dev_configure(self.id, plan.rx_queues, plan.tx_queues, &conf) };
        self.check("it cannot be configured", code)
    }

    /// Writes the redirection table. `false`: the port does not take it.
    fn write_table(&self, plan: &Plan) -> bool {
        let Some(spread) = &plan.spread else { return false };
        let group = usize::from(sys::SHIM_RETA_GROUP);
        let mut table = vec![rte_eth_rss_reta_entry64::default(); spread.reta.len().div_ceil(group)];
        for (n, &queue) in spread.reta.iter().enumerate() {
            table[n / group].mask |= 1 << (n % group);
            table[n / group].reta[n % group] = queue;
        }
        // SAFETY: EAL is up, the port started; the table holds as many entries as said and lives through the call.
        let code = unsafe {
            sys::rte_eth_dev_rss_reta_update(self.id, table.as_mut_ptr(), spread.reta.len() as u16)
        };
        if code != 0 {
            log::warn!(
                "device '{}' takes no redirection table ({}): packets are handed over between the cores",
                self.name,
                reason(code)
            );
        }
        code == 0
    }

    fn promiscuous(&self) {
        // SAFETY: EAL is up.
        let code = unsafe { sys::rte_eth_promiscuous_enable(self.id) };
        if code != 0 {
            log::info!("device '{}' has no promiscuous mode: {}", self.name, reason(code));
        }
    }

    fn check(&self, what: &str, code: i32) -> Result<(), String> {
        if code == 0 { Ok(()) } else { Err(self.failed(what, code)) }
    }

    fn failed(&self, what: &str, code: i32) -> String {
        format!("device '{}' ({}): {what}: {}", self.name, own_name(self.id), reason(code))
    }
}

fn wanted(name: &str, what: &str) -> String {
    format!("device '{name}': expected a DPDK port that can do {what}")
}

impl LivePort for Port {
    fn info(&self) -> PortInfo {
        self.info
    }

    fn rss_form(&self) -> RssForm {
        self.form
    }

    fn queues(&self, receives: &[bool], rss: Rss) -> Result<Queues, String> {
        let receivers = receives.iter().filter(|&&r| r).count();
        let mut current = self.running.lock();
        if current.strong_count() > 0 {
            return Err(format!("device '{}' is in use: its contexts must end first", self.name));
        }
        let running = Arc::new(self.start(receivers, receives.len(), &rss)?);
        *current = Arc::downgrade(&running);

        let plan = &running.plan;
        let mut rank = 0;
        let devices = receives.iter().enumerate().map(|(core, &receives)| {
            // Queue n belongs to the n-th core that receives; if there are more, the cores take turns.
            let queues = if receives {
                rank += 1;
                (rank - 1..usize::from(plan.rx_queues)).step_by(receivers).map(|q| q as u16).collect()
            } else {
                Vec::new()
            };
            let tx = running.tx[core % running.tx.len()].clone();
            Box::new(Queue::new(running.clone(), queues, tx, core == 0)) as Box<dyn Device>
        });
        let devices = devices.collect();
        // The map of D21 is over all cores: where some do not receive, their flows come to others.
        let all_receive = usize::from(plan.rx_queues) == receives.len() && receivers == receives.len();
        let split = receives.len() == 1 || (all_receive && plan.spread.as_ref().is_some_and(|s| s.exact));
        Ok(Queues { devices, split })
    }
}

/// A port that is started; it stops when the last core's queues are gone.
pub(super) struct Running {
    /// DPDK's number of the port.
    pub id: u16,
    /// Where its packets come from.
    pub pool: *mut rte_mempool,
    /// How it was set up.
    pub plan: Plan,
    tx: Vec<Arc<TxQueue>>,
    before: rte_eth_stats,
    /// The kernel interface whose link is the port's.
    interface: Option<Interface>,
}

// SAFETY: pool and port may be used by any thread; the rest is plain data.
unsafe impl Send for Running {}
// SAFETY: as above.
unsafe impl Sync for Running {}

impl Running {
    /// Whether the link is up.
    pub fn link_up(&self) -> bool {
        match &self.interface {
            Some(interface) => interface.has_link(),
            // SAFETY: EAL is up.
            None => unsafe { sys::shim_link_up(self.id) != 0 },
        }
    }

    /// The port's counters since it was started: missed, without buffer, with errors.
    pub fn counters(&self) -> (u64, u64, u64) {
        let now = stats(self.id);
        (
            now.imissed.saturating_sub(self.before.imissed),
            now.rx_nombuf.saturating_sub(self.before.rx_nombuf),
            now.ierrors.saturating_sub(self.before.ierrors),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !eal::alive() {
            return;
        }
        let (now, before) = (stats(self.id), &self.before);
        let since = |of: fn(&rte_eth_stats) -> u64| of(&now).saturating_sub(of(before));
        log::info!(
            "DPDK port {}: {} received, {} sent, {} missed, {} without buffer, {} receive and {} transmit errors",
            self.id,
            since(|s| s.ipackets),
            since(|s| s.opackets),
            since(|s| s.imissed),
            since(|s| s.rx_nombuf),
            since(|s| s.ierrors),
            since(|s| s.oerrors)
        );
        // SAFETY: EAL is up, and nobody receives or sends any more.
        unsafe { sys::rte_eth_dev_stop(self.id) };
    }
}

fn stats(id: u16) -> rte_eth_stats {
    let mut stats = rte_eth_stats::default();
    // SAFETY: EAL is up; `stats` lives through the call. A port without counters leaves zeros.
    unsafe { sys::rte_eth_stats_get(id, &mut stats) };
    stats
}

/// A pool for a port's packets: the one it had, if that is large enough.
fn pool_for(port: u16, plan: &Plan, socket: i32) -> Result<Pool, String> {
    let mut opened = OPENED.lock();
    let fits = |p: &&Pool| p.port == port && p.packets >= plan.packets && p.buffer >= plan.buffer;
    if let Some(&pool) = opened.pools.iter().find(fits) {
        return Ok(pool);
    }
    let name = CString::new(format!("mos_{port}_{}", opened.pools.len())).expect("no NUL");
    let mut packets = plan.packets;
    loop {
        // SAFETY: EAL is up; the name lives through the call.
        let pool =
            unsafe { sys::rte_pktmbuf_pool_create(name.as_ptr(), packets, 256, 0, plan.buffer, socket) };
        if !pool.is_null() {
            let pool = Pool { pool, port, packets: plan.packets, buffer: plan.buffer };
            opened.pools.push(pool);
            return Ok(pool);
        }
        // SAFETY: no preconditions.
        let errno = unsafe { sys::shim_errno() };
        // Both rings must fill, or the port stops receiving.
        let least = u32::from(plan.rx_queues) * u32::from(plan.rx_ring) + 512;
        if packets / 2 < least {
            return Err(format!(
                "no memory for {} packets of {} bytes ({}): give EAL more (huge pages, or -m with --no-huge)",
                plan.packets,
                plan.buffer,
                reason(errno)
            ));
        }
        packets /= 2;
    }
}

/// Closes all ports and frees the pools.
pub(super) fn close_all() {
    let mut opened = OPENED.lock();
    for id in opened.ports.drain(..) {
        // SAFETY: EAL is up; stopping a stopped port does nothing.
        let code = unsafe {
            sys::rte_eth_dev_stop(id);
            sys::rte_eth_dev_close(id)
        };
        if code != 0 {
            log::info!("DPDK port {id} did not close cleanly: {}", reason(code));
        }
    }
    opened.setups.clear();
    for pool in opened.pools.drain(..) {
        // SAFETY: made by `pool_for`; its packets' ports are closed.
        unsafe { sys::rte_mempool_free(pool.pool) };
    }
}

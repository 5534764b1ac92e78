//! Finds libdpdk by pkg-config, compiles the shim, and makes the bindings from the headers that are installed:
//! sizes and offsets differ between DPDK's versions, so none is written down here.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The oldest version whose names (`RTE_ETH_…`, `RTE_MBUF_F_…`) are used.
const OLDEST: &str = "21.11";

/// The libraries that the shim and the bindings call. Drivers are plug-ins, which EAL loads itself.
const LIBRARIES: [&str; 5] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring"];
/// As [`LIBRARIES`], where this DPDK has it: 24.03 took logging out of rte_eal.
const LATER: [&str; 1] = ["rte_log"];

/// Everything that the crate makes visible; types that these mention come along.
const FUNCTIONS: &str = "shim_.*|rte_eal_cleanup|rte_strerror\
    |rte_eth_(dev_(info_get|configure|start|stop|close|get_mtu|get_port_by_name|get_name_by_port\
    |adjust_nb_rx_tx_desc|rss_reta_update|socket_id)\
    |(rx|tx)_queue_setup|promiscuous_enable|macaddr_get|stats_get|find_next_owned_by)\
    |rte_pktmbuf_pool_create|rte_mempool_free\
    |rte_thread_(register|unregister)|rte_mbuf_dyn(field|flag)_lookup|rte_version";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=c/shim.c");
    println!("cargo:rerun-if-changed=c/shim.h");
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    pkg_config(&[&format!("--atleast-version={OLDEST}")]);
    let flags = pkg_config(&["--cflags"]);

    // The headers ask for the instruction set that DPDK was built for; of the shim's own files only these two.
    let mut shim = cc::Build::new();
    shim.file("c/shim.c").std("gnu11").warnings(true).flag("-Wno-unused-parameter").pic(true);
    shim.flag("-fvisibility=hidden");
    for flag in &flags {
        match flag.strip_prefix("-I") {
            // System headers: their warnings are not ours.
            Some(dir) => shim.flag("-isystem").flag(dir),
            None => shim.flag(flag),
        };
    }
    shim.compile("mos_dpdk_shim");

    for flag in pkg_config(&["--libs"]) {
        if let Some(dir) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={dir}");
        }
        if let Some(library) = flag.strip_prefix("-l").filter(|name| LATER.contains(name)) {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }

    let bindings = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(&flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type("shim_.*")
        .allowlist_var("SHIM_.*")
        // Only ever behind a pointer.
        .opaque_type("rte_mbuf|rte_mempool|rte_mempool_cache|rte_device|rte_eth_switch_info")
        .blocklist_type("rte_mbuf__.*|rte_mbuf_sched|rte_mempool_.*list.*")
        .derive_default(true)
        .derive_debug(false)
        .layout_tests(true)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate()
        .unwrap_or_else(|e| panic!("bindings to libdpdk: {e}"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by Cargo")).join("bindings.rs");
    bindings.write_to_file(out).expect("OUT_DIR can be written");
}

/// The words that pkg-config answers.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let answer = Command::new(&program)
        .args(arguments)
        .arg("libdpdk")
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", program.to_string_lossy()));
    if !answer.status.success() {
        panic!(
            "libdpdk {OLDEST} or later not found (Debian: libdpdk-dev); build without the feature `dpdk`, or install it: {}",
            String::from_utf8_lossy(&answer.stderr)
        );
    }
    String::from_utf8_lossy(&answer.stdout).split_whitespace().map(str::to_owned).collect()
}

//! One interface, several cores: the kernel deals the frames out by a program that computes the map of D21, so that a frame is
//! copied once, to the core that wants it. What it deals wrongly, the cores hand over.

use crate::wire::ethernet;
use crate::wire::ipv4;
use crate::wire::rss::Rss;
use std::io;
use std::os::fd::RawFd;

/// `if_packet.h`.
const PACKET_FANOUT: i32 = 18;
const PACKET_FANOUT_DATA: i32 = 22;
const PACKET_FANOUT_CBPF: u32 = 6;
const PACKET_FANOUT_FLAG_UNIQUEID: u32 = 0x2000;
const PACKET_FANOUT_FLAG_IGNORE_OUTGOING: u32 = 0x4000;
/// `filter.h`: what the kernel knows of a packet besides its bytes.
const SKF_AD_PROTOCOL: u32 = -0x1000i32 as u32;

type Insn = libc::sock_filter;

// Classes, sizes, modes and operations of classic BPF.
const LD_H_ABS: u16 = 0x28;
const LD_B_ABS: u16 = 0x30;
const LD_W_ABS: u16 = 0x20;
const LD_H_IND: u16 = 0x48;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const LDX_MSH: u16 = 0xb1;
const ST: u16 = 0x02;
const XOR_X: u16 = 0xac;
const AND_K: u16 = 0x54;
const RSH_K: u16 = 0x74;
const MUL_K: u16 = 0x24;
const MOD_K: u16 = 0x94;
const XOR_K: u16 = 0xa4;
const JEQ_K: u16 = 0x15;
const JSET_K: u16 = 0x45;
const JA: u16 = 0x05;
const RET_A: u16 = 0x16;
const RET_K: u16 = 0x06;

const fn insn(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

/// The program: from a packet, its IP header first, to a core's number below `cores`.
///
/// The hash is linear: each bit of the folded tuple contributes a constant, whatever the others are. So the program adds up
/// (XOR) what `rss` says of single bits.
fn program(rss: Rss, cores: u32) -> Vec<Insn> {
    const WORDS: u32 = 0;
    const SUM: u32 = 1;
    let index = |word: u16| rss.queue_of_hash(rss.hash(0, 0, word.to_be(), 0), 1 << 30);
    let base = index(0);
    let mut p = vec![
        // Not IPv4: the first core.
        insn(LD_H_ABS, SKF_AD_PROTOCOL),
        jump(JEQ_K, ethernet::TYPE_IPV4.into(), 1, 0),
        insn(RET_K, 0),
        insn(LD_B_ABS, 0),
        insn(AND_K, 0xf0),
        jump(JEQ_K, 0x40, 1, 0),
        insn(RET_K, 0),
        // Both addresses, folded to 16 bits.
        insn(LD_W_ABS, ipv4::OFF_SRC as u32),
        insn(ST, WORDS),
        insn(LD_W_ABS, ipv4::OFF_SRC as u32 + 4),
        insn(LDX_MEM, WORDS),
        insn(XOR_X, 0),
        insn(ST, WORDS),
        insn(LDX_MEM, WORDS),
        insn(RSH_K, 16),
        insn(XOR_X, 0),
        insn(AND_K, 0xffff),
        insn(ST, WORDS),
        // TCP that is no fragment: the ports, too.
        insn(LD_B_ABS, ipv4::OFF_PROTO as u32),
        jump(JEQ_K, ipv4::PROTO_TCP.into(), 1, 0),
        insn(JA, 11),
        insn(LD_H_ABS, ipv4::OFF_FRAG as u32),
        jump(JSET_K, ipv4::FRAG_MASK.into(), 9, 0),
        insn(LDX_MSH, 0),
        insn(LD_H_IND, 0),
        insn(ST, SUM),
        insn(LD_H_IND, 2),
        insn(LDX_MEM, SUM),
        insn(XOR_X, 0),
        insn(LDX_MEM, WORDS),
        insn(XOR_X, 0),
        insn(ST, WORDS),
        // The sum begins at what no bit gives.
        insn(LD_MEM, WORDS),
        insn(AND_K, 0),
        insn(XOR_K, base),
        insn(ST, SUM),
    ];
    for bit in 0..16 {
        p.extend([
            insn(LD_MEM, WORDS),
            insn(RSH_K, bit),
            insn(AND_K, 1),
            insn(MUL_K, index(1 << bit) ^ base),
            insn(LDX_MEM, SUM),
            insn(XOR_X, 0),
            insn(ST, SUM),
        ]);
    }
    p.extend([insn(LD_MEM, SUM), insn(MOD_K, cores), insn(RET_A, 0)]);
    p
}

fn set<T>(fd: RawFd, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads a `T`, which lives through the call.
    let done = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the packet sockets a group: the `n`-th gets what `rss` gives to core `n` of `cores` (modulo the number of sockets).
pub fn join(sockets: &[RawFd], rss: Rss, cores: u32) -> io::Result<()> {
    let Some((&first, others)) = sockets.split_first() else { return Ok(()) };
    // A group has this flag of its own. An old kernel lacks it; libpcap leaves out what is outgoing there.
    let mut mode = PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    if set(first, PACKET_FANOUT, &((mode | PACKET_FANOUT_FLAG_UNIQUEID) << 16)).is_err() {
        mode = PACKET_FANOUT_CBPF;
        set(first, PACKET_FANOUT, &((mode | PACKET_FANOUT_FLAG_UNIQUEID) << 16))?;
    }
    let (mut group, mut len) = (0u32, size_of::<u32>() as u32);
    // SAFETY: room for an int.
    let got = unsafe {
        libc::getsockopt(first, libc::SOL_PACKET, PACKET_FANOUT, (&raw mut group).cast(), &raw mut len)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut code = program(rss, cores);
    set(first, PACKET_FANOUT_DATA, &libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() })?;
    for &socket in others {
        set(socket, PACKET_FANOUT, &((group & 0xffff) | mode << 16))?;
    }
    Ok(())
}

/// Frames that leave by the interface do not come back as received. (An old kernel cannot; libpcap leaves them out one by one.)
pub fn ignore_outgoing(socket: RawFd) {
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    let _ = set(socket, PACKET_IGNORE_OUTGOING, &1i32);
}

/// Packets are stamped when they arrive, once for all who listen, not when they are copied to each.
pub fn stamp_at_arrival(socket: RawFd) {
    let yes = 1i32;
    // SAFETY: an int. Without it, stamps are a little later.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const yes).cast(),
            size_of::<i32>() as u32,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rss::RssForm;
    use proptest::prelude::*;

    /// Runs a program as the kernel would: on the packet from the IP header on, and its EtherType.
    fn run(program: &[Insn], ethertype: u16, p: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut m, mut pc) = (0u32, 0u32, [0u32; 16], 0usize);
        loop {
            let i = program[pc];
            pc += 1;
            let half = |at: u32| {
                let at = at as usize;
                Some(u32::from(u16::from_be_bytes([*p.get(at)?, *p.get(at + 1)?])))
            };
            match i.code {
                LD_H_ABS if i.k == SKF_AD_PROTOCOL => a = u32::from(ethertype),
                LD_H_ABS => a = half(i.k)?,
                LD_B_ABS => a = u32::from(*p.get(i.k as usize)?),
                LD_W_ABS => a = half(i.k)? << 16 | half(i.k + 2)?,
                LD_H_IND => a = half(x + i.k)?,
                LD_MEM => a = m[i.k as usize],
                LDX_MEM => x = m[i.k as usize],
                LDX_MSH => x = u32::from(p.get(i.k as usize)? & 0xf) * 4,
                ST => m[i.k as usize] = a,
                XOR_X => a ^= x,
                XOR_K => a ^= i.k,
                AND_K => a &= i.k,
                RSH_K => a >>= i.k,
                MUL_K => a = a.wrapping_mul(i.k),
                MOD_K => a %= i.k,
                JA => pc += i.k as usize,
                JEQ_K => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
                JSET_K => pc += usize::from(if a & i.k != 0 { i.jt } else { i.jf }),
                RET_A => return Some(a),
                RET_K => return Some(i.k),
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    fn packet(s: u32, d: u32, sp: u16, dp: u16, proto: u8, frag: u16, options: usize) -> Vec<u8> {
        let mut p = vec![0; 20 + options * 4 + 20];
        p[0] = 0x45 + options as u8;
        p[6..8].copy_from_slice(&frag.to_be_bytes());
        p[9] = proto;
        p[12..16].copy_from_slice(&s.to_ne_bytes());
        p[16..20].copy_from_slice(&d.to_ne_bytes());
        let l4 = 20 + options * 4;
        p[l4..l4 + 2].copy_from_slice(&sp.to_ne_bytes());
        p[l4 + 2..l4 + 4].copy_from_slice(&dp.to_ne_bytes());
        p
    }

    proptest! {
        #[test]
        fn the_kernel_computes_the_same_map(
            s in any::<u32>(), d in any::<u32>(), sp in any::<u16>(), dp in any::<u16>(),
            cores in 1u32..17, options in 0usize..11,
        ) {
            for form in [RssForm::Wide, RssForm::Narrow, RssForm::Fair] {
                let rss = Rss::new(form);
                let code = program(rss, cores);
                let tcp = packet(s, d, sp, dp, 6, 0x4000, options);
                prop_assert_eq!(run(&code, 0x0800, &tcp), Some(rss.queue(s, d, sp, dp, cores)));
                let back = packet(d, s, dp, sp, 6, 0, options);
                prop_assert_eq!(run(&code, 0x0800, &back), Some(rss.queue(s, d, sp, dp, cores)));
                for other in [packet(s, d, sp, dp, 17, 0, options), packet(s, d, sp, dp, 6, 0x2000, options),
                    packet(s, d, sp, dp, 6, 100, options)] {
                    prop_assert_eq!(run(&code, 0x0800, &other), Some(rss.queue(s, d, 0, 0, cores)));
                }
                prop_assert_eq!(run(&code, 0x86dd, &tcp), Some(0));
            }
        }
    }
}

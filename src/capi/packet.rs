//! The packet in process (monitor.md §1.7, §7.1–7.3).

use super::abi::*;
use super::{ACCESS, cpu_of, entry, id_of};
use crate::monitor::Errno;
use crate::monitor::inject::Send;
use crate::monitor::options::Named;
use crate::monitor::packet::{Area, Edit};
use crate::runtime::enter;
use std::ffi::c_int;

entry! {
    /// Copies the packet in process. EACCES (context; no packet), EPERM, EBADF, EINVAL (`p` NULL).
    fn mtcp_getlastpkt(mctx: Mctx, sock: c_int, _side: c_int, p: *mut PktInfo) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            if c.monitor.flow_id(t, id).is_none() && c.monitor.named(t, id) == Named::Unused {
                return Err(Errno(libc::EBADF));
            }
            let st = c.monitor.state(t);
            let info = st.copy_packet()?;
            if p.is_null() {
                return Err(Errno(libc::EINVAL));
            }
            let frame = st.copy.as_mut_ptr();
            // SAFETY: not NULL, so a whole struct by the caller's promise.
            let out = unsafe { &mut *p };
            out.cur_ts = info.cur_ts;
            out.in_ifidx = info.in_ifidx as i8;
            out.eth_len = info.eth_len;
            out.ip_len = info.ip_len;
            out.offset = info.offset;
            out.payloadlen = info.payload_len;
            out.seq = info.seq;
            out.ack_seq = info.ack;
            out.window = info.window;
            // Offsets lie inside the copy: it is at least as long as the parsed frame.
            out.ethh = frame;
            out.iph = frame.wrapping_add(info.l3 as usize);
            out.tcph = std::ptr::null_mut();
            if let Some(l4) = info.l4 {
                out.tcph = frame.wrapping_add(l4 as usize);
                out.payload = frame.wrapping_add(info.payload as usize);
            }
            Ok(0)
        })
    }
}

entry! {
    /// Edits or drops the packet in process (monitor.md §7.2, D9). EACCES, EPERM, ENODATA, EINVAL, EAGAIN.
    fn mtcp_setlastpkt(mctx: Mctx, _sock: c_int, _side: c_int, offset: libc::off_t, data: *mut u8, datalen: u16, option: c_int) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| {
            if !c.monitor.state(t).cur.active {
                return Err(Errno(libc::ENODATA));
            }
            let offset = usize::try_from(offset).map_err(|_| Errno(libc::EINVAL))?;
            let action = option & (MOS_DROP | MOS_OVERWRITE | MOS_CHOMP | MOS_INSERT);
            if action.count_ones() != 1 {
                return Err(Errno(libc::EAGAIN));
            }
            if action == MOS_DROP {
                return c.monitor.drop_packet(t).map(|()| 0);
            }
            let area = match option {
                o if o & MOS_ETH_HDR != 0 => Area::Ethernet,
                o if o & MOS_IP_HDR != 0 => Area::Ip,
                o if o & MOS_TCP_HDR != 0 => Area::Tcp,
                o if o & MOS_TCP_PAYLOAD != 0 => Area::Payload,
                _ => return Err(Errno(libc::EINVAL)),
            };
            let len = datalen as usize;
            let mut copy = Vec::new();
            if action != MOS_CHOMP && len > 0 {
                if data.is_null() {
                    return Err(Errno(libc::EINVAL));
                }
                // A copy: the bytes may lie in what mtcp_getlastpkt handed out.
                copy.try_reserve_exact(len).map_err(|_| Errno(libc::ENOMEM))?;
                // SAFETY: not NULL, so valid for `len` bytes by the caller's promise.
                copy.extend_from_slice(unsafe { std::slice::from_raw_parts(data, len) });
            }
            let edit = match action {
                MOS_OVERWRITE => Edit::Overwrite(&copy),
                MOS_CHOMP => Edit::Chomp(len),
                _ => Edit::Insert(&copy),
            };
            let (ip, tcp) = (option & MOS_UPDATE_IP_CHKSUM != 0, option & MOS_UPDATE_TCP_CHKSUM != 0);
            c.monitor.edit_packet(t, area, offset, edit, ip, tcp).map(|()| 0)
        })
    }
}

entry! {
    /// Drops the packet in process. EACCES, EPERM, ENODATA.
    fn mtcp_cb_dropcurpkt(mctx: Mctx) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        enter::on_core(cpu, ACCESS, |c, t| c.monitor.drop_packet(t).map(|()| 0))
    }
}

entry! {
    /// Sends a packet of one's own by the flow's output (D9). EACCES, EPERM, EBADF, ENODATA. 0 also when it is too long or
    /// there is no way out.
    fn mtcp_sendpkt(mctx: Mctx, sock: c_int, pkt: *const PktInfo) -> c_int, fails -1; {
        // SAFETY: the caller's promise.
        let cpu = unsafe { cpu_of(mctx) }?;
        if pkt.is_null() {
            return Err(Errno(libc::EACCES));
        }
        enter::on_core(cpu, ACCESS, |c, t| {
            let id = id_of(sock, c.monitor.settings.max_ids)?;
            // SAFETY: not NULL, so a whole struct by the caller's promise.
            let p = unsafe { &*pkt };
            if p.iph.is_null() || p.tcph.is_null() {
                return Err(Errno(libc::ENODATA));
            }
            // SAFETY: not NULL, so whole headers by the caller's promise (20 bytes each, 12 of the Ethernet header), and
            // `payloadlen` bytes of payload.
            let (ip, tcp, macs, payload) = unsafe {
                let payload: &[u8] = if p.payload.is_null() || p.payloadlen == 0 {
                    &[]
                } else {
                    std::slice::from_raw_parts(p.payload, p.payloadlen as usize)
                };
                let macs = (!p.ethh.is_null()).then(|| p.ethh.cast::<[u8; 12]>().read_unaligned());
                (p.iph.cast::<[u8; 20]>().read_unaligned(), p.tcph.cast::<[u8; 20]>().read_unaligned(), macs, payload)
            };
            let send = Send { ip, tcp, macs, seq: p.seq, ack: p.ack_seq, window: p.window, payload };
            match c.monitor.send_packet(t, id, &send) {
                // 0 all the same, as ever (K10): nothing is sent, and it is counted.
                Err(Errno(libc::ENETUNREACH | libc::EMSGSIZE)) => {
                    c.monitor.state(t).stats.sent_lost += 1;
                    Ok(0)
                }
                sent => sent.map(|()| 0),
            }
        })
    }
}
